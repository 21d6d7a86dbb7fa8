"""Blocks of metrics: what goes in comes out, bit by bit; what is no block is refused, and costs little."""

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.metrics import STALE, FamilyHead, SampleBatch, Series, is_stale
from edgeagent.wire.metricblock import MetricBlock, Moment, decode_block, encode_block, read_head
from edgeagent.wire.metricparts import split_block, split_series, without

HEAD = struct.pack("<BIqHH", 1, 0, 0, 0, 1)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_value = st.floats(width=64) | st.just(STALE) | st.integers(0, 10**6).map(float)


@st.composite
def blocks(draw: st.DrawFn) -> MetricBlock:
    count = draw(st.integers(1, 12))
    first = draw(st.integers(0, 1000))
    offsets = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1)))
    times = sorted(draw(st.sets(st.integers(-(10**6), 2**45), min_size=len(offsets), max_size=len(offsets))))
    heads = [
        FamilyHead(f"f{n}", draw(st.sampled_from(["counter", "gauge", "unknown"])), draw(_text))
        for n in range(draw(st.integers(1, 3)))
    ]
    series = []
    for n in range(draw(st.integers(0, 6))):
        own = sorted(draw(st.sets(st.sampled_from(times), min_size=1)))
        values = draw(st.lists(_value, min_size=len(own), max_size=len(own)))
        labels = {"n": str(n), **draw(st.dictionaries(_text, _text, max_size=3))}
        family = draw(st.integers(0, len(heads) - 1))
        series.append(Series(family, labels, own, values, draw(st.sampled_from(["", "_sum"]))))
    return MetricBlock(
        stream=draw(_text),
        first=first,
        count=count,
        moments=[Moment(first + offset, time) for offset, time in zip(offsets, times, strict=True)],
        batch=SampleBatch(families=heads, series=series),
        step=draw(st.sampled_from([0, 120_000])),
    )


def bits(block: MetricBlock) -> tuple[object, ...]:
    """The block in a form in which what is not a number equals itself."""
    return (
        msgspec.structs.replace(block, batch=SampleBatch()),
        block.batch.families,
        [(one.family, one.labels, one.times, one.suffix) for one in block.batch.series],
        [struct.pack(f"<{len(one.values)}d", *one.values) for one in block.batch.series],
    )


@given(blocks())
def test_what_goes_in_comes_out(block: MetricBlock) -> None:
    data = encode_block(block)
    assert bits(decode_block(data)) == bits(block)
    assert read_head(data) == (block.step, block.moments[-1].time, 0, 1)


@given(blocks(), st.integers(40, 400))
def test_in_messages_nothing_is_lost_and_none_is_too_large(block: MetricBlock, limit: int) -> None:
    messages, too_large = split_block(block, limit)
    assert all(len(message) <= limit for message in messages)
    found: dict[str, dict[int, bytes]] = {}
    ends = []
    for message in messages:
        part = decode_block(message)
        assert part.stream == block.stream
        ends.append((part.next, part.part))
        for one in part.batch.series:
            known = found.setdefault(one.labels["n"], {})
            for time, value in zip(one.times, one.values, strict=True):
                assert time not in known
                known[time] = struct.pack("<d", value)
    assert ends == sorted(ends)
    whole = {place for place in range(len(block.batch.series)) if place not in too_large}
    for place in whole:
        one = block.batch.series[place]
        sent = {time: struct.pack("<d", v) for time, v in zip(one.times, one.values, strict=True)}
        assert found.get(one.labels["n"], {}) == sent


@given(blocks(), st.integers(0, 1020))
def test_what_is_left_of_a_block(block: MetricBlock, before: int) -> None:
    rest = without(block, before)
    kept = {one.time for one in block.moments if one.sequence >= before}
    assert {time for one in rest.batch.series for time in one.times} == {
        time for one in block.batch.series for time in one.times if time in kept
    }
    assert rest.next == block.next


@given(blocks(), st.integers(1, 8))
def test_parts_have_all_series_in_order(block: MetricBlock, parts: int) -> None:
    pieces = split_series(block, parts)
    assert [one.labels for piece in pieces for one in piece.batch.series] == [
        one.labels for one in block.batch.series
    ]
    assert [(piece.part, piece.parts) for piece in pieces] == [(n, parts) for n in range(parts)]


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: HEAD + zlib.compress(data)))
def test_what_is_no_block_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidObjectError):
        decode_block(data)


@given(blocks(), st.data())
def test_a_broken_block_is_refused_or_read(block: MetricBlock, data: st.DataObject) -> None:
    plain = bytearray(zlib.decompress(encode_block(block)[len(HEAD) :]))
    place = data.draw(st.integers(0, len(plain) - 1))
    plain[place] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_block(HEAD + zlib.compress(bytes(plain)))
    except InvalidObjectError:
        return
    for one in found.batch.series:
        assert len(one.times) == len(one.values) > 0
        assert one.family < len(found.batch.families)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = HEAD + zlib.compress(bytes(50_000_000))
    with pytest.raises(InvalidObjectError, match="larger than 1000 bytes"):
        decode_block(bomb, limit=1000)


@pytest.mark.parametrize("where", ["label", "label-name", "name", "help", "suffix"])
def test_one_long_text_in_many_places_is_no_bomb_either(where: str) -> None:
    """A string is packed once, and stands on a page wherever it is used."""
    text = "x" * 100_000
    heads = [
        FamilyHead(text if where == "name" else f"m{n}", "gauge", text if where == "help" else "h")
        for n in range(400)
    ]
    labels = {"label": {"a": text}, "label-name": {text: "a"}}.get(where, {"a": "b"})
    suffix = text if where == "suffix" else ""
    series = [Series(n, {**labels, "n": str(n)}, [1000], [1.0], suffix) for n in range(400)]
    batch = SampleBatch(families=heads, series=series)
    data = encode_block(MetricBlock(stream="s", first=0, count=1, moments=[Moment(0, 1000)], batch=batch))
    assert len(data) < 10_000
    with pytest.raises(InvalidObjectError, match="are more than 32000000 characters"):
        decode_block(data)


def test_a_day_of_a_node_is_small() -> None:
    """Ten gatherings of a thousand series, a third of which change: some tens of kilobytes."""
    times = [1_700_000_000_000 + n * 60_000 for n in range(10)]
    series = [
        Series(
            0,
            {"namespace": "default", "pod": f"web-{n % 10}", "container": "main", "n": str(n)},
            times,
            [float(n * 1000 + (place * (n % 7) if n % 3 == 0 else 0)) for place in range(10)],
        )
        for n in range(1000)
    ]
    block = MetricBlock(
        stream="0" * 16,
        first=0,
        count=10,
        moments=[Moment(n, time) for n, time in enumerate(times)],
        batch=SampleBatch(families=[FamilyHead("m", "counter", "h")], series=series),
    )
    assert len(encode_block(block)) < 20_000


def test_the_mark_of_an_end_is_told_from_what_is_not_a_number() -> None:
    assert is_stale(STALE)
    assert not is_stale(float("nan"))
    assert not is_stale(0.0)
