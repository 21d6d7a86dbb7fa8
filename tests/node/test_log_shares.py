"""One container that writes more than a sink takes: the lines of others wait behind little, and stay."""

import asyncio
import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.node.telemetry import logshares
from tests.node.logworld import World

SECOND = 1.0


def containers_of(world: World) -> list[str]:
    """Whose lines arrived, in the order in which they did."""
    return [body.partition(" ")[0] for body in world.receiver.got.values()]


def numbers_of(world: World, container: str) -> list[int]:
    """Which lines of a container arrived, in the order in which they did."""
    lines = (body.strip(".").split(" ") for body in world.receiver.got.values())
    return [int(number) for name, number in lines if name == container]


def test_the_lines_of_a_quiet_container_pass_those_of_a_loud_one(tmp_path: Path) -> None:
    """The sink takes 100 kB a second, and one container alone has written 8 MB: eighty seconds of it."""

    async def play() -> None:
        world = World(tmp_path, budget=50_000_000, rate=100_000)
        world.source.at_once = 50
        for _ in range(80):
            world.write(100, "mad", size=1000)
            await world.clock.advance(0.1)
        for _ in range(10):
            world.write(1, "calm")
            before = world.clock.monotonic()
            calm = len(numbers_of(world, "calm"))
            while len(numbers_of(world, "calm")) == calm:
                await world.clock.advance(SECOND)
            waited = world.clock.monotonic() - before
            assert waited <= 8 * SECOND, "what was on its way, and what waited of the first 256 kB"
        assert len(numbers_of(world, "mad")) < 8000
        await world.clock.advance(200)
        mad = numbers_of(world, "mad")
        assert len(mad) == 8000
        assert mad == sorted(mad), "each container's own lines stay in order"
        world.write(1, "mad")
        world.write(1, "calm")
        await world.clock.advance(1)
        spool = world.spool.opened
        assert spool is not None
        assert spool.next(logshares.SHARED) > 0
        assert spool.held("logs").items == 0, "all is delivered, and forgotten"
        assert world.flow.waiting == 0
        await world.kill()

    asyncio.run(play())


def test_a_loud_container_pushes_out_its_own_lines_alone(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(tmp_path, budget=60_000)
        world.receiver.faults.extend(["temporary"] * 1000)
        world.source.at_once = 40
        for n in range(400):
            world.write(20, "mad", size=2000)
            if n % 10 == 0:
                world.write(1, "calm")
            await world.clock.advance(1)
        spool = world.spool.opened
        assert spool is not None
        assert spool.held("logs").bytes <= 60_000
        assert spool.dropped["logs"] > 1000
        world.receiver.faults.clear()
        await world.clock.advance(1000)
        assert len(numbers_of(world, "calm")) == 40
        await world.kill()

    asyncio.run(play())


def test_a_container_is_not_loud_for_ever(tmp_path: Path) -> None:
    async def play() -> None:
        world = World(tmp_path, budget=50_000_000)
        world.source.at_once = 50
        world.receiver.faults.extend(["temporary"] * 3)
        world.write(1000, "mad", size=1000)
        await world.clock.advance(1)
        spool = world.spool.opened
        assert spool is not None
        shared = spool.next(logshares.SHARED)
        assert 0 < shared < 1000
        await world.clock.advance(1000)
        world.write(5, "mad")
        await world.clock.advance(1)
        assert spool.next(logshares.SHARED) == shared + 5
        await world.kill()

    asyncio.run(play())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(["a", "b", "c"]), st.integers(1, 8)),
        st.tuples(st.just("fault"), st.sampled_from(["temporary", "permanent", "lost answer"]), st.just(0)),
        st.tuples(st.just("turns"), st.just(""), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.just(""), st.sampled_from([1, 10, 400])),
        st.tuples(st.just("kill"), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_every_line_arrives_once_and_those_of_a_container_in_order(steps: list[tuple[str, str, int]]) -> None:
    """With so small a measure that loud and quiet change all the time."""

    async def play(folder: Path) -> None:
        world = World(folder)
        for what, which, value in steps:
            if what == "write":
                world.write(value, which)
                await asyncio.sleep(0)
            elif what == "fault":
                world.receiver.faults.append(which)
            elif what == "turns":
                for _ in range(value):
                    await asyncio.sleep(0)
            elif what == "wait":
                await world.clock.advance(value)
            else:
                await world.kill()
                world.start()
        await world.clock.advance(10_000)
        assert sorted(world.receiver.got.values()) == sorted(world.lines)
        for container in "abc":
            numbers = numbers_of(world, container)
            assert numbers == sorted(numbers)
        await world.kill()

    with tempfile.TemporaryDirectory() as folder, patch.object(logshares, "LOUD_BYTES", 200):
        asyncio.run(play(Path(folder)))
