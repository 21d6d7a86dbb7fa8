"""Metrics from the sampler to exporters, through a real spool: outages, failures, restarts and kills."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.metrics import is_stale
from edgeagent.node.telemetry import metricqueue
from edgeagent.node.telemetry.exporting import HubExporter
from edgeagent.node.telemetry.metricflow import FlowSettings
from edgeagent.node.telemetry.metricthinner import CLASS
from edgeagent.wire.metricblock import MetricBlock, decode_block
from tests.node.metrickit import BUDGETS, DAY, MINUTE, START, Node, Receiver, run


def test_while_all_is_well_nothing_is_written() -> None:
    async def work(folder: Path) -> None:
        receiver = Receiver()
        node = Node(folder, [receiver])
        await node.start()
        await node.clock.advance(60 * MINUTE)
        assert len(node.gathered) == 60
        assert all((time / 1000 - 20) % 60 == 0 for time, _ in node.gathered)
        assert sorted(receiver.got["a"]) == [time for time, _ in node.gathered]
        await node.end()
        assert not node.path.exists()

    run(work)


def test_without_an_exporter_nothing_is_gathered() -> None:
    async def work(folder: Path) -> None:
        node = Node(folder, [])
        await node.start()
        await node.clock.advance(60 * MINUTE)
        assert node.gathered == []
        assert node.task is not None
        assert node.task.done()
        assert not node.path.exists()
        await node.end()

    run(work)


def test_a_day_without_a_link_then_all_comes_in_order_thinned_and_not_at_once() -> None:
    async def work(folder: Path) -> None:
        receiver = Receiver()
        settings = FlowSettings(
            resolution=60.0, thin_after=7200.0, thinned_resolution=300.0, rate=600.0, offset=20.0
        )
        node = Node(folder, [receiver], settings=settings, series=50)
        receiver.fault = "down"
        await node.start()
        await node.clock.advance(DAY)
        waiting = node.held()
        assert 0 < waiting < BUDGETS["metrics"]
        assert receiver.got == {}
        node.names.remove("b")
        await node.clock.advance(2 * MINUTE)
        receiver.fault = ""
        began = node.clock.monotonic()
        came: list[tuple[float, int]] = []
        while node.held():
            await node.clock.advance(1.0)
            came.append((node.clock.monotonic() - began, waiting - node.held()))
            assert len(came) < 3 * 3600
        for seconds, size in came:
            # The back-off of the last failure, and bursts, apart: no more than the rate allows.
            assert size <= 600.0 * (seconds + 10) + 5_000
        await node.clock.advance(2 * MINUTE)
        times = sorted(receiver.got["a"])
        assert times == receiver.firsts["a"]
        assert receiver.repeats == 0
        steps = {-(-time // 300_000) for time in times}
        first, last = node.gathered[0][0], node.gathered[-1][0]
        assert steps == set(range(-(-first // 300_000), -(-last // 300_000) + 1))
        recent = [time for time, _ in node.gathered if time > (START + DAY - 7000) * 1000]
        assert [time for time in times if time > (START + DAY - 7000) * 1000] == recent
        assert len(times) < len(node.gathered) / 2
        ended = max(receiver.got["b"])
        assert is_stale(receiver.got["b"][ended])
        assert ended > (START + DAY) * 1000
        await node.end()

    run(work)


def test_the_budget_is_kept_and_the_oldest_goes() -> None:
    async def work(folder: Path) -> None:
        receiver = Receiver()
        budgets = {"metrics": 12_000, "logs": 100_000}
        node = Node(folder, [receiver], budgets=budgets, series=100)
        receiver.fault = "down"
        await node.start()
        assert node.spool is not None
        await node.spool.call(lambda spool: spool.append("logs", b"x" * 90_000, 1, START))
        for _ in range(48):
            await node.clock.advance(30 * MINUTE)
            assert node.held() <= 12_000
        assert node.held("logs") == 90_000
        assert node.spool.opened is not None
        assert node.spool.opened.dropped["logs"] == 0
        assert node.spool.opened.dropped["metrics"] > 0
        assert node.path.stat().st_size < 400_000
        receiver.fault = ""
        await node.clock.advance(30 * MINUTE)
        times = sorted(receiver.got["a"])
        assert times == receiver.firsts["a"]
        assert times[0] > START * 1000
        steps = [-(-time // 300_000) for time in times[1:]]  # the first was on its way already
        assert set(steps) == set(range(steps[0], steps[-1] + 1))
        await node.end()

    run(work)


def test_without_a_disk_memory_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metricqueue, "MAX_SAMPLES", 20_000)

    async def work() -> None:
        receiver = Receiver()
        node = Node(tmp_path, [receiver], series=300)
        receiver.fault = "down"
        await node.start()
        assert node.spool is not None
        node.spool.dead = True
        await node.clock.advance(90 * MINUTE)
        assert node.flow is not None
        assert node.flow.queue is not None
        assert node.flow.queue.in_memory <= 20_000
        assert node.flow.queue.dropped["NoRoom"] > 0
        node.spool.dead = False
        receiver.fault = ""
        await node.clock.advance(10 * MINUTE)
        assert sorted(receiver.got["a"])[-1] == node.gathered[-1][0]
        await node.end()

    asyncio.run(work())


def test_one_exporter_waits_while_the_other_does_not() -> None:
    async def work(folder: Path) -> None:
        up, down = Receiver("up"), Receiver("down")
        down.fault = "refused"
        node = Node(folder, [up, down])
        await node.start()
        await node.clock.advance(3 * 60 * MINUTE)
        assert sorted(up.got["a"]) == [time for time, _ in node.gathered]
        await node.end()
        await node.start()
        down.fault = ""
        await node.clock.advance(10 * MINUTE)
        assert up.repeats == 0
        assert down.repeats == 0
        assert {-(-time // 300_000) for time in down.got["a"]} == {
            -(-time // 300_000) for time, _ in node.gathered
        }
        await node.end()
        node.receivers = []
        await node.start()
        assert node.spool is not None
        assert node.spool.opened is not None
        assert node.spool.opened.usage(CLASS).chunks == 0
        await node.end()

    run(work)


def test_a_plugin_that_cannot_say_now_is_asked_again() -> None:
    async def work(folder: Path) -> None:
        shy, broken = Receiver("shy"), Receiver("broken")
        shy.names_fault.append(TemporaryError("not yet"))
        broken.names_fault.append(PermanentError("never"))
        node = Node(folder, [shy, broken])
        await node.start()
        await node.clock.advance(10 * MINUTE)
        assert shy.got
        assert not broken.got
        await node.end()

    run(work)


def test_a_gathering_that_fails_is_missed_and_the_rhythm_stays() -> None:
    async def work(folder: Path) -> None:
        receiver = Receiver()
        node = Node(folder, [receiver])
        await node.start()
        await node.clock.advance(3 * MINUTE)
        node.gather_fails = True
        await node.clock.advance(2 * MINUTE)
        node.gather_fails = False
        node.clock.set_wall_clock(-30.0)
        await node.clock.advance(5 * MINUTE)
        assert node.flow is not None
        assert node.flow.sampler is not None
        assert node.flow.sampler.missed == 2
        times = [time for time, _ in node.gathered]
        # It slept already when the clock was put back.
        assert sum((time / 1000 - 20) % 60 != 0 for time in times) == 1
        assert sorted(receiver.got["a"]) == times
        await node.end()

    run(work)


def test_a_spool_that_is_damaged_costs_what_is_in_it_and_no_more() -> None:
    async def work(folder: Path) -> None:
        receiver = Receiver()
        receiver.fault = "down"
        node = Node(folder, [receiver])
        await node.start()
        await node.clock.advance(35 * MINUTE)
        assert node.spool is not None
        assert node.spool.opened is not None
        chunk = node.spool.opened.after(CLASS, 0)
        assert chunk is not None
        node.spool.opened.replace(CLASS, chunk.first, chunk.next, b"\x01" + bytes(14) + b"\x01\0junk")
        receiver.fault = ""
        await node.clock.advance(10 * MINUTE)
        assert node.flow is not None
        assert node.flow.queue is not None
        assert node.flow.queue.dropped == {"Unreadable": chunk.items}
        times = [time for time, _ in node.gathered]
        # The first was on its way already.
        assert sorted(receiver.got["a"]) == [*times[:1], *times[chunk.items :]]
        await node.end()

    run(work)


def test_what_goes_by_the_broker_goes_at_once_when_there_is_a_connection() -> None:
    async def work(folder: Path) -> None:
        sent: list[MetricBlock] = []
        limit = 0

        async def publish(payload: bytes) -> None:
            sent.append(decode_block(payload))

        node = Node(folder, [])
        node.own = [HubExporter(publish, lambda: limit)]
        await node.start()
        await node.clock.advance(40 * MINUTE)
        assert node.flow is not None
        assert node.flow.waiting == 40
        assert node.flow.shippers[0].sent.problem == "not connected to the broker"
        limit = 100_000
        node.flow.connected()
        await node.clock.settle()
        assert [moment.time for block in sent for moment in block.moments] == [t for t, _ in node.gathered]
        assert node.flow.waiting == 0
        await node.end()

    run(work)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([1, 2, 7, 12, 45, 200])),
        st.tuples(st.just("fault"), st.tuples(st.integers(0, 1), st.sampled_from(
            ["", "down", "down", "refused", "half", "lost answer"]))),
        st.tuples(st.just("names"), st.sets(st.sampled_from("abcd"))),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    max_size=14,
)  # fmt: skip


@settings(deadline=None)
@given(_steps)
def test_nothing_is_lost_but_what_resolution_and_kills_cost(steps: list[tuple[str, object]]) -> None:
    async def work(folder: Path) -> None:
        receivers = [Receiver("one"), Receiver("two")]
        node = Node(folder, receivers)
        killed: set[int] = set()
        await node.start()
        for what, how in steps:
            if what == "pass":
                assert isinstance(how, int)
                await node.clock.advance(how * MINUTE)
            elif what == "fault":
                assert isinstance(how, tuple)
                receivers[how[0]].fault = how[1]
            elif what == "names":
                assert isinstance(how, set)
                node.names = how
            else:
                if how:
                    # What had waited for less than ten minutes, and nothing else, may be lost.
                    since = (node.clock.now() - 10 * MINUTE) * 1000
                    killed |= {time for time, _ in node.gathered if time >= since}
                await node.end(kill=bool(how))
                await node.start()
        for receiver in receivers:
            receiver.fault = ""
        await node.clock.advance(30 * MINUTE)
        assert node.held() == 0
        await node.end()
        for receiver in receivers:
            check(node, receiver, killed)

    run(work)


def check(node: Node, receiver: Receiver, killed: set[int]) -> None:
    """What a receiver has against all that was gathered."""
    there: dict[str, list[int]] = {}
    for time, names in node.gathered:
        for name in names:
            there.setdefault(name, []).append(time)
    for name, samples in receiver.got.items():
        for time, value in samples.items():
            assert is_stale(value) or (value == time and time in there[name]), "nothing is made up"
        assert receiver.firsts[name] == sorted(samples), "in order"
    for name, times in there.items():
        got = {time for time, value in receiver.got.get(name, {}).items() if not is_stale(value)}
        for time in times:
            if time in got or time in killed:
                continue
            later = min((t for t in got if t > time and -(-t // 300_000) == -(-time // 300_000)), default=0)
            assert later, f"{name} at {time} is lost"
            assert receiver.arrived[name, later] - time / 1000 >= 7200, "only what is old is thinned"
    last = node.gathered[-1][1] if node.gathered else frozenset()
    for name in there.keys() - last:
        ends = receiver.got.get(name, {})
        if ends and not killed and len(node.gathered) > 1:
            restarts = is_stale(ends[max(ends)])
            assert restarts or Counter(there)[name], "what ended has ended"


@pytest.mark.parametrize("rate", [50.0, 2000.0])
def test_what_is_new_arrives_however_slow_the_backlog_is(rate: float) -> None:
    """A rate below what is gathered costs the oldest, not the newest for ever."""

    async def work(folder: Path) -> None:
        receiver = Receiver()
        budgets = {"metrics": 40_000, "logs": 1_000_000}
        settings = FlowSettings(
            resolution=60.0, thin_after=7200.0, thinned_resolution=300.0, rate=rate, offset=20.0
        )
        node = Node(folder, [receiver], settings=settings, budgets=budgets, series=100)
        receiver.fault = "down"
        await node.start()
        await node.clock.advance(DAY / 4)
        receiver.fault = ""
        await node.clock.advance(DAY / 4)
        assert receiver.firsts["a"] == sorted(receiver.firsts["a"])
        behind = node.clock.now() - max(receiver.got["a"]) / 1000
        assert behind < 3600
        await node.end()

    run(work)
