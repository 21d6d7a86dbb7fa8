"""The life of pods on a node: started, adopted, restarted, and what their status says."""

from pathlib import Path

import pytest

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.pod import HostIP, PodStatus
from edgeagent.api.runtime import LABEL_CONTAINER, LABEL_POD_NAME
from tests.node.indexes import NODE
from tests.node.podkit import make_pod
from tests.node.podworld import (
    HOST_IP,
    RESYNC,
    FakeNetwork,
    PodWorld,
    container,
    pod,
    run,
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
            assert status.host_ips == [HostIP(ip=HOST_IP)]
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
            assert world.calls("signal_container") == 0
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
            assert sum(event.count for event in world.said("BackOff")) == 9
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
                expected = "PodCompleted" if phase == "Succeeded" else "PodFailed"
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


def test_what_was_not_looked_at_yet_is_unknown_and_not_pending(tmp_path: Path) -> None:
    """A restarted agent must not tell the hub that running pods are waiting to run."""

    async def scenario() -> None:
        world = PodWorld(tmp_path)
        async with world:
            await world.apply(pod("a"))
        world.fail("list_containers", TEMPORARY)
        async with world:
            assert [status.phase for _, status in world.manager.statuses()] == ["Unknown"]
            world.heal()
            await world.advance(61)
            assert [status.phase for _, status in world.manager.statuses()] == ["Running"]

    run(scenario)


def test_a_new_pod_is_pending_from_the_first(tmp_path: Path) -> None:
    """Also while what it needs before its containers is waited for, and when it comes back as it was."""

    async def scenario() -> None:
        world = PodWorld(tmp_path, network=FakeNetwork())
        async with world:
            for _ in range(2):
                world.plugin.hold = "attach"
                await world.apply(pod("a", host_network=False))
                assert world.plugin.held
                assert world.status("a") == PodStatus(phase="Pending")
                world.plugin.release()
                await world.clock.settle()
                assert world.status("a").phase == "Running"
                await world.apply()
                assert world.gone[-1] == "uid-a"
            world.plugin.hold = "attach"
            await world.apply(pod("b", host_network=False))
            world.plugin.held.clear()
            await world.restart()  # it may have got further than this process knows
            assert world.status("b").phase == "Unknown"

    run(scenario)


def test_containers_have_restart_policies_of_their_own(tmp_path: Path) -> None:
    """As a manifest gives them: each goes before the pod's."""
    policies = {"main": "Always", "failing": "OnFailure", "once": "Never", "plain": ""}
    containers = [{"name": name, "image": "image:1", "restartPolicy": p} for name, p in policies.items()]
    meta = {"namespace": "default"}
    manifest = make_pod(*containers, metadata=meta, nodeName=NODE, hostNetwork=True, restartPolicy="Never")

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(manifest)
            for code, again in ((1, {"main", "failing"}), (0, {"main"})):
                for name in {c.labels[LABEL_CONTAINER] for c in world.runtime.running()}:
                    await world.end("web", code, container=name)
                await world.advance(600)
                assert {c.labels[LABEL_CONTAINER] for c in world.runtime.running()} == again
            assert world.status("web").phase == "Running"

    run(scenario)
