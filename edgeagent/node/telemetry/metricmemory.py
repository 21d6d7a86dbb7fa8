"""MetricMemory: the gatherings of this run of the agent that have not arrived everywhere, as numbers."""

import logging
from array import array
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from edgeagent.api.metrics import STALE, FamilyHead, MetricFamily, SampleBatch, Series
from edgeagent.wire.metricblock import MAX_LABELS, MetricBlock, Moment

log = logging.getLogger(__name__)

MAX_SERIES = 20_000
"""What one gathering may have; the rest of it is left out, and counted."""
MAX_BLOCK_GATHERINGS = 256

Key = tuple[str, str, list[tuple[str, str]]]
"""Name of the family, suffix, labels in order."""


class _Column(msgspec.Struct):
    time: int
    ids: "array[int]" = msgspec.field(default_factory=lambda: array("I"))
    values: "array[float]" = msgspec.field(default_factory=lambda: array("d"))


class MetricMemory:
    """Holds each series' labels once. ``first`` and ``next`` are the oldest sequence held and the coming one.

    ``left_out`` counts samples that were not taken, by the reason.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.first = 0
        self.samples = 0
        self.left_out: Counter[str] = Counter()
        self._columns: deque[_Column] = deque()
        self._ids: dict[bytes, int] = {}
        self._families: dict[str, FamilyHead] = {}
        self._last: frozenset[int] = frozenset()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Key)

    @property
    def next(self) -> int:
        """The sequence of the next gathering."""
        return self.first + len(self._columns)

    def add(self, time: int, families: Iterable[MetricFamily]) -> None:
        """A gathering, ``time`` in milliseconds. A series that was in the last one and is not here ended."""
        column = _Column(time)
        seen: set[int] = set()
        for family in families:
            head = self._families.setdefault(family.name, FamilyHead(family.name, family.type, family.help))
            for sample in family.samples:
                number = self._number(head.name, sample.suffix, sample.labels, seen)
                if number is not None:
                    seen.add(number)
                    column.ids.append(number)
                    column.values.append(sample.value)
        for ended in self._last - seen:
            column.ids.append(ended)
            column.values.append(STALE)
        self._last = frozenset(seen)
        self._columns.append(column)
        self.samples += len(column.ids)

    def _number(self, name: str, suffix: str, labels: dict[str, str], seen: set[int]) -> int | None:
        if len(seen) >= MAX_SERIES:
            self._leave_out("TooManySeries")
            return None
        if len(labels) > MAX_LABELS:
            self._leave_out("TooManyLabels")
            return None
        try:
            key = self._encoder.encode((name, suffix, sorted(labels.items())))
        except (UnicodeEncodeError, TypeError):
            self._leave_out("Invalid")
            return None
        number = self._ids.setdefault(key, len(self._ids))
        if number in seen:
            self._leave_out("Repeated")
            return None
        return number

    def _leave_out(self, reason: str) -> None:
        if not self.left_out[reason]:
            log.warning("some metrics are not sent on (%s), counted from now on", reason)
        self.left_out[reason] += 1

    def time_of(self, sequence: int) -> float:
        """When the gathering was, in seconds since the epoch. It must be held."""
        return self._columns[sequence - self.first].time / 1000

    def block(self, sequence: int) -> MetricBlock | None:
        """The gatherings from ``sequence`` on, as far as their times rise; None where there is none."""
        start = max(sequence, self.first) - self.first
        columns: list[_Column] = []
        for column in list(self._columns)[start : start + MAX_BLOCK_GATHERINGS]:
            if columns and column.time <= columns[-1].time:
                break  # the clock was put back: what follows is for a block of its own
            columns.append(column)
        if not columns:
            return None
        first = self.first + start
        return MetricBlock(
            stream=self.stream,
            first=first,
            count=len(columns),
            moments=[Moment(first + place, column.time) for place, column in enumerate(columns)],
            batch=self._batch(columns),
        )

    def _batch(self, columns: list[_Column]) -> SampleBatch:
        found: dict[int, tuple[list[int], list[float]]] = {}
        for column in columns:
            for number, value in zip(column.ids, column.values, strict=True):
                times, values = found.setdefault(number, ([], []))
                times.append(column.time)
                values.append(value)
        places: dict[str, int] = {}
        series = []
        for key, number in self._ids.items():
            if number in found:
                name, suffix, labels = self._decoder.decode(key)
                family = places.setdefault(name, len(places))
                series.append(Series(family, dict(labels), *found[number], suffix))
        return SampleBatch(families=[self._families[name] for name in places], series=series)

    def forget(self, before: int) -> None:
        """Gatherings before the sequence ``before`` are needed no more."""
        while self._columns and self.first < before:
            self.samples -= len(self._columns.popleft().ids)
            self.first += 1
        if not self._columns:
            self._forget_series()

    def _forget_series(self) -> None:
        """Only those of the last gathering are needed: to see which of them end."""
        kept = [(key, number) for key, number in self._ids.items() if number in self._last]
        self._ids = {key: place for place, (key, _) in enumerate(kept)}
        self._last = frozenset(self._ids.values())
        names = {self._decoder.decode(key)[0] for key, _ in kept}
        self._families = {name: head for name, head in self._families.items() if name in names}


def samples_in(block: MetricBlock) -> int:
    """How many values, staleness markers included, the block has."""
    return sum(len(one.times) for one in block.batch.series)
