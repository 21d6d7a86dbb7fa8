"""First-party plugin: opens Secrets that were sealed to this node.

Holds no policy of its own yet and starts nothing. May import ``edgeagent.api`` and ``edgeagent.wire``,
never the agent.
"""
