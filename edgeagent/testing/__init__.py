"""The kit for plugin authors: a harness that loads a plugin as the agent does, and fakes for faults.

The agent itself never imports it.
"""
