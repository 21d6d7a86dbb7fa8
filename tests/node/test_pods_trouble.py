"""Pods whose runtime, image, secret or network gives trouble: said, waited for, and got over."""

from pathlib import Path

import msgspec
import pytest

from edgeagent.api.admission import Violation
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import EnvVar
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.volume import Volume, VolumeMount
from edgeagent.api.runtime import LABEL_POD_NAME
from tests.node.fakeadmission import FakeAdmission
from tests.node.indexes import config_map
from tests.node.podworld import (
    RESYNC,
    FakeNetwork,
    FakeUnsealer,
    PodWorld,
    container,
    from_secret,
    pod,
    run,
    sealed_secret,
)
from tests.support.waiting import wait_for_async

TEMPORARY = TemporaryError("try later", reason="RuntimeBusy")
PERMANENT = PermanentError("never so", reason="BadConfig")


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
            await world.advance(3600)
            assert world.calls() == world.calls("list_containers") <= 70
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


@pytest.mark.parametrize("method", ["signal_container", "remove_container"])
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
            world.fail("signal_container", error)
            await world.apply(pod("a", container(image="image:2"), generation=2))
            assert world.running("a").image == "image:1"
            await world.advance(3600)
            assert world.calls("signal_container") <= 40
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


def test_a_pod_that_is_deleted_with_its_config_map_while_it_is_prepared_lacks_nothing(tmp_path: Path) -> None:
    network = FakeNetwork()
    volume = convert({"name": "conf", "configMap": {"name": "conf"}}, Volume)
    made = pod("a", container(volume_mounts=[VolumeMount(name="conf", mount_path="/c")]), host_network=False)
    made = msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, volumes=[volume]))

    async def scenario() -> None:
        async with PodWorld(tmp_path, network=network) as world:
            world.plugin.hold = "attach"
            await world.apply(config_map("conf"), made)
            await world.apply()
            world.plugin.release()
            await wait_for_async(lambda: world.gone == ["uid-a"])
            assert world.said("FailedMount") == []
            assert world.calls("create_container") == 0

    run(scenario)


def test_a_left_over_that_could_not_be_removed_and_went_by_itself_is_no_trouble_any_more(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", container(), container("other")))
            left = world.running("a", "other").id
            world.fail("remove_container", PERMANENT)
            await world.apply(pod("a", generation=2))
            await world.advance(RESYNC - 5)
            assert world.status("a").reason == PERMANENT.reason
            tried = world.calls("remove_container")
            del world.runtime.containers[left]  # somebody else was here, as the next list tells
            await world.advance(2 * RESYNC)
            assert world.calls("remove_container") == tried
            assert (world.status("a").reason, world.status("a").message) == ("", "")

    run(scenario)
