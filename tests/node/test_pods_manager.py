"""The life of pods on a node: started, adopted, restarted, changed, deleted, and what their status says."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.admission import Violation
from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.pod import EnvVar, Pod
from edgeagent.api.runtime import LABEL_POD_NAME
from tests.node.indexes import config_map
from tests.node.podworld import (
    HOST_IP,
    RESYNC,
    FakeAdmission,
    FakeNetwork,
    FakeUnsealer,
    PodWorld,
    container,
    from_secret,
    pod,
    run,
    sealed_secret,
)

TEMPORARY = TemporaryError("try later", reason="RuntimeBusy")
PERMANENT = PermanentError("never so", reason="BadConfig")


def test_a_pod_from_nothing_to_running(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            begun = world.clock.now()
            await world.apply(pod("a"))
            assert [name for name, _ in world.runtime.log] == [
                "list_containers", "create_container", "start_container",
            ]  # fmt: skip
            status = world.status("a")
            assert (status.phase, status.host_ip, status.pod_ip) == ("Running", HOST_IP, HOST_IP)
            assert [c.type for c in status.conditions] == [
                "Initialized", "Ready", "ContainersReady", "PodScheduled",
            ]  # fmt: skip
            assert {c.status for c in status.conditions} == {"True"}
            assert parse_rfc3339(status.start_time) == begun
            main = world.container("a")
            assert (main.ready, main.started, main.restart_count) == (True, True, 0)
            assert main.container_id.endswith(f"://{world.running('a').id}")
            assert main.image_id == "sha256:image:1"
            assert [e.reason for e in (*world.said("Created"), *world.said("Started"))] == [
                "Created", "Started",
            ]  # fmt: skip
            assert len(world.reports) == 1

    run(scenario)


def test_containers_are_started_in_the_order_of_the_spec(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", container("one"), container("two"), container("three")))
            assert [c.name.split("_")[1] for c in world.runtime.runs] == ["one", "two", "three"]
            assert [c.name for c in world.status("a").container_statuses] == ["one", "two", "three"]

    run(scenario)


@pytest.mark.parametrize("lose", ["", "records"])
def test_a_restart_of_the_agent_touches_nothing(tmp_path: Path, lose: str) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"), pod("b", container("one"), container("two")))
            await world.end("a", 1)
            before, status = world.runtime.running(), world.status("a")
            assert world.container("a").restart_count == 1
            world.runtime.log.clear()
            world.reports.clear()
            await world.restart(lose="records" if lose else "")
            await world.advance(RESYNC)
            assert world.runtime.running() == before
            assert {name for name, _ in world.runtime.log} == {"list_containers"}
            assert world.container("a").restart_count == 1
            assert len(world.reports) == 2, "one report for each pod"
            if not lose:
                assert world.status("a").container_statuses == status.container_statuses
                assert world.status("a").start_time == status.start_time
            # Ends are noticed as before.
            await world.end("b", 3, container="two")
            assert world.container("b", "two").restart_count == 1

    run(scenario)


def test_what_an_adopted_run_was_is_remembered_though_the_records_were_lost(tmp_path: Path) -> None:
    """Removed from outside after that, its restart count does not begin anew."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await world.end("a", 1)
            await world.end("a", 1)
            await world.advance(10)
            assert world.container("a").restart_count == 2
            await world.restart(lose="records")
            world.runtime.containers.clear()
            await world.advance(RESYNC)
            assert world.container("a").restart_count == 3
            assert world.runs("a")

    run(scenario)


def test_with_no_index_nothing_is_removed_and_with_one_the_unknown_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"), pod("b"))
            kept = world.running("a").id
            await world.restart(lose="store")
            assert world.desired.generation == 0
            await world.advance(3 * RESYNC)
            assert len(world.runtime.running()) == 2
            assert world.calls("stop_container") == 0
            await world.apply(pod("a"))
            assert [c.id for c in world.runtime.running()] == [kept]
            assert [c.labels[LABEL_POD_NAME] for c in world.runtime.containers.values()] == ["a"]

    run(scenario)


