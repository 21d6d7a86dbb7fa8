"""LogSource and LogSinks: where log lines come from, and where they go. The core keeps them in between.

A source reads in the plugin's lane and says how far it came; the core puts the chunk and the positions on
disk in one transaction, so that a crash at any moment loses no line and keeps none twice. Each sink is fed
from the disk at its own pace.
"""

from typing import Literal, Protocol

import msgspec

from edgeagent.api.delivery import Delivery

Severity = Literal["", "trace", "debug", "info", "warn", "error", "fatal"]
"""Empty where nothing says it."""


class LogOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Whose lines: a container's, or a systemd unit's (``unit``, all else empty)."""

    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    container_id: str = ""
    image: str = ""
    labels: dict[str, str] = {}
    unit: str = ""


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """One line, or several that belong together (a stack trace).

    ``time`` is in nanoseconds since the epoch, ``origin`` a place in the batch's ``origins``, ``stream`` is
    ``stdout``, ``stderr`` or ``journal``. ``body`` has no line end and is valid UTF-8: what was not is shown
    as U+FFFD. ``fields``, where it is not empty, is a JSON object as text: what the line said.
    """

    time: int
    origin: int
    stream: str
    body: str
    severity: Severity = ""
    fields: bytes = b""


class LogBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Records in the order in which they were read, and whose they are."""

    origins: list[LogOrigin] = []
    records: list[LogRecord] = []


class LogTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A container whose log is to be followed: ``path`` is the file, rotated ones are ``<path>.1`` and so on.

    The format is CRI's: ``<RFC 3339 time> <stdout|stderr> <P|F> <text>``, where P is a part of a line.
    ``annotations`` are the pod's, by which a plugin may let it choose.
    """

    origin: LogOrigin
    path: str
    annotations: dict[str, str] = {}


class LogChunk(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, and how far: by the source's own keys, empty for a key that is to be forgotten.

    ``dropped`` counts lines that rules or the rate limit left out since the last chunk, by the reason.
    """

    batch: LogBatch = LogBatch()
    positions: dict[str, str] = {}
    dropped: dict[str, int] = {}


class LogSource(Protocol):
    """Follows logs. Its methods run in the plugin's lane, which needs two workers: ``read`` blocks."""

    def resume(self, positions: dict[str, str]) -> None:
        """Called once before all else, and again after a chunk could not be kept: go on from these."""

    def reconcile(self, targets: list[LogTarget]) -> None:
        """The containers to follow from now on. One that is left out is read to its end and forgotten."""

    def read(self, wait_seconds: float) -> LogChunk:
        """What there is, at most some hundred kilobytes; an empty chunk after ``wait_seconds`` without any.

        Being called says that the chunk before is kept, with its positions.
        """


class LogSinks(Protocol):
    """The places to which a plugin ships logs; each has a name, and gets every record at its own pace."""

    def names(self) -> list[str]:
        """The configured sinks. A name stands for the same place for ever: what it has got is kept by it."""

    def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """Send a batch; raises TemporaryError or PermanentError as ``Delivery`` says.

        ``<stream>-<first + place in the batch>`` is a record's id, the same whenever it is sent again.
        """
