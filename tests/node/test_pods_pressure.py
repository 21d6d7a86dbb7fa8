"""Pods on a node under pressure: evicted ones wait and come back, others wait to be begun, the rest goes on.

docs/adr/0011-evicted-pods-come-back.md
"""

import asyncio
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.objects.container import ResourceRequirements
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.node.pods.lookup import Lookup, PodFacts
from edgeagent.node.pods.means import NodeFacts
from edgeagent.node.pods.volumes import Volumes
from tests.node.indexes import NODE
from tests.node.podworld import TRANSITION, FakeNetwork, PodWorld, container, pod, run, with_spec
from tests.support.waiting import wait_for_async


def sized(name: str) -> Pod:
    """A Burstable pod."""
    resources = ResourceRequirements(requests={"memory": "1Mi"})
    return pod(name, container(resources=resources))


def files_of(path: Path) -> list[Path]:
    return list((path / "pods").glob("uid-a/**/*"))


async def evict(world: PodWorld, name: str) -> None:
    """Let pressure evict a pod; calm comes back with the test."""
    await world.pressure("MemoryPressure")
    await world.manager.evict(f"uid-{name}", "The node was low on resource: memory. ", 0)
    await world.clock.settle()


def test_an_evicted_pod_gives_everything_back(tmp_path: Path) -> None:
    made = pod("a", host_network=False)
    spec = {**msgspec.to_builtins(made.spec), "volumes": [{"name": "scratch", "emptyDir": {}}]}
    made = msgspec.structs.replace(made, spec=convert(spec, PodSpec))
    network = FakeNetwork()

    async def scenario() -> None:
        async with PodWorld(tmp_path, network=network) as world:
            await world.apply(made, pod("b"))
            await wait_for_async(lambda: world.runs("a"))  # folders are made in threads, and removed so
            assert files_of(tmp_path)
            await evict(world, "a")
            assert files_of(tmp_path) == []
            status = world.status("a")
            assert (status.phase, status.reason) == ("Failed", "Evicted")
            assert status.message == "The node was low on resource: memory. "
            [left] = world.runtime.containers.values()
            assert left.labels["io.edgeagent.pod.name"] == "b"
            assert network.log[-1] == ("detach", "uid-a")
            assert world.status("b").phase == "Running"

    run(scenario)


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_each_eviction_doubles_the_wait_up_to_an_hour(tmp_path: Path, policy: str) -> None:
    made = with_spec(pod("a"), restart_policy=policy)

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(made)
            for wait in (300, 600, 1200, 2400, 3600, 3600):
                await evict(world, "a")
                await world.pressure()
                await world.advance(wait - 1)
                assert not world.runs("a"), wait
                assert world.status("a").reason == "Evicted"
                await world.advance(1)
                assert world.runs("a"), wait
                status = world.status("a")
                assert (status.phase, status.reason, status.message) == ("Running", "", "")

    run(scenario)


def test_an_eviction_in_the_midst_of_a_look_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its containers have just ended by themselves, and the pod would be over as one that succeeded."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", policy="Never"))
            await world.pressure("MemoryPressure")
            real, evictions = Volumes.prepare, list[asyncio.Task[None]]()

            async def prepare(self: Volumes, facts: PodFacts, lookup: Lookup) -> bool:
                evictions.append(asyncio.create_task(world.manager.evict("uid-a", "no memory", 0)))
                await asyncio.sleep(0)
                return await real(self, facts, lookup)

            monkeypatch.setattr(Volumes, "prepare", prepare)
            world.plugin.hold = "wait_container"
            await world.end("a", 0)
            await world.apply(pod("a", policy="Never", generation=2))
            world.plugin.release()
            await world.clock.settle()
            await asyncio.wait_for(evictions[0], 10)
            assert (world.status("a").phase, world.status("a").reason) == ("Failed", "Evicted")

    run(scenario)


