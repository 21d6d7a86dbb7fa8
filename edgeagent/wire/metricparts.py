"""Parts of blocks of metrics: what is left of one, and one in several messages."""

import msgspec

from edgeagent.api.metrics import SampleBatch, Series
from edgeagent.wire.metricblock import MetricBlock, encode_block


def with_series(block: MetricBlock, series: list[Series], step: int) -> MetricBlock:
    """The block with other series, and only the moments at which they have something."""
    used = {time for one in series for time in one.times}
    return msgspec.structs.replace(
        block,
        moments=[one for one in block.moments if one.time in used],
        batch=SampleBatch(families=block.batch.families, series=series),
        step=step,
    )


def without(block: MetricBlock, before: int) -> MetricBlock:
    """The block without the moments before sequence ``before``; the very same where it has none of them."""
    if before <= block.first:
        return block
    return _between(block, before, block.next)


def split_series(block: MetricBlock, parts: int) -> list[MetricBlock]:
    """The block in ``parts``, with as many series each, as nearly as can be."""
    series, found = block.batch.series, []
    for part in range(parts):
        own = series[len(series) * part // parts : len(series) * (part + 1) // parts]
        batch = SampleBatch(families=block.batch.families, series=own)
        found.append(msgspec.structs.replace(block, batch=batch, part=part, parts=parts))
    return found


def split_block(block: MetricBlock, limit: int) -> tuple[list[bytes], list[int]]:
    """The block in messages of at most ``limit`` bytes, in order; the places of series that fit in none."""
    waiting, messages, too_large = [block], list[bytes](), list[int]()
    places = {_key(one): place for place, one in enumerate(block.batch.series)}
    while waiting:
        one = waiting.pop()
        data = encode_block(one)
        if len(data) <= limit:
            messages.append(data)
        elif len(one.moments) > 1:
            middle = one.moments[len(one.moments) // 2].sequence
            waiting += [_between(one, middle, one.next), _between(one, one.first, middle)]
        else:
            parts, refused = _parts(one, limit)
            messages += parts
            too_large += [places[_key(series)] for series in refused]
    return messages, sorted(set(too_large))


def _key(series: Series) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    return series.family, series.suffix, tuple(series.labels.items())


def _between(block: MetricBlock, first: int, end: int) -> MetricBlock:
    """The moments of the sequences ``first`` to ``end - 1``; what is left out in front stays counted."""
    times = {one.time for one in block.moments if first <= one.sequence < end}
    series = []
    for one in block.batch.series:
        kept = [place for place, time in enumerate(one.times) if time in times]
        if len(kept) == len(one.times):
            series.append(one)
        elif kept:
            inside = slice(kept[0], kept[-1] + 1)
            series.append(Series(one.family, one.labels, one.times[inside], one.values[inside], one.suffix))
    rest = with_series(block, series, block.step)
    start = min(max(first, block.first), end - 1)  # it stands for one gathering at least
    return msgspec.structs.replace(rest, first=start, count=end - start)


def _parts(block: MetricBlock, limit: int) -> tuple[list[bytes], list[Series]]:
    """A single moment in two parts, or four, or as many as it takes; and the series that fit in none."""
    parts = 1
    while True:
        parts = min(2 * parts, len(block.batch.series))
        pieces = split_series(block, parts)
        encoded = [encode_block(piece) for piece in pieces]
        if all(len(data) <= limit for data in encoded):
            return encoded, []
        if parts == len(block.batch.series):
            break
    sizes = [len(data) for data in encoded]
    refused = [one for one, size in zip(block.batch.series, sizes, strict=True) if size > limit]
    kept = [one for one in block.batch.series if one not in refused]
    if not kept:
        return [], refused
    return _parts(with_series(block, kept, block.step), limit)[0], refused
