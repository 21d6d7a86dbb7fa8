"""The source: all containers' logs and the journal, read by one thread."""

from edgeagent.api.logs import LogChunk, LogTarget
from edgeagent_logs.config import LogsConfig


class NodeLogs:
    """``edgeagent.api.logs.LogSource``."""

    def __init__(self, config: LogsConfig) -> None:
        self._config = config

    def resume(self, positions: dict[str, str]) -> None:
        """Go on from these."""
        raise NotImplementedError

    def reconcile(self, targets: list[LogTarget]) -> None:
        """The containers to follow."""
        raise NotImplementedError

    def read(self, wait_seconds: float) -> LogChunk:
        """What there is."""
        raise NotImplementedError
