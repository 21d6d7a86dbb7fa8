"""``edgeagent``'s commands, one module each: its part of the command line, and what it does.

A command's module imports nothing but the standard library before it is called, so that help and usage errors
come at once, and may not import another command's. What they share with ``edgectl`` is in ``edgeagent.cli``.
"""