def test_calm_alone_and_the_wait_alone_are_not_enough(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await evict(world, "a")
            await world.advance(10 * TRANSITION)
            assert not world.runs("a"), "the pressure lasts"
            await world.pressure(calm=False)
            await world.advance(TRANSITION)
            assert not world.runs("a")
            await world.pressure()
            assert world.runs("a")

    run(scenario)


def test_a_day_without_eviction_is_forgiven(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            for _ in range(3):
                await evict(world, "a")
                await world.pressure()
                await world.advance(3600)
            await world.advance(86_400)
            await evict(world, "a")
            await world.pressure()
            await world.advance(TRANSITION)
            assert world.runs("a")

    run(scenario)


@pytest.mark.parametrize("reboot", [False, True])
def test_the_wait_outlasts_a_restart(tmp_path: Path, reboot: bool) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            for _ in range(2):
                await evict(world, "a")
                await world.pressure()
                await world.advance(TRANSITION)
            await world.advance(100)
            await world.restart(reboot=reboot)
            assert world.status("a").reason == "Evicted"
            await world.pressure()
            await world.advance(199)
            assert not world.runs("a")
            await world.advance(1)
            assert world.runs("a")

    run(scenario)


def test_a_clock_that_was_set_back_begins_the_wait_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await evict(world, "a")
            world.clock.set_wall_clock(-1e6)
            await world.pressure()
            await world.advance(TRANSITION - 1)
            assert not world.runs("a")
            await world.advance(1)
            assert world.runs("a")

    run(scenario)


def test_what_comes_back_is_new(tmp_path: Path) -> None:
    """Its init containers run again, and its deadline counts from its return."""
    made = with_spec(pod("a", policy="Never"), init_containers=[container("init")])
    made = with_spec(made, active_deadline_seconds=1000)

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(made)
            await world.end("a", 0, container="init")
            await world.advance(900)
            assert world.runs("a")
            await evict(world, "a")
            await world.pressure()
            await world.advance(TRANSITION)
            assert world.runs("a", "init")
            assert not world.runs("a")
            await world.end("a", 0, container="init")
            assert world.runs("a")
            await world.advance(999)
            assert world.status("a").phase == "Running"
            await world.advance(1)
            assert world.status("a").reason == "DeadlineExceeded"

    run(scenario)


def test_an_evicted_pod_may_be_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await evict(world, "a")
            await world.apply()
            assert world.gone == ["uid-a"]
            await world.pressure()
            await world.advance(7200)
            assert world.runtime.containers == {}

    run(scenario)


def test_pods_that_do_not_run_yet_wait_for_the_pressure_to_pass(tmp_path: Path) -> None:
    network = FakeNetwork()

    async def scenario() -> None:
        async with PodWorld(tmp_path, network=network) as world:
            await world.pressure("DiskPressure")
            await world.apply(pod("a", host_network=False))
            await world.advance(3600)
            assert world.calls("create_container") == 0
            assert network.log == []
            condition = world.condition("a", "Accepted")
            words = ("NodeUnderPressure", "The node had condition: [DiskPressure].")
            assert (condition.status, condition.reason, condition.message) == ("False", *words)
            assert world.waiting("a") == words
            assert world.status("a").phase == "Pending"
            assert [event.message for event in world.said("NodeUnderPressure")] == [words[1]]
            await world.pressure("DiskPressure", "PIDPressure")
            assert "DiskPressure, PIDPressure" in world.waiting("a")[1]
            await world.pressure(calm=False)
            assert world.status("a").phase == "Running"
            assert world.status("a").reason == ""

    run(scenario)


def test_the_deadline_of_a_pod_that_waited_counts_from_its_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.pressure("PIDPressure")
            await world.apply(with_spec(pod("a"), active_deadline_seconds=100))
            await world.advance(1000)
            await world.pressure()
            assert world.status("a").phase == "Running"
            await world.advance(99)
            assert world.status("a").phase == "Running"
            await world.advance(1)
            assert world.status("a").reason == "DeadlineExceeded"

    run(scenario)


def test_under_memory_pressure_alone_only_best_effort_pods_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.pressure("MemoryPressure")
            await world.apply(pod("best-effort"), sized("sized"))
            assert world.runs("sized")
            assert not world.runs("best-effort")
            await world.pressure("MemoryPressure", "PIDPressure")
            await world.apply(pod("best-effort"), sized("sized"), sized("later"))
            assert world.runs("sized")
            assert not world.runs("later")

    run(scenario)


def test_critical_and_static_pods_are_begun_whatever_the_pressure(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.pressure("DiskPressure", "MemoryPressure", "PIDPressure")
            await world.apply(
                with_spec(pod("class"), priority_class_name="system-node-critical"),
                with_spec(pod("low"), priority=1_000_000_000),
            )
            world.manager.static_changed({"uid-static": pod("static")})
            await world.clock.settle()
            assert [bool(world.runs(n)) for n in ("class", "static", "low")] == [True, True, False]

    run(scenario)


@pytest.mark.parametrize("agent_restarts", [False, True])
def test_pods_that_run_are_restarted_as_ever(tmp_path: Path, agent_restarts: bool) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            await world.pressure("DiskPressure")
            await world.end("a", 1)
            if agent_restarts:
                await world.restart()
                await world.pressure("DiskPressure")
            await world.advance(11)
            assert world.runs("a")
            assert world.container("a").restart_count == 1
            assert len(world.started) == 2, "pressure is told of each"

    run(scenario)


def test_a_machine_that_comes_up_with_a_full_disk_runs_what_it_ran(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.fail("list_containers", RuntimeError("not up yet"), times=1)
            await world.restart(reboot=True)
            await world.pressure("DiskPressure")
            await world.apply(pod("a"), pod("new"))
            await world.advance(60)
            assert world.runs("a")
            assert not world.runs("new")

    run(scenario)


def test_a_pod_whose_image_is_being_pulled_was_begun(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.plugin.hold = "create_container"
            await world.apply(pod("a"))
            await world.pressure("DiskPressure")
            world.plugin.release()
            await world.clock.settle()
            assert world.runs("a")
            assert world.said("NodeUnderPressure") == []

    run(scenario)


def forbidden(name: str, sysctl: str, **spec: object) -> Pod:
    """A pod that asks for a sysctl."""
    fields = {
        "containers": [{"name": "main", "image": "image:1", "imagePullPolicy": "IfNotPresent"}],
        "nodeName": NODE,
        "hostNetwork": True,
        "securityContext": {"sysctls": [{"name": sysctl, "value": "1"}]},
        **spec,
    }
    return msgspec.structs.replace(pod(name), spec=convert(fields, PodSpec))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (forbidden("a", "kernel.panic"), '"kernel.panic" not allowlisted'),
        (forbidden("a", "kernel.msgmax"), '"kernel.msgmax" not allowlisted'),
        (forbidden("a", "net.ipv4.tcp_syncookies"), '"net.ipv4.tcp_syncookies" not allowed with host net'),
        (
            forbidden("a", "kernel.shm_rmid_forced", hostIPC=True),
            '"kernel.shm_rmid_forced" not allowed with host ipc',
        ),
    ],
)
def test_a_forbidden_sysctl_is_refused_before_anything_is_made(
    tmp_path: Path, made: Pod, problem: str
) -> None:
    network = FakeNetwork()

    async def scenario() -> None:
        async with PodWorld(tmp_path, network=network) as world:
            await world.apply(made)
            condition = world.condition("a", "Accepted")
            assert (condition.status, condition.reason) == ("False", "SysctlForbidden")
            assert condition.message.startswith("spec.securityContext.sysctls[0].name: forbidden sysctl: ")
            assert problem in condition.message
            assert [event.message for event in world.said("SysctlForbidden")] == [condition.message]
            await world.advance(3600)
            assert [name for name, _ in world.runtime.log if name != "list_containers"] == []
            assert list((tmp_path / "pods").glob("*")) == []
            await world.apply(pod("a", generation=2))
            assert world.status("a").phase == "Running"

    run(scenario)


def test_sysctls_that_this_node_allows(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = PodWorld(tmp_path)
        world.node = NodeFacts(name=NODE, unsafe_sysctls=["kernel.msg*"])
        async with world:
            await world.apply(forbidden("a", "kernel.msgmax"), forbidden("b", "kernel.sem"))
            assert world.runs("a")
            assert not world.runs("b")

    run(scenario)
