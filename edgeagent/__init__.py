"""edgeagent: a node agent for constrained hardware.

This package holds the version and nothing else: importing it must cost nothing.
"""

__version__ = "0.1.0"
