"""Which samples of a refused request are to blame, by asking again with less.

Prometheus takes nothing of a request in which one sample is too old, or was there before, and does not say
which. What it can take is to arrive all the same, and in order: so the older half is asked for first.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from edgeagent.wire.remotewrite import TimeSeries

MAX_REQUEST_SAMPLES = 5_000
_GROUPS = 8


class Part(msgspec.Struct, frozen=True):
    """Some samples of what is to be sent: series, with their places in it."""

    places: Sequence[int]
    series: Sequence[TimeSeries]

    def take(self, start: int, end: int) -> "Part":
        """The series from ``start`` up to ``end``."""
        return Part(self.places[start:end], self.series[start:end])

    def times(self) -> list[int]:
        """All moments that are in it, in order."""
        return sorted({time for one in self.series for time in one.times})

    def between(self, start: int, end: int, but: set[int]) -> "Part":
        """What is from time ``start`` on and before ``end``, without the series at the places ``but``."""
        places, series = [], []
        for place, one in zip(self.places, self.series, strict=True):
            inside = [n for n, time in enumerate(one.times) if start <= time < end]
            if inside and place not in but:
                kept = slice(inside[0], inside[-1] + 1)
                places.append(place)
                series.append(TimeSeries(one.labels, one.times[kept], one.values[kept]))
        return Part(places, series)


def in_requests(series: Sequence[TimeSeries]) -> list[Part]:
    """Pieces that are not larger than receivers like them, each with whole series."""
    whole = Part(range(len(series)), series)
    pieces: list[Part] = []
    start = samples = 0
    for place, one in enumerate(series):
        if samples and samples + len(one.times) > MAX_REQUEST_SAMPLES:
            pieces.append(whole.take(start, place))
            start, samples = place, 0
        samples += len(one.times)
    return [*pieces, whole.take(start, len(series))] if samples else pieces


class Sorting:
    """``ask`` sends series, and answers why they are refused, empty where they are taken.

    ``budget`` is how many requests may be refused, and ``in_time`` says whether there is time for one more:
    what is left then counts as refused. ``rejected`` has the places of series of which something was refused,
    and why; ``taken``: whether anything was not.
    """

    def __init__(
        self, ask: Callable[[Sequence[TimeSeries]], str], *, budget: int, in_time: Callable[[], bool]
    ) -> None:
        self._ask = ask
        self._in_time = in_time
        self._left = budget
        self._reason = ""
        self._all_bad = False
        self.taken = False
        self.rejected: dict[int, str] = {}

    def send(self, part: Part) -> None:
        """Have all of it taken that can be."""
        if not self._asked_and_refused(part):
            return
        suspects: dict[int, int] = {}
        self._sort_out(part, suspects)
        # What came later of series that were found to be refused alone has had no chance yet.
        later = [part.between(since + 1, part.times()[-1] + 1, set(part.places) - {place})
                 for place, since in suspects.items()]  # fmt: skip
        rest = Part(
            [place for one in later for place in one.places],
            [series for one in later for series in one.series],
        )
        if rest.places and self._refused(rest):
            self._reject(rest)

    def _refused(self, part: Part) -> bool:
        return self._left <= 0 or not self._in_time() or self._asked_and_refused(part)

    def _asked_and_refused(self, part: Part) -> bool:
        reason = self._ask(part.series)
        self._reason = reason or self._reason
        self._left -= bool(reason)
        self.taken = self.taken or not reason
        return bool(reason)

    def _reject(self, part: Part) -> None:
        for place in part.places:
            self.rejected.setdefault(place, self._reason)

    def _sort_out(self, part: Part, suspects: dict[int, int]) -> None:
        """``part`` was refused. ``suspects``: series refused alone, and the time of the sample."""
        times = part.times()
        if len(times) == 1:
            self._one_moment(part, times[0], suspects)
            return
        middle = times[len(times) // 2]
        for start, end in ((times[0], middle), (middle, times[-1] + 1)):
            half = part.between(start, end, set(suspects))
            if half.places:
                if self._refused(half):
                    self._sort_out(half, suspects)
                else:
                    self._all_bad = False

    def _one_moment(self, part: Part, time: int, suspects: dict[int, int]) -> None:
        bad = part if self._all_bad or self._left <= 0 or not self._in_time() else self._bad(part)
        self._reject(bad)
        self._all_bad = len(bad.places) == len(part.places)
        if not self._all_bad:
            suspects.update(dict.fromkeys(bad.places, time))

    def _bad(self, part: Part) -> Part:
        """Those of the series, of one moment, that are to blame; the others are taken."""
        count = len(part.places)
        if count == 1:
            return part
        bounds = [count * n // _GROUPS for n in range(_GROUPS + 1)]
        groups = [part.take(a, b) for a, b in pairwise(bounds) if a < b]
        refused = [group for group in groups if self._refused(group)]
        if len(refused) == len(groups) > 1 and count > len(groups):
            # All of them, most likely: one of each is asked for, to be sure.
            rest = [group if self._refused(group.take(0, 1)) else group.take(1, count) for group in groups]
            if rest == groups:
                return part
            refused = [group for group in rest if group.places]
        found = [self._bad(group) for group in refused]
        return _together(found)


def _together(parts: Sequence[Part]) -> Part:
    places = [place for part in parts for place in part.places]
    return Part(places, [one for part in parts for one in part.series])