def test_a_reboot_brings_every_pod_back_at_once_and_counts_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"), pod("once", policy="Never"), pod("job", policy="OnFailure"))
            for _ in range(4):
                await world.end("a", 1)
                await world.advance(300)
            await world.end("a", 1)
            assert world.waiting("a")[0] == "CrashLoopBackOff"
            await world.restart(reboot=True)
            assert world.runs("a")
            assert world.runs("job"), "a lost run is a failure"
            assert world.container("job").restart_count == 1
            ended = world.container("job").last_state.terminated
            assert ended is not None
            assert (ended.exit_code, ended.reason) == (255, "ContainerStatusUnknown")
            assert world.runs("once") == []
            assert world.status("once").phase == "Failed"

    run(scenario)


def test_a_reboot_with_the_records_lost_runs_nothing_twice(tmp_path: Path) -> None:
    """The runtime still tells that the run had begun: by ``started_at``."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("once", policy="Never"), pod("a"))
            await world.restart(reboot=True, lose="records")
            assert world.runs("once") == []
            assert world.status("once").phase == "Failed"
            assert world.container("a").restart_count == 1

    run(scenario)


def test_the_documented_back_off_over_hours(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            delays = []
            for _ in range(10):
                await world.advance(1)
                ended = world.clock.now()
                await world.end("a", 1)
                if not world.runs("a"):
                    assert world.waiting("a")[0] == "CrashLoopBackOff"
                    assert not world.container("a").ready
                    assert world.status("a").phase == "Running"
                    assert world.condition("a").reason == "ContainersNotReady"
                reports = len(world.reports)
                while not world.runs("a"):
                    await world.advance(1)
                delays.append(round(world.clock.now() - ended))
                assert len(world.reports) - reports <= 2, "nothing is said while it only waits"
            assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300, 300]
            assert world.container("a").restart_count == 10
            assert [c.reason for c in world.said("BackOff")].count("BackOff") == 9
            await world.advance(600)
            await world.end("a", 1)
            assert world.runs("a"), "ten minutes of running begin a new series"
            await world.end("a", 1)
            await world.advance(9)
            assert world.runs("a") == []
            await world.advance(1.1)
            assert world.runs("a")
            ended_state = world.container("a").last_state.terminated
            assert ended_state is not None
            assert (ended_state.exit_code, ended_state.reason) == (1, "Error")
            assert len(world.runtime.containers) == 2, "the run before is kept for its log, none else"

    run(scenario)


def test_back_off_outlives_a_restart_of_the_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            for _ in range(3):
                await world.advance(10)
                await world.end("a", 1)
            assert world.waiting("a")[0] == "CrashLoopBackOff"
            await world.advance(5)
            await world.restart()
            assert world.waiting("a")[0] == "CrashLoopBackOff"
            await world.advance(14.9)
            assert world.runs("a") == []
            await world.advance(0.2)
            assert world.runs("a")

    run(scenario)


@pytest.mark.parametrize("by", [-40_000_000.0, 40_000_000.0])
def test_a_wrong_clock_keeps_no_pod_from_running(tmp_path: Path, by: float) -> None:
    """Put right (or wrong) during a back-off, by a year and more: the wait is five minutes at the most."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"), pod("b"))
            world.fail("create_container", TEMPORARY)
            await world.apply(pod("a"), pod("b"), pod("c"))
            world.heal()
            await world.end("a", 1)
            await world.end("a", 1)
            assert world.waiting("a")[0] == "CrashLoopBackOff"
            world.clock.set_wall_clock(by)
            await world.restart()
            await world.advance(301)
            assert world.runs("a")
            assert world.runs("c")

    run(scenario)


