"""The names of the three levels; by itself, for the agent imports it with the plugin's settings."""

from collections.abc import Sequence
from typing import Literal, get_args

Level = Literal["privileged", "baseline", "restricted"]
LEVELS: Sequence[Level] = get_args(Level)
"""From the one that forbids nothing to the strictest."""
