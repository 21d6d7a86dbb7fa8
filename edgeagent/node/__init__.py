"""Floor 2: the agent. Composition root, plugin host, store, sync, pod lifecycle, local API.

Runs on one asyncio loop thread that owns all state. May not import the hub (``cluster``), the command
line (``cli``) or any plugin by name.
"""
