"""edgeagent: a node agent for constrained hardware.

This package holds the version and its date and nothing else: importing it must cost nothing.
"""

__version__ = "0.1.0"
__released__ = "2026-01-01T00:00:00Z"
"""No clock that says an earlier time than this is right."""