def test_a_clock_put_back_delays_no_retry(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("create_container", TEMPORARY, 1)
            await world.apply(pod("a"))
            world.clock.set_wall_clock(-40_000_000.0)
            await world.advance(11)
            assert world.runs("a")

    run(scenario)


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [("OnFailure", 0, "Succeeded"), ("Never", 0, "Succeeded"), ("Never", 7, "Failed")],
)
def test_pods_that_end_for_good(tmp_path: Path, policy: str, code: int, phase: str) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            made = pod("job", policy="OnFailure" if policy == "OnFailure" else "Never")
            await world.apply(made)
            await world.end("job", code)
            for _ in range(2):
                assert world.status("job").phase == phase
                state = world.container("job").state.terminated
                assert state is not None
                assert (state.exit_code, state.reason) == (code, "Error" if code else "Completed")
                assert world.condition("job").status == "False"
                expected = "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"
                assert world.condition("job").reason == expected
                assert world.container("job").restart_count == 0
                await world.restart()
                await world.advance(3 * RESYNC)
            assert len(world.runtime.runs) == 1
            # Nor does it run again when somebody tidies up.
            world.runtime.containers.clear()
            await world.advance(RESYNC)
            assert len(world.runtime.runs) == 1
            assert world.status("job").phase == phase

    run(scenario)


def test_on_failure_goes_on_until_it_succeeds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("job", policy="OnFailure"))
            await world.end("job", 1)
            assert world.status("job").phase == "Running"
            await world.end("job", 1)
            await world.advance(10)
            await world.end("job", 0)
            assert world.status("job").phase == "Succeeded"
            assert world.container("job").restart_count == 2

    run(scenario)


def test_a_job_of_two_waits_for_both(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("job", container("one"), container("two"), policy="Never"))
            await world.end("job", 0, container="one")
            assert world.status("job").phase == "Running"
            await world.end("job", 2, container="two")
            assert world.status("job").phase == "Failed"

    run(scenario)


def test_a_run_removed_from_outside_is_the_end_of_a_pod_that_never_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("once", policy="Never"), pod("a"))
            world.runtime.containers.clear()
            await world.advance(RESYNC)
            assert len(world.runtime.runs) == 3, "the other pod alone runs again"
            assert world.status("once").phase == "Failed"
            state = world.container("once").state.terminated
            assert state is not None
            assert (state.exit_code, state.reason) == (255, "ContainerStatusUnknown")
            assert world.container("a").restart_count == 1

    run(scenario)


def test_an_end_told_twice_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.tell = False
            first = world.running("a").id
            told = world.exits.watched[first]
            world.runtime.end(first, 1)
            told(first)
            told(first)
            await world.clock.settle()
            told(first)
            await world.clock.settle()
            assert world.container("a").restart_count == 1
            assert world.running("a").id != first

    run(scenario)


