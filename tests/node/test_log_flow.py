"""Logs from source to sink through a real spool: failures and kills at any point lose nothing."""

import asyncio
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.logs import LogOrigin, LogTarget
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.outlet import Shipped
from tests.node.logworld import TARGETS, InlineSpool, Lines, World

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 8)),
        st.tuples(
            st.just("fault"), st.sampled_from(["temporary", "permanent", "retry", "reject", "lost answer"])
        ),
        st.tuples(st.just("source"), st.sampled_from([TemporaryError("gone"), PermanentError("broken")])),
        st.tuples(st.just("turns"), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.sampled_from([1, 10, 400])),
        st.tuples(st.just("kill"), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_every_line_arrives_once(steps: list[tuple[str, object]]) -> None:
    async def play(folder: Path) -> None:
        world = World(folder)
        for what, value in steps:
            if what == "write":
                assert isinstance(value, int)
                world.write(value)
            elif what == "fault":
                world.receiver.faults.append(str(value))
            elif what == "source":
                assert isinstance(value, EdgeAgentError)
                world.source.fails.append(value)
            elif what == "turns":
                assert isinstance(value, int)
                for _ in range(value):
                    await asyncio.sleep(0)
            elif what == "wait":
                assert isinstance(value, int)
                await world.clock.advance(value)
            else:
                await world.kill()
                world.start()
        await world.clock.advance(10_000)
        got = world.receiver.got.values()
        # A batch whose answer was lost may be rejected when it comes again: then it is in both.
        assert set(got) | world.receiver.rejected == set(world.lines)
        assert len(set(got)) == len(got), "a line has one id"
        by_number = sorted(world.receiver.got.items(), key=_number)
        in_order = [int(body.removeprefix("line ")) for _, body in by_number]
        assert in_order == sorted(in_order)
        await world.kill()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


def _number(item: tuple[str, str]) -> int:
    return int(item[0].rpartition("-")[2])


async def _steady(world: World) -> None:
    await world.clock.advance(10_000)


def test_what_a_person_must_mend_is_said_once_and_waits(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(tmp_path)
        world.receiver.faults.extend(["permanent"] * 3)
        world.write(2)
        await world.clock.advance(1)
        [shipper] = world.flow.shippers
        assert shipper.sent == Shipped(retries=1, problem="the password is refused", refused=True)
        assert world.receiver.got == {}
        await _steady(world)
        assert world.refused == [("sinks/first", "the password is refused")]
        assert len(world.receiver.got) == 2
        assert shipper.sent == Shipped(delivered=2, retries=3)
        await world.kill()

    asyncio.run(play())


def test_what_is_refused_for_ever_is_told_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent's own log is shipped too: a word on each refused record would be one more, without end."""

    async def play() -> None:
        world = World(tmp_path)
        await world.clock.advance(1)
        for _ in range(20):
            world.receiver.faults.append("reject")
            world.write(1)
            await world.clock.advance(1)
        await world.clock.advance(60)
        world.receiver.faults.append("reject")
        world.write(1)
        await world.clock.advance(1)
        assert len(world.receiver.rejected) == world.flow.shippers[0].sent.rejected == 21
        await world.kill()

    asyncio.run(play())
    told = [record.getMessage() for record in caplog.records if "never" in record.getMessage()]
    assert told == [f"logs for sink sinks/first: {count} are taken never, for: mapping" for count in (1, 20)]


def test_the_drain_keeps_to_its_rate(tmp_path: Path) -> None:
    """600 kB of noise at 100 kB/s: not before five seconds, for a burst goes at once."""

    async def play() -> None:
        world = World(tmp_path, rate=100_000)
        rng = random.Random(2)
        world.lines += [f"line {rng.randbytes(20_000).hex()}" for _ in range(30)]
        world.news.set()
        await world.clock.advance(1.0)
        early = len(world.receiver.got)
        await world.clock.advance(30.0)
        assert early < 20
        assert len(world.receiver.got) == 30
        await world.kill()

    asyncio.run(play())


def test_a_node_without_sinks_reads_and_writes_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(tmp_path)
        await world.kill()
        flow = LogFlow(
            [world.source], [], world.spool, targets=lambda: TARGETS, clock=world.clock,
            rng=random.Random(1), rate=1, on_refused=lambda *_: None,
        )  # fmt: skip
        world.write(3)
        await flow.run()
        assert not world.path.exists()
        assert world.source.told == []

    asyncio.run(play())


def test_sources_are_told_of_other_containers(tmp_path: Path) -> None:
    async def play() -> None:
        targets = list(TARGETS)
        world = World(tmp_path)
        await world.kill()
        source = Lines([], asyncio.Event())
        flow = LogFlow(
            [source], [world.receiver], InlineSpool(
                tmp_path / "other.db", lambda path: Spool(path, {"logs": 1000}, boot_id="1", now=5.0)
            ), targets=lambda: list(targets), clock=world.clock, rng=random.Random(1), rate=1000,
            on_refused=lambda *_: None,
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(flow.run())
        await world.clock.settle()
        flow.targets_changed()
        await world.clock.settle()
        assert source.told == [TARGETS], "what did not change is not told again"
        targets.append(LogTarget(origin=LogOrigin(container_id="c2"), path="/log2"))
        flow.targets_changed()
        await world.clock.settle()
        assert [len(one) for one in source.told] == [1, 2]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())


@pytest.mark.parametrize("answer", [PermanentError("no such section"), TemporaryError("not now", delay=5)])
def test_what_waits_for_a_plugin_that_does_not_say_its_sinks_goes_on_waiting(
    tmp_path: Path, answer: EdgeAgentError
) -> None:
    async def play() -> None:
        world = World(tmp_path)
        world.receiver.faults.extend(["permanent"] * 50)
        world.write(2)
        await world.clock.advance(1)
        await world.kill()
        names = world.receiver.names

        async def once() -> list[str]:
            world.receiver.names = names  # type: ignore[method-assign]
            raise answer

        world.receiver.names = once  # type: ignore[method-assign]
        world.start()
        await _steady(world)
        if world.task.done():
            world.start()
        world.receiver.faults.clear()
        await _steady(world)
        assert sorted(world.receiver.got.values()) == ["line 0", "line 1"]
        await world.kill()

    asyncio.run(play())
