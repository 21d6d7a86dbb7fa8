"""Thresholds, hysteresis and the times at which the node is looked at.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.node.config import EvictionSection
from edgeagent.node.pressure.amounts import parse_amount, parse_duration
from edgeagent.node.pressure.schedule import (
    FASTEST,
    FASTEST_WITH_STALLS,
    LATEST_SECONDS,
    SOONEST_SECONDS,
    earliest_threshold,
    next_look,
)
from edgeagent.node.pressure.thresholds import (
    SIGNALS,
    PressureState,
    Reading,
    Signal,
    Threshold,
    condition_of,
    judge,
    resource_of,
)

MI = 1024.0**2


@pytest.mark.parametrize(
    ("text", "capacity", "amount"),
    [
        ("100Mi", 1e12, 100 * MI),
        ("10%", 1000, 100),
        ("0.5%", 1000, 5),
        ("5%, 100Mi", 256 * MI, 12.8 * MI),
        ("100Mi,5%", 16384 * MI, 100 * MI),
        ("0", 1000, 0),
    ],
)
def test_amounts(text: str, capacity: float, amount: float) -> None:
    assert parse_amount(text).of(capacity) == pytest.approx(amount)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "-5%", "101%", "5%,6%", "1Mi,2Mi", "5%,", "%", "1 Mi", "5%%", "\u0661%"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|quantity"):
        parse_amount(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90),
        ("1m30s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5d", "5m5", "1.m", "\u0665m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def of(signal: Signal, amount: str, *, grace: float = 0, reclaim: str = "0") -> Threshold:
    return Threshold(
        signal,
        parse_amount(amount),
        hard=not grace,
        grace_seconds=grace,
        minimum_reclaim=parse_amount(reclaim),
    )


def look(
    state: PressureState, threshold: Threshold, available: float, now: float
) -> tuple[PressureState, bool, bool]:
    """The next state, whether the condition is in force, and whether something is due."""
    readings = {threshold.signal: Reading(available, 1000)}
    found = judge(state, [threshold], readings, now=now, transition_seconds=300)
    return found.state, bool(found.conditions), bool(found.due)


def test_a_hard_threshold_acts_at_once_and_its_condition_stays() -> None:
    threshold = of("memory.available", "100")
    state, pressure, due = look(PressureState(), threshold, 100, 0)
    assert (pressure, due) == (False, False), "the threshold itself is enough"
    state, pressure, due = look(state, threshold, 99, 10)
    assert (pressure, due) == (True, True)
    state, pressure, due = look(state, threshold, 500, 20)
    assert (pressure, due) == (True, False)
    state, pressure, _ = look(state, threshold, 500, 309)
    assert pressure
    state, pressure, _ = look(state, threshold, 500, 310)
    assert not pressure


def test_a_soft_threshold_must_last() -> None:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#soft-eviction-thresholds"""
    threshold = of("nodefs.available", "100", grace=90)
    state, pressure, due = look(PressureState(), threshold, 50, 0)
    assert (pressure, due) == (True, False)
    state, _, due = look(state, threshold, 50, 89)
    assert not due
    state, _, due = look(state, threshold, 150, 89.5)
    state, _, due = look(state, threshold, 50, 91)
    assert not due, "it was interrupted"
    _, _, due = look(state, threshold, 50, 181)
    assert due


def test_minimum_reclaim() -> None:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#minimum-eviction-reclaim"""
    threshold = of("nodefs.available", "100", reclaim="50")
    state, _, due = look(PressureState(), threshold, 120, 0)
    assert not due, "it is for pressure that has begun"
    state, _, due = look(state, threshold, 99, 1)
    state, _, due = look(state, threshold, 149, 2)
    assert due
    state, _, due = look(state, threshold, 150, 3)
    assert not due
    _, _, due = look(state, threshold, 149, 4)
    assert not due


