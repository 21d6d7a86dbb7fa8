"""Service: something a plugin keeps running for as long as the agent runs."""

from typing import Protocol


class Service(Protocol):
    """Started once the plugin is loaded, stopped in reverse order; restarted with back-off if it fails."""

    def start(self) -> None:
        """Begin, and return; a thread or process of its own does the work."""

    def stop(self) -> None:
        """End, and return once ended. Also called after a failed ``start``."""
