"""First-party plugin: Pod Security Standards, rules for images, and Secrets that were sealed to this node.

``admission`` judges pods: ``podsecurity`` has the standards, ``imagepolicy`` the rules for images. ``unseal``
opens Secrets. Starts nothing, keeps nothing. May import ``edgeagent.api`` and ``edgeagent.wire``, never the
agent.
"""