def test_memory_is_the_most_urgent_and_hard_comes_before_soft() -> None:
    thresholds = [
        of("pid.available", "10"), of("memory.available", "20", grace=1), of("memory.available", "10"),
        of("imagefs.inodesFree", "10"),
    ]  # fmt: skip
    state = PressureState({thresholds[1]: 0.0})
    readings = {signal: Reading(1, 100) for signal in SIGNALS}
    found = judge(state, thresholds, readings, now=50, transition_seconds=1)
    assert [(one.signal, one.hard) for one in found.due] == [
        ("memory.available", True), ("memory.available", False), ("imagefs.inodesFree", True),
        ("pid.available", True),
    ]  # fmt: skip
    assert found.conditions == {"MemoryPressure", "DiskPressure", "PIDPressure"}


def test_what_cannot_be_read_is_no_pressure() -> None:
    threshold = of("imagefs.available", "10")
    found = judge(PressureState(), [threshold], {}, now=0, transition_seconds=300)
    assert (found.conditions, found.due) == (frozenset(), ())


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_has_its_condition(signal: Signal) -> None:
    expected = {"memory": "MemoryPressure", "pid": "PIDPressure"}.get(
        signal.partition(".")[0], "DiskPressure"
    )
    assert condition_of(signal) == expected
    assert resource_of(signal) in FASTEST


LOOKS = st.lists(st.tuples(st.floats(0.1, 400), st.integers(0, 200)), max_size=60)


@settings(deadline=None)
@given(looks=LOOKS, grace=st.sampled_from([0.0, 30.0]), reclaim=st.sampled_from(["0", "50"]))
def test_a_condition_never_flaps_within_the_transition_period(
    looks: list[tuple[float, int]], grace: float, reclaim: str
) -> None:
    """It ends only after a transition period in which no look found the threshold met."""
    threshold = of("memory.available", "100", grace=grace, reclaim=reclaim)
    state, now, low, before = PressureState(), 0.0, -math.inf, False
    for pause, available in looks:
        now += pause
        state, pressure, due = look(state, threshold, available, now)
        if available < 100:
            low = now
            assert pressure
        if before and not pressure:
            assert now - low >= 300
        if due:
            assert pressure
            assert available < (150 if reclaim == "50" else 100)
        before = pressure


@settings(deadline=None)
@given(
    headrooms=st.dictionaries(st.sampled_from(SIGNALS), st.floats(-1e6, 1e12)),
    stalls=st.booleans(),
    speed=st.floats(0, 1),
)
def test_never_later_than_the_threshold_could_be_reached(
    headrooms: dict[Signal, float], stalls: bool, speed: float
) -> None:
    """What is used up no faster than the assumed rates is seen at the latest when it meets a threshold."""
    rates = FASTEST_WITH_STALLS if stalls else FASTEST
    thresholds = [of(signal, "1000") for signal in SIGNALS]
    readings = {signal: Reading(1000 + room, 1e13) for signal, room in headrooms.items()}
    wait = next_look([earliest_threshold(thresholds, readings, rates)])
    assert SOONEST_SECONDS <= wait <= LATEST_SECONDS
    for signal, room in headrooms.items():
        left = room - wait * speed * rates[resource_of(signal)]
        assert left >= -1e-3 or wait == SOONEST_SECONDS


def test_an_idle_node_is_hardly_looked_at() -> None:
    readings = {signal: Reading(9e12, 1e13) for signal in SIGNALS}
    assert (
        next_look([earliest_threshold(EvictionSection().thresholds(), readings, FASTEST)]) == LATEST_SECONDS
    )
    assert next_look([]) == LATEST_SECONDS


def test_the_defaults_suit_small_boards_and_large_ones() -> None:
    limits = {
        one.signal: (one.limit(Reading(0, 256 * MI)), one.limit(Reading(0, 8192 * MI)))
        for one in EvictionSection().thresholds()
    }
    assert limits["memory.available"] == pytest.approx((12.8 * MI, 100 * MI))
    assert limits["nodefs.available"] == pytest.approx((25.6 * MI, 819.2 * MI))
    assert set(limits) == set(SIGNALS)
