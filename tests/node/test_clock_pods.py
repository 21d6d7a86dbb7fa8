"""Clocks that are set while pods run: nothing is stopped, restarted, refused or kept waiting for it."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.probe import ExecAction, Probe
from edgeagent.api.runtime import ExecResult
from edgeagent.node.steadyclock import steady_clock
from edgeagent.node.store.database import Database
from edgeagent.testing.clock import ManualClock
from tests.node.podworld import RESYNC, TRANSITION, PodWorld, container, pod, run, with_spec

YEAR = 365.0 * 86_400
JUMPS = [-56 * YEAR, -3_600.0, 3_600.0, 10 * YEAR]


ALIVE = Probe(exec=ExecAction(command=["true"]), period_seconds=60)


@pytest.mark.parametrize("by", JUMPS)
@pytest.mark.parametrize("restart", [False, True])
def test_pods_that_run_go_on(tmp_path: Path, by: float, restart: bool) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            probed = container(liveness_probe=ALIVE, readiness_probe=ALIVE)
            pods = [pod("a"), pod("b", probed), with_spec(pod("c"), active_deadline_seconds=86_400)]
            await world.apply(*pods)
            await world.advance(30)
            before = [one.id for one in world.runtime.running()]
            world.clock.set_wall_clock(by)
            if restart:
                await world.restart()
            await world.advance(7_200)
            await world.apply(*pods, pod("d"))
            await world.advance(60)
            assert [one.id for one in world.runtime.running()][:3] == before
            assert world.calls("stop_container") == 0
            assert [world.status(name).phase for name in "abcd"] == ["Running"] * 4
            assert world.container("a").restart_count == 0
            assert world.condition("b").status == "True"

    run(scenario)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 400), st.integers(-60 * 365, 60 * 365), st.sampled_from(["", "restart"])),
        max_size=6,
    )
)
def test_a_deadline_is_over_after_its_seconds_and_not_before(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, str]]
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path_factory.mktemp("world")) as world:
            await world.apply(with_spec(pod("a"), active_deadline_seconds=1_000))
            began = world.clock.monotonic()
            for seconds, by, what in steps:
                await world.advance(seconds)
                world.clock.set_wall_clock(by * 86_400.0)
                if what:
                    await world.restart()
                over = world.clock.monotonic() - began >= 1_000
                assert (world.status("a").reason == "DeadlineExceeded") == over
            if (left := 999 - (world.clock.monotonic() - began)) > 0:
                await world.advance(left)
                assert world.status("a").phase == "Running"
                await world.advance(1)
            assert world.status("a").reason == "DeadlineExceeded"

    run(scenario)


def test_a_reboot_with_a_wrong_clock_ends_no_pod_by_its_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(with_spec(pod("a"), active_deadline_seconds=1_000))
            await world.advance(500)
            world.clock.set_wall_clock(10 * YEAR)
            await world.restart(reboot=True)
            await world.advance(999)
            assert world.status("a").phase == "Running"
            await world.advance(1)
            assert world.status("a").reason == "DeadlineExceeded"

    run(scenario)


@pytest.mark.parametrize("by", JUMPS)
@pytest.mark.parametrize("restart", [False, True])
def test_a_back_off_lasts_as_long_as_it_does(tmp_path: Path, by: float, restart: bool) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            for wait in (0, 10, 20):
                await world.end("a", 1)
                await world.advance(wait)
            await world.end("a", 1)
            assert not world.runs("a")
            world.clock.set_wall_clock(by)
            if restart:
                await world.restart()
            await world.advance(38)
            assert not world.runs("a")
            await world.advance(2)
            assert world.runs("a")

    run(scenario)


@pytest.mark.parametrize("by", JUMPS)
def test_a_series_of_crashes_is_not_forgotten_for_a_date(tmp_path: Path, by: float) -> None:
    """A run of a second that seems to have lasted years has not lasted ten minutes."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await world.end("a", 1)
            await world.end("a", 1)
            await world.advance(10)
            world.clock.set_wall_clock(by)
            await world.end("a", 1)
            assert "back-off 20s" in world.waiting("a")[1]
            await world.advance(20)
            await world.advance(601)
            world.clock.set_wall_clock(-by)
            await world.end("a", 1)
            assert world.runs("a")  # a new series, whatever the dates of the run say

    run(scenario)


@pytest.mark.parametrize("by", JUMPS)
def test_an_evicted_pod_comes_back_when_it_would_have(tmp_path: Path, by: float) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await world.pressure("MemoryPressure")
            await world.manager.evict("uid-a", "The node was low on resource: memory. ", 0)
            await world.clock.settle()
            await world.pressure()
            world.clock.set_wall_clock(by)
            await world.advance(TRANSITION - 1)
            assert not world.runs("a")
            await world.advance(1)
            assert world.runs("a")

    run(scenario)


@pytest.mark.parametrize("by", JUMPS)
def test_the_first_delay_of_a_probe_is_not_cut_short(tmp_path: Path, by: float) -> None:
    """Not for an agent that is restarted after the clock was set: the container had the whole delay."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.runtime.on_exec = lambda _id, _command: ExecResult(exit_code=1, output=b"not yet")
            slow = container(
                liveness_probe=msgspec.structs.replace(
                    ALIVE, initial_delay_seconds=300, period_seconds=1, failure_threshold=1
                )
            )
            await world.apply(pod("a", slow))
            await world.advance(10)
            world.clock.set_wall_clock(by)
            await world.restart()
            await world.advance(289)
            assert world.container("a").restart_count == 0
            assert world.calls("exec_container") == 0
            await world.advance(2)
            assert world.calls("exec_container") > 0

    run(scenario)


def test_whoever_looks_at_the_clock_is_told_of_each_resync(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            assert len(world.resyncs) == 1
            await world.advance(3 * RESYNC)
            assert len(world.resyncs) == 4

    run(scenario)


def test_pods_that_fail_are_tried_again_as_soon_as_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("create_container", TemporaryError("try later", reason="RuntimeBusy"), 1)
            await world.apply(pod("a"))
            world.clock.set_wall_clock(-56 * YEAR)
            await world.advance(11)
            assert world.runs("a")

    run(scenario)


def test_the_steady_clock_is_one_a_boot(tmp_path: Path) -> None:
    clock = ManualClock(0.0)
    database = Database(tmp_path / "agent.db", now=0)

    def begin(boot: str, now: float) -> float:
        clock.set_wall_clock(now - clock.now())
        return steady_clock(database, clock, boot_id=boot).now()

    assert begin("one", 100.0) == 100.0
    assert begin("one", 5_000.0) == 100.0
    assert begin("two", 5_000.0) == 5_000.0
    assert begin("two", 0.0) == 5_000.0
    # A machine that has no number for its boots never goes on with another one's.
    assert begin("", 7.0) == 7.0
    assert begin("", 9.0) == 9.0
    with database.durable() as connection:
        connection.execute("UPDATE meta SET value = 'two nan' WHERE key = 'steady_clock'")
    assert begin("two", 3.0) == 3.0
