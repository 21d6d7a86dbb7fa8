"""Blocks of metrics thinned out and joined: what waits for long takes less room, and stays true.

The last value of each step is kept, counters and gauges alike: nothing is averaged, so every value that
arrives was the series' own at that moment. Where a series ended, it ends after thinning too.
"""

from collections.abc import Sequence

import msgspec

from edgeagent.api.metrics import FamilyHead, SampleBatch, Series, is_stale
from edgeagent.wire.metricblock import MetricBlock
from edgeagent.wire.metricparts import with_series


def thin(block: MetricBlock, step: int) -> MetricBlock:
    """Of each ``step`` (milliseconds) the last value, and behind it the mark where the series ended in it.

    A step ends with the multiple of itself that gives it its number: whoever asks for the value at such a
    moment is given the last one before it.
    """
    series = [_thin_series(one, step) for one in block.batch.series]
    return with_series(block, series, step)


def _thin_series(series: Series, step: int) -> Series:
    times: list[int] = []
    values: list[float] = []
    for time, value in zip(series.times, series.values, strict=True):
        same = bool(times) and _step_of(times[-1], step) == _step_of(time, step)
        if same and is_stale(values[-1]):
            # It ended and began again, or a mark follows a mark: only the last of it counts.
            times.pop()
            values.pop()
            same = bool(times) and _step_of(times[-1], step) == _step_of(time, step)
        if same and not is_stale(value):
            times.pop()
            values.pop()
        times.append(time)
        values.append(value)
    return Series(series.family, series.labels, times, values, series.suffix)


def _step_of(time: int, step: int) -> int:
    return -(-time // step)


def join_blocks(blocks: Sequence[MetricBlock]) -> MetricBlock:
    """One block of several that follow each other in one stream without a gap, their times rising."""
    places: dict[bytes, int] = {}
    families: dict[str, int] = {}
    heads: list[FamilyHead] = []
    series: list[Series] = []
    for block in blocks:
        for one in block.batch.series:
            head = block.batch.families[one.family]
            if head.name not in families:
                families[head.name] = len(heads)
                heads.append(head)
            key = msgspec.msgpack.encode((head.name, one.suffix, sorted(one.labels.items())))
            place = places.setdefault(key, len(series))
            if place == len(series):
                series.append(Series(families[head.name], one.labels, [], [], one.suffix))
            series[place].times.extend(one.times)
            series[place].values.extend(one.values)
    first = blocks[0]
    return msgspec.structs.replace(
        first,
        count=blocks[-1].next - first.first,
        moments=[one for block in blocks for one in block.moments],
        batch=SampleBatch(families=heads, series=series),
        step=max(block.step for block in blocks),
    )
