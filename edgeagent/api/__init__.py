"""Floor 0: what plugins are written against.

Hook specifications, the protocols a plugin answers with, Kubernetes objects as frozen structs,
errors, clock and context. Imports nothing else of edgeagent, no third-party library save pluggy
(the hook markers) and msgspec (the structs), and does no input or output, save for ``inotify``.
"""
