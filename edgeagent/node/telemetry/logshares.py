"""LogShares: whose lines wait with everybody's, and whose apart, where a sink does not keep up.

While sinks keep up, all lines are in one class of the spool, in the order in which they were read. A
container of which much waits there is *loud*: what it writes from then on goes to a class beside it, until
that is empty. Sinks take turns between the two, and where the budget is used up the class that holds most
gives way. So the lines of a container that writes little wait behind little, and do not go for another's.
"""

import zlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent.node.store.spool import Part, Spool
from edgeagent.node.telemetry.logchunks import pack

GROUP = "logs"
SHARED = GROUP
"""The class of all whose lines are on their way soon enough."""
APART = tuple(f"{GROUP}/{number:02x}" for number in range(32))
"""Classes of loud containers. Two that share one share its turn."""
LOUD_BYTES = 256 * 1024
"""A container of which more text than this waits in ``SHARED`` is loud."""
CLASSES = (SHARED, *APART)
_RECORD_BYTES = 64
_STEP_BYTES = 64 * 1024
"""What waits is remembered in steps of so much, for a quiet node may wait for a day."""


def stream_of(stream: str, name: str) -> str:
    """Each class has its own numbers, so that each has a stream of its own."""
    return stream + name.removeprefix(GROUP).removeprefix("/")


@dataclass(slots=True)
class _Step:
    """Bytes of text by container, in ``SHARED`` before the number ``end``."""

    end: int = 0
    sizes: Counter[str] = field(default_factory=Counter)


class LogShares:
    """Keeps batches in the spool. For the spool's thread, and one call at a time."""

    def __init__(self) -> None:
        self._loud: dict[str, str] = {}
        self._left: set[str] | None = None
        self._waiting: deque[_Step] = deque()
        self._bytes: Counter[str] = Counter()

    def keep(
        self, spool: Spool, batch: LogBatch, made: float, *, source: str, positions: Mapping[str, str]
    ) -> None:
        """Put the batch and how far ``source`` has come on disk. TemporaryError where nothing was kept."""
        self._settle(spool)
        keys = [_key(origin) for origin in batch.origins]
        classes = [self._class_of(key) for key in keys]
        divided: dict[str, list[LogRecord]] = {}
        for record in batch.records:
            divided.setdefault(classes[record.origin], []).append(record)
        parts = [
            Part(name, pack(LogBatch(origins=batch.origins, records=records)), len(records))
            for name, records in sorted(divided.items())
        ]
        spool.append_all(parts, made, group=GROUP, source=source, positions=positions)
        self._note(spool, divided.get(SHARED, ()), keys)

    def _settle(self, spool: Spool) -> None:
        """What has been delivered, or dropped, waits no more."""
        if self._left is None:  # what an earlier run of the program put apart stays in order too
            self._left = {name for name in APART if spool.usage(name).chunks}
        self._left = {name for name in self._left if spool.usage(name).chunks}
        self._loud = {key: name for key, name in self._loud.items() if spool.usage(name).chunks}
        oldest = spool.next(SHARED) - spool.usage(SHARED).items
        while self._waiting and self._waiting[0].end <= oldest:
            self._bytes.subtract(self._waiting.popleft().sizes)
        self._bytes = +self._bytes

    def _class_of(self, key: str) -> str:
        if key in self._loud:
            return self._loud[key]
        apart = APART[zlib.crc32(key.encode()) % len(APART)]
        if self._bytes[key] > LOUD_BYTES or (self._left is not None and apart in self._left):
            self._loud[key] = apart
            return apart
        return SHARED

    def _note(self, spool: Spool, shared: Sequence[LogRecord], keys: Sequence[str]) -> None:
        if not shared:
            return
        sizes: Counter[str] = Counter()
        for record in shared:
            sizes[keys[record.origin]] += len(record.body) + len(record.fields) + _RECORD_BYTES
        if not self._waiting or self._waiting[-1].sizes.total() >= _STEP_BYTES:
            self._waiting.append(_Step())
        self._waiting[-1].end = spool.next(SHARED)
        self._waiting[-1].sizes.update(sizes)
        self._bytes.update(sizes)


def _key(origin: LogOrigin) -> str:
    return origin.container_id or origin.unit or f"{origin.namespace}/{origin.pod}/{origin.container}"
