"""UplinkFigures: what an uplink counts, as others may see it without importing what it needs."""

from collections.abc import Mapping
from typing import Protocol

from edgeagent.wire.traffic import Traffic


class UplinkFigures(Protocol):
    """The counts of one uplink, since the agent began."""

    @property
    def connected(self) -> bool:
        """Whether a broker has accepted the session."""

    @property
    def connections(self) -> int:
        """How often one has."""

    @property
    def traffic(self) -> Traffic:
        """What went over the wire."""

    @property
    def newest_generation(self) -> int:
        """The highest generation of an index that was signed; 0 before the first."""

    @property
    def sync_lag(self) -> float:
        """For how many seconds an index waits to be in force."""

    @property
    def sync_failures(self) -> Mapping[str, int]:
        """How often an index could not be put in force, by the reason."""