def test_an_end_never_told_is_found_by_the_resync(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.tell = False
            await world.end("a", 1)
            assert world.runs("a") == []
            await world.advance(RESYNC)
            assert world.container("a").restart_count == 1
            assert world.runs("a")

    run(scenario)


def test_nothing_is_called_while_nothing_happens(tmp_path: Path) -> None:
    """The broker away for hours is no event at all: the resyncs are the only calls."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(*(pod(f"p{n}") for n in range(10)))
            world.runtime.log.clear()
            reports, items = len(world.reports), len(world.outbox.first(1000))
            await world.advance(4 * RESYNC)
            assert world.runtime.log == [("list_containers", "")] * 4
            assert len(world.reports) == reports
            assert len(world.outbox.first(1000)) == items

    run(scenario)


@pytest.mark.parametrize(
    "error", [TEMPORARY, PERMANENT, OSError("no socket")], ids=lambda e: type(e).__name__
)
def test_create_fails_for_an_hour(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("create_container", error)
            await world.apply(pod("a"), pod("b"))
            reason, message = world.waiting("a")
            assert str(error) in message
            assert reason == (getattr(error, "reason", "") or "PluginError")
            assert world.status("a").phase == "Pending"
            await world.advance(3600)
            assert 10 <= world.calls("create_container") / 2 <= 40
            assert str(error) in world.said("Failed")[0].message
            world.heal()
            await world.advance(301)
            assert world.runs("a")
            assert world.status("a").phase == "Running"
            assert world.container("a").restart_count == 0

    run(scenario)


@pytest.mark.parametrize("delay", [0.0, 0.001, 30.0, 3600.0])
def test_the_delay_that_a_plugin_asks_for_is_a_least_one(tmp_path: Path, delay: float) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("create_container", TemporaryError("busy", delay=delay))
            await world.apply(pod("a"))
            await world.advance(3600)
            assert 2 <= world.calls("create_container") <= 40
            if delay > 1:
                assert world.calls("create_container") <= 3600 / delay + 1

    run(scenario)


def test_start_fails_temporarily(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("start_container", TEMPORARY)
            await world.apply(pod("a"))
            assert world.waiting("a") == ("RuntimeBusy", "try later")
            await world.advance(3600)
            assert world.calls("start_container") <= 40
            assert world.calls("create_container") == 1
            world.heal()
            await world.advance(301)
            assert world.container("a").restart_count == 0
            assert world.runs("a")

    run(scenario)


def test_a_command_that_cannot_be_executed_is_a_crash(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            error = PermanentError("exec: no such file", reason="StartError")
            world.fail("start_container", error)
            await world.apply(pod("a"), pod("once", policy="Never"))
            assert world.waiting("a")[0] == "CrashLoopBackOff"
            last = world.container("a").last_state.terminated
            assert last is not None
            assert (last.exit_code, last.reason, last.message) == (128, "StartError", "exec: no such file")
            assert world.status("once").phase == "Failed"
            await world.advance(3600)
            assert 10 <= world.calls("start_container") <= 20
            assert len(world.runtime.containers) <= 3
            world.heal()
            await world.advance(301)
            assert world.runs("a")

    run(scenario)


def test_a_start_error_after_another_failure_shows_the_start_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("create_container", TEMPORARY, 1)
            world.fail("start_container", PermanentError("exec: no such file", reason="StartError"))
            await world.apply(pod("a"))
            await world.advance(3)
            assert world.waiting("a")[0] == "CrashLoopBackOff"

    run(scenario)


def test_list_fails(tmp_path: Path) -> None:
    """Until the runtime can be seen nothing is touched, and the node says why."""

    async def scenario() -> None:
        world = PodWorld(tmp_path)
        world.fail("list_containers", TemporaryError("no socket", reason="RuntimeUnreachable"))
        async with world:
            await world.apply(pod("a"))
            assert world.manager.problem == ("RuntimeUnreachable", "no socket")
            await world.advance(3600)
            assert world.calls() == world.calls("list_containers") <= 3600 / 2 + 2
            assert world.problems == [("RuntimeUnreachable", "no socket")]
            world.heal()
            await world.advance(61)
            assert world.manager.problem is None
            assert world.runs("a")

    run(scenario)


def test_list_fails_later_and_running_pods_are_still_looked_after(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.fail("list_containers", PERMANENT)
            await world.advance(RESYNC + 10)
            assert world.manager.problem == ("BadConfig", "never so")
            await world.end("a", 1)
            assert world.container("a").restart_count == 1
            world.heal()
            await world.advance(61)
            assert world.manager.problem is None

    run(scenario)


@pytest.mark.parametrize("error", [TEMPORARY, PERMANENT], ids=lambda e: type(e).__name__)
def test_the_exit_code_cannot_be_had(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.fail("wait_container", error)
            await world.end("a", 1)
            await world.advance(1700)
            assert 5 <= world.calls("wait_container") <= 30
            assert world.status("a").reason == getattr(error, "reason", "")
            assert str(error) in world.status("a").message
            world.heal()
            await world.advance(301)
            assert world.runs("a")
            assert world.container("a").restart_count == 1
            assert world.status("a").message == ""

    run(scenario)


@pytest.mark.parametrize("method", ["stop_container", "remove_container"])
@pytest.mark.parametrize("error", [TEMPORARY, PERMANENT], ids=lambda e: type(e).__name__)
def test_a_pod_cannot_be_taken_down(tmp_path: Path, method: str, error: Exception) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", container("one"), container("two")), pod("b"))
            world.fail(method, error)
            await world.apply(pod("b"))
            await world.advance(3600)
            assert world.calls(method) <= 2 * 45
            assert world.gone == []
            await world.end("b", 1)
            assert world.runs("b"), "others go on"
            world.heal()
            await world.advance(301)
            assert world.gone == ["uid-a"]
            assert {c.labels[LABEL_POD_NAME] for c in world.runtime.containers.values()} == {"b"}

    run(scenario)


@pytest.mark.parametrize("error", [TEMPORARY, PERMANENT], ids=lambda e: type(e).__name__)
def test_the_old_container_cannot_be_stopped(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.fail("stop_container", error)
            await world.apply(pod("a", container(image="image:2"), generation=2))
            assert world.running("a").image == "image:1"
            await world.advance(3600)
            assert world.calls("stop_container") <= 40
            assert world.status("a").phase == "Running"
            assert str(error) in world.said("Failed")[0].message
            world.heal()
            await world.advance(301)
            assert world.running("a").image == "image:2"

    run(scenario)


def test_an_old_run_that_cannot_be_removed_holds_nothing_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.fail("remove_container", TEMPORARY)
            for _ in range(3):
                await world.advance(700)
                await world.end("a", 1)
            await world.advance(700)
            assert world.runs("a")
            assert world.container("a").restart_count == 3
            world.heal()
            await world.advance(RESYNC)
            assert len(world.runtime.containers) == 2

    run(scenario)


def test_pulls_back_off_from_ten_seconds_to_five_minutes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("pull_image", TemporaryError("no route to the registry"))
            await world.apply(pod("a", container(image="elsewhere:1"), container("other")))
            begun = world.clock.now()
            assert world.waiting("a")[0] == "ErrImagePull"
            assert "elsewhere:1" in world.waiting("a")[1]
            assert world.runs("a", "other"), "one container that fails holds the others back"
            assert world.status("a").phase == "Pending"
            times: list[int] = []
            pulls = world.calls("pull_image")
            while len(times) < 8:
                await world.advance(1)
                if world.calls("pull_image") > pulls:
                    pulls = world.calls("pull_image")
                    times.append(round(world.clock.now() - begun))
                    assert world.waiting("a")[0] == "ImagePullBackOff"
            gaps = [b - a for a, b in zip([0, *times], times, strict=False)]
            assert gaps == [10, 20, 40, 80, 160, 300, 300, 300]
            world.heal()
            await world.advance(300)
            assert world.runs("a")
            assert world.status("a").phase == "Running"
            assert world.said("Pulled")

    run(scenario)


def test_while_a_pull_takes_hours_the_status_says_so_and_other_pods_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.plugin.hold = "pull_image"
            large = [pod(f"large{n}", container(image=f"large:{n}")) for n in range(5)]
            await world.apply(*large)
            await world.apply(*large, pod("small"))
            await world.advance(3 * 3600)
            assert world.runs("small")
            assert world.waiting("large0")[0] == "ContainerCreating"
            assert {uid for uid, _ in world.reports} >= {"uid-large0", "uid-large1"}
            world.plugin.release()
            await world.clock.settle()
            assert len(world.runtime.running()) == 6

    run(scenario)


def test_a_new_index_ends_the_wait_for_an_image(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("pull_image", TemporaryError("no such tag"))
            await world.apply(pod("a", container(image="typo:1")))
            await world.advance(3000)
            await world.apply(pod("a", container(image="image:2"), generation=2))
            assert world.running("a").image == "image:2"
            assert world.status("a").observed_generation == 2

    run(scenario)


def test_pull_policies(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(
                pod("always", container(image_pull_policy="Always")),
                pod("never", container(image="absent:1", image_pull_policy="Never")),
                pod("latest", container(image="image", image_pull_policy="")),
            )
            assert world.runs("always")
            assert world.waiting("never")[0] == "ErrImageNeverPull"
            pulled = [about for name, about in world.runtime.log if name == "pull_image"]
            assert sorted(pulled) == ["image", "image:1"]
            await world.end("always", 1)
            assert world.runs("always")
            assert world.calls("pull_image") == 2, "a restart needs no network"
            world.runtime.images.add("absent:1")
            await world.advance(301)
            assert world.runs("never")

    run(scenario)


def test_a_secret_needs_an_unsealer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            wants = pod("a", container(env_from=from_secret("s")))
            await world.apply(wants)
            assert world.waiting("a") == ("CreateContainerConfigError", "secret 's' not found")
            await world.apply(wants, sealed_secret("s"))
            reason, message = world.waiting("a")
            assert reason == "CreateContainerConfigError"
            assert "no plugin for secrets" in message
            await world.advance(3600)
            assert world.calls("create_container") == 0

    run(scenario)


def test_an_unsealer_that_fails_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        unsealer = FakeUnsealer()
        unsealer.failures = [PermanentError("sealed to another node", reason="BadSeal")]
        async with PodWorld(tmp_path, unsealer=unsealer) as world:
            await world.apply(pod("a", container(env_from=from_secret("s"))), sealed_secret("s"))
            assert world.waiting("a") == ("BadSeal", "sealed to another node")
            await world.advance(11)
            assert world.runtime.configs[world.running("a").id].env == {"TOKEN": "t0ken"}

    run(scenario)


def test_a_config_map_that_comes_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            variable = msgspec.convert(
                {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "value"}}}, EnvVar
            )
            wants = pod("a", container(env=[variable]))
            await world.apply(wants)
            assert world.waiting("a") == ("CreateContainerConfigError", "configmap 'c' not found")
            await world.apply(wants, config_map("c", "1"))
            assert world.runtime.configs[world.running("a").id].env == {"V": "1"}

    run(scenario)


def test_admission_refuses_by_field_and_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        admission.violations = [
            Violation(field="spec.hostNetwork", message="is not allowed here"),
            Violation(field="spec.containers[0].image", message="must be signed"),
        ]
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            status = world.status("a")
            assert (status.phase, status.reason) == ("Pending", "AdmissionRefused")
            assert status.message == (
                "spec.hostNetwork: is not allowed here; spec.containers[0].image: must be signed"
            )
            assert world.waiting("a")[0] == "AdmissionRefused"
            assert world.calls("create_container") == 0
            await world.advance(3 * RESYNC)
            assert admission.reviews <= 5
            assert len(world.said("AdmissionRefused")) == 1
            admission.violations = []
            await world.apply(pod("a", generation=2))
            assert world.runs("a")
            assert world.status("a").reason == ""

    run(scenario)


def test_a_running_pod_whose_change_is_refused_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            admission.violations = [Violation(field="spec", message="no")]
            await world.apply(pod("a", container(image="image:2"), generation=2))
            assert world.running("a").image == "image:1"
            assert world.status("a").reason == "AdmissionRefused"
            assert world.container("a").state.running is not None

    run(scenario)


def test_admission_that_fails_is_asked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        admission.failures = [TemporaryError("busy", delay=0.001)] * 1000
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            assert world.status("a").message == "busy"
            await world.advance(3600)
            assert 1000 - len(admission.failures) <= 400
            admission.failures.clear()
            await world.advance(301)
            assert world.runs("a")

    run(scenario)


def test_what_admission_changed_is_what_runs_and_what_is_reported(tmp_path: Path) -> None:
    def change(seen: Pod) -> Pod:
        helper = container("helper", image="image:2")
        spec = msgspec.structs.replace(
            seen.spec, containers=[*seen.spec.containers, helper], termination_grace_period_seconds=5
        )
        return msgspec.structs.replace(seen, spec=spec)

    async def scenario() -> None:
        admission = FakeAdmission()
        admission.change = change
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            assert world.running("a", "helper").image == "image:2"
            assert [c.name for c in world.status("a").container_statuses] == ["main", "helper"]
            assert world.status("a").phase == "Running"
            assert world.records.by_uid["uid-a"].grace_seconds == 5
            reports = len(world.reports)
            await world.advance(3 * RESYNC)
            assert len(world.reports) == reports
            await world.end("a", 1)
            assert all(len(s.container_statuses) == 2 for _, s in world.reports[reports:])

    run(scenario)


def test_the_network_plugin_is_asked_first_and_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        network = FakeNetwork()
        async with PodWorld(tmp_path, network=network) as world:
            await world.apply(pod("a", host_network=False), pod("b"))
            assert network.log == [("attach", "uid-a")]
            config = world.runtime.configs[world.running("a").id]
            assert (config.network, config.hostname) == ("/run/netns/uid-a", "a")
            assert world.runtime.configs[world.running("b").id].network == "host"
            status = world.status("a")
            assert (status.pod_ip, [ip.ip for ip in status.pod_ips]) == ("10.1.0.9", ["10.1.0.9", "fd00::9"])
            await world.end("a", 1)
            assert len(network.log) == 1, "the pod keeps its address"
            await world.restart()
            assert world.status("a").pod_ip == "10.1.0.9"
            await world.apply()
            assert network.log == [("attach", "uid-a"), ("attach", "uid-a"), ("detach", "uid-a")]
            assert sorted(world.gone) == ["uid-a", "uid-b"]

    run(scenario)


def test_a_pod_without_network_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", host_network=False))
            assert world.status("a").reason == "NetworkUnavailable"
            assert "hostNetwork" in world.status("a").message
            assert world.calls("create_container") == 0

    run(scenario)


def test_attach_and_detach_fail(tmp_path: Path) -> None:
    async def scenario() -> None:
        network = FakeNetwork()
        network.failures = [TemporaryError("no address is free", reason="NoAddress")] * 3
        async with PodWorld(tmp_path, network=network) as world:
            await world.apply(pod("a", host_network=False))
            assert (world.status("a").reason, world.status("a").message) == (
                "NoAddress",
                "no address is free",
            )
            await world.advance(120)
            assert world.runs("a")
            assert world.status("a").reason == ""
            network.failures = [TEMPORARY] * 3
            await world.apply()
            await world.advance(120)
            assert world.gone == ["uid-a"]
            assert network.log[-1] == ("detach", "uid-a")

    run(scenario)


@pytest.mark.parametrize("lose", ["", "records"])
def test_the_same_name_with_a_new_uid_waits_for_the_old(tmp_path: Path, lose: str) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", uid="old"))
            if lose:
                await world.restart(lose="records")
            world.plugin.hold = "stop_container"
            await world.apply(pod("a", uid="new"))
            assert [c.labels["io.edgeagent.pod.uid"] for c in world.runtime.running()] == ["old"]
            assert world.status("a").reason == "PreviousPodTerminating"
            world.plugin.release()
            await world.clock.settle()
            assert world.running("a").labels["io.edgeagent.pod.uid"] == "new"
            assert world.status("a").reason == ""
            assert world.container("a").restart_count == 0
            assert world.gone == ["old"]

    run(scenario)


def test_a_pod_that_is_desired_again_is_not_forgotten_as_gone(tmp_path: Path) -> None:
    """The hub takes a pod out and puts the same one back: the end of the first does not end the second."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await world.end("a", 1)
            await world.apply()
            assert world.gone == ["uid-a"]
            await world.apply(pod("a"))
            assert world.runs("a")
            world.manager.forget("uid-a")
            assert not world.records.by_uid["uid-a"].gone
            restarts = world.container("a").restart_count
            world.gone.clear()
            await world.restart()
            assert world.gone == []
            assert world.container("a").restart_count == restarts
            await world.apply()
            assert world.gone == ["uid-a"]
            world.manager.forget("uid-a")
            assert world.records.by_uid == {}

    run(scenario)


def test_one_failing_container_does_not_hold_back_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("pull_image", TEMPORARY)
            await world.apply(pod("a", container("bad", image="absent:1"), container("good")))
            assert world.waiting("a", "bad")[0] == "RuntimeBusy"
            assert world.container("a", "good").ready
            await world.end("a", 1, container="good")
            assert world.runs("a", "good")
            assert (world.status("a").phase, world.condition("a").status) == ("Pending", "False")
            assert world.condition("a").message == "containers with unready status: [bad]"

    run(scenario)


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_a_changed_spec_replaces_the_container(tmp_path: Path, policy: str) -> None:
    """Also where nothing else would restart it: what the node stopped itself is no end of the pod."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            old = pod("a")
            old = msgspec.structs.replace(old, spec=msgspec.structs.replace(old.spec, restart_policy=policy))
            changed = msgspec.structs.replace(
                old, spec=msgspec.structs.replace(old.spec, containers=[container(image="image:2")])
            )
            await world.apply(old)
            world.fail("create_container", TEMPORARY, 1)
            await world.apply(changed)
            assert world.status("a").phase in ("Running", "Pending")
            await world.advance(11)
            assert world.running("a").image == "image:2"
            assert (world.status("a").phase, world.container("a").restart_count) == ("Running", 1)
            assert world.container("a").ready
            assert world.said("Killing")
            await world.end("a", 0)
            ended = {"Always": "Running", "OnFailure": "Succeeded", "Never": "Succeeded"}
            assert world.status("a").phase == ended[policy]

    run(scenario)


def test_a_container_taken_out_of_the_spec_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", container("one"), container("two")))
            kept = world.running("a", "one")
            await world.apply(pod("a", container("one"), generation=2))
            assert world.runtime.running() == [kept]
            assert len(world.runtime.containers) == 1

    run(scenario)


def test_a_container_taken_out_that_cannot_be_stopped_holds_nothing_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", container("one"), container("two")))
            world.fail("stop_container", TEMPORARY)
            await world.apply(pod("a", container("one"), generation=2))
            await world.advance(1)
            assert "try later" in world.status("a").message
            await world.advance(600)
            assert world.calls("stop_container") <= 20
            world.heal()
            await world.advance(301)
            assert len(world.runtime.running()) == 1
            assert world.status("a").message == ""

    run(scenario)


def test_transition_times_hold_still(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            since = world.condition("a").last_transition_time
            await world.advance(100)
            await world.apply(pod("a"), pod("b"))
            assert world.condition("a").last_transition_time == since
            world.tell = False
            await world.end("a", 1)
            world.tell = True
            await world.advance(RESYNC)
            later = world.condition("a").last_transition_time
            assert parse_rfc3339(later) > parse_rfc3339(since)
            assert world.condition("a", "PodScheduled").last_transition_time == since

    run(scenario)


def test_a_hundred_pods_flood_no_lane(tmp_path: Path) -> None:
    """A lane's queue has 64 places; what does not fit counts as a fault of the plugin."""

    async def scenario() -> None:
        admission = FakeAdmission()
        network = FakeNetwork()
        async with PodWorld(tmp_path, admission=admission, network=network) as world:
            many = [pod(f"p{n}", host_network=n % 2 == 0) for n in range(100)]
            await world.apply(*many)
            assert len(world.runtime.running()) == 100
            for running in world.runtime.running():
                world.runtime.end(running.id, 1)
            await world.clock.settle()
            assert len(world.runtime.running()) == 100
            await world.restart()
            await world.apply()
            assert world.runtime.containers == {}
            assert world.plugin.most <= 64

    run(scenario)


def test_slow_stops_hold_no_start_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(*(pod(f"p{n}") for n in range(40)))
            world.plugin.hold = "stop_container"
            await world.apply(pod("new"))
            assert world.runs("new")
            world.plugin.release()
            await world.clock.settle()
            assert len(world.runtime.running()) == 1

    run(scenario)


def _bug(namespace: str, name: str) -> None:
    raise KeyError(namespace, name)


def test_a_bug_in_one_pod_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            monkeypatch.setattr(world.manager, "_find_config_map", _bug)
            variable = msgspec.convert(
                {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "value"}}}, EnvVar
            )
            await world.apply(pod("bad", container(env=[variable])), pod("good"))
            assert world.runs("good")
            assert "ended by a bug" in caplog.text

    run(scenario)


def test_a_stop_of_the_agent_while_calls_are_under_way_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        for turns in range(40):
            world = PodWorld(tmp_path / str(turns))
            async with world:
                await world.apply(pod("a"), pod("b"))
                world.switch([pod("c"), pod("b")])
                world.runtime.end(world.running("b").id, 1)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await world.crash()
                await world.clock.settle()

    run(scenario)
