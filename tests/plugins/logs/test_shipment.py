"""A batch in parts: what is tried, in which order, and what becomes of each record."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_logs.shipment import (
    MAX_REQUESTS,
    MAX_SEARCH,
    SHIP_SECONDS,
    RefusedError,
    Shipment,
    SizeLimit,
    TooLargeError,
)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200), st.integers(1, 40))
def test_a_size_that_the_other_side_does_not_take_is_found(
    weights: list[int], limit: int, takes: int
) -> None:
    """Whatever fits by itself arrives, once and in order; what does not is rejected."""
    arrived: list[int] = []
    size = SizeLimit(limit)

    def send(places: Sequence[int]) -> None:
        if sum(weights[place] for place in places) > takes:
            raise TooLargeError("413")
        arrived.extend(places)

    rejected: dict[int, str] = {}
    waiting = list(range(len(weights)))
    while waiting:
        part = [weights[place] for place in waiting]
        now = waiting

        def shifted(places: Sequence[int], now: list[int] = now) -> None:
            send([now[place] for place in places])

        delivery = Shipment(part, size).run(shifted)
        rejected |= {now[place]: why for place, why in delivery.rejected.items()}
        waiting = [now[place] for place in delivery.retry]
    assert sorted(rejected) == [place for place, weight in enumerate(weights) if weight > takes]
    assert arrived == [place for place in range(len(weights)) if place not in rejected]


@given(st.integers(1, 200), st.sets(st.integers(0, 199), max_size=3))
def test_refused_records_are_found(count: int, poison: set[int]) -> None:
    arrived: list[int] = []
    requests = 0

    def send(places: Sequence[int]) -> None:
        nonlocal requests
        requests += 1
        if poison.intersection(places):
            raise RefusedError("400")
        arrived.extend(places)

    delivery = Shipment([1] * count, SizeLimit(1000)).run(send)
    assert set(delivery.rejected) == poison.intersection(range(count))
    assert arrived == [place for place in range(count) if place not in poison]
    assert requests <= MAX_SEARCH


def test_a_search_has_an_end() -> None:
    calls: list[int] = []

    def send(places: Sequence[int]) -> None:
        calls.append(len(places))
        raise RefusedError("400")

    assert len(Shipment([1] * 5000, SizeLimit(10_000)).run(send).rejected) == 5000
    assert len(calls) <= MAX_SEARCH + 13


def test_what_is_not_sent_in_one_turn_waits_for_the_next() -> None:
    delivery = Shipment([10] * (MAX_REQUESTS + 5), SizeLimit(10)).run(lambda _: None)
    assert delivery.retry == list(range(MAX_REQUESTS, MAX_REQUESTS + 5))


def test_a_slow_side_does_not_hold_a_turn_beyond_its_time() -> None:
    now = 0.0

    def send(places: Sequence[int]) -> None:
        nonlocal now
        now += SHIP_SECONDS / 2 + 1

    delivery = Shipment([10] * 5, SizeLimit(10), monotonic=lambda: now).run(send)
    assert delivery.retry == [2, 3, 4]


@pytest.mark.parametrize("error", [TemporaryError("later", delay=9), PermanentError("mend")])
def test_a_failure_after_some_have_arrived_keeps_the_rest(error: Exception) -> None:
    def send(places: Sequence[int]) -> None:
        if places[0] >= 2:
            raise error

    delivery = Shipment([10] * 5, SizeLimit(10)).run(send)
    assert delivery.retry == [2, 3, 4]
    assert delivery.delay == (9 if isinstance(error, TemporaryError) else 0)


@pytest.mark.parametrize("error", [TemporaryError("later", delay=9), PermanentError("mend")])
def test_a_failure_of_all_is_raised_as_it_is(error: Exception) -> None:
    def send(places: Sequence[int]) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Shipment([10] * 5, SizeLimit(10)).run(send)
    assert caught.value is error


def test_nothing_is_nothing() -> None:
    delivery = Shipment([], SizeLimit(10)).run(lambda _: None)
    assert (delivery.retry, delivery.rejected) == ([], {})
