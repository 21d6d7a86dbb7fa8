"""Metrics thinned out: the last value of each step stays, a series that ended does not go on."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.metrics import STALE, MetricFamily, Sample, is_stale
from edgeagent.node.telemetry.metricmemory import MetricMemory
from edgeagent.node.telemetry.thinning import join_blocks, thin
from edgeagent.wire.metricblock import MetricBlock

STEP = 300_000
Gathered = list[tuple[int, dict[str, float]]]


@st.composite
def gatherings(draw: st.DrawFn) -> Gathered:
    """Times that rise, and the series that were there then."""
    time, found = 1_700_000_000_000, Gathered()
    for _ in range(draw(st.integers(1, 12))):
        time += draw(st.sampled_from([60_000, 60_000, 59_999, 1, 200_000, 700_000]))
        names = draw(st.sets(st.sampled_from("abc")))
        found.append((time, {name: float(len(found)) for name in sorted(names)}))
    return found


def in_memory(gathered: Gathered, memory: MetricMemory) -> MetricMemory:
    for time, values in gathered:
        samples = [Sample(value, {"n": name}) for name, value in values.items()]
        memory.add(time, [MetricFamily("m", "gauge", "h", samples)])
    return memory


def block_of(gathered: Gathered) -> MetricBlock:
    block = in_memory(gathered, MetricMemory("run")).block(0)
    assert block is not None
    return block


def series_of(block: MetricBlock) -> dict[str, list[tuple[int, float | None]]]:
    """By name, time and value, None for an end."""
    return {
        one.labels["n"]: [
            (time, None if is_stale(value) else value)
            for time, value in zip(one.times, one.values, strict=True)
        ]
        for one in block.batch.series
    }


def at(samples: list[tuple[int, float | None]], time: int) -> float | None:
    """What Prometheus answers: the last sample of the step before, unless that is the end."""
    return next((value for when, value in reversed(samples) if time - STEP < when <= time), None)


@given(gatherings())
def test_at_the_end_of_each_step_there_is_what_there_was(gathered: Gathered) -> None:
    block = block_of(gathered)
    thinned = thin(block, STEP)
    before, after = series_of(block), series_of(thinned)
    first, last = gathered[0][0], gathered[-1][0]
    for name in before:
        for step in range(math.floor(first / STEP), math.ceil(last / STEP) + 2):
            assert at(before[name], step * STEP) == at(after.get(name, []), step * STEP)
            # Of what ended in the step, the last value is still there.
            inside = [v for t, v in before[name] if (step - 1) * STEP < t <= step * STEP and v is not None]
            if inside:
                kept = [v for t, v in after[name] if (step - 1) * STEP < t <= step * STEP and v is not None]
                assert kept == inside[-1:]


@given(gatherings(), st.integers(0, 12), st.integers(0, 12))
def test_in_pieces_it_is_the_same_as_at_once(gathered: Gathered, one: int, two: int) -> None:
    cuts = sorted({0, min(one, len(gathered)), min(two, len(gathered)), len(gathered)})
    memory, blocks = MetricMemory("run"), []
    for start, end in pairwise(cuts):
        in_memory(gathered[start:end], memory)
        block = memory.block(start)
        assert block is not None
        blocks.append(thin(block, STEP))
        memory.forget(end)
    joined = thin(join_blocks(blocks), STEP)
    whole = thin(block_of(gathered), STEP)
    assert {n: s for n, s in series_of(joined).items() if s} == {
        n: s for n, s in series_of(whole).items() if s
    }
    assert (joined.first, joined.count, joined.moments) == (whole.first, whole.count, whole.moments)


def test_a_series_that_ended_is_marked_once() -> None:
    gathered: Gathered = [(60_000, {"a": 1.0, "b": 1.0}), (120_000, {"b": 2.0}), (180_000, {"b": 3.0})]
    block = block_of(gathered)
    assert series_of(block) == {
        "a": [(60_000, 1.0), (120_000, None)],
        "b": [(60_000, 1.0), (120_000, 2.0), (180_000, 3.0)],
    }
    assert series_of(thin(block, STEP)) == {"a": [(60_000, 1.0), (120_000, None)], "b": [(180_000, 3.0)]}


def test_an_end_after_all_was_delivered_is_marked_too() -> None:
    memory = in_memory([(60_000, {"a": 1.0, "b": 1.0})], MetricMemory("run"))
    memory.forget(1)
    in_memory([(120_000, {"b": 1.0})], memory)
    block = memory.block(1)
    assert block is not None
    assert series_of(block) == {"a": [(120_000, None)], "b": [(120_000, 1.0)]}
    assert memory.samples == 2


def test_a_clock_put_back_begins_another_block() -> None:
    memory = in_memory([(60_000, {"a": 1.0}), (120_000, {"a": 2.0})], MetricMemory("run"))
    in_memory([(90_000, {"a": 3.0})], memory)
    block, after = memory.block(0), memory.block(2)
    assert block is not None
    assert after is not None
    assert [one.time for one in block.moments] == [60_000, 120_000]
    assert [one.time for one in after.moments] == [90_000]


def test_what_nobody_can_take_is_left_out_and_counted() -> None:
    memory = MetricMemory("run")
    samples = [
        Sample(1.0, {"n": "a"}), Sample(2.0, {"n": "a"}), Sample(3.0, {"n": "\ud800"}),
        Sample(4.0, {str(n): "x" for n in range(100)}),
    ]  # fmt: skip
    memory.add(1000, [MetricFamily("m", "gauge", "h", samples)])
    block = memory.block(0)
    assert block is not None
    assert [one.values for one in block.batch.series] == [[1.0]]
    assert memory.left_out == {"Repeated": 1, "Invalid": 1, "TooManyLabels": 1}
    many = [Sample(1.0, {"n": str(n)}) for n in range(20_100)]
    memory.add(2000, [MetricFamily("m", "gauge", "h", many)])
    assert memory.left_out["TooManySeries"] == 100
    assert STALE != STALE
