"""Pods that are changed, deleted, made again and reported, and many of them at once."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.admission import Violation
from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import EnvVar
from edgeagent.api.objects.pod import Pod
from tests.node.fakeadmission import FakeAdmission
from tests.node.podworld import (
    RESYNC,
    FakeNetwork,
    PodWorld,
    container,
    pod,
    run,
)

TEMPORARY = TemporaryError("try later", reason="RuntimeBusy")
PERMANENT = PermanentError("never so", reason="BadConfig")


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
            assert world.status("a").reason == "AdmissionUnavailable"
            assert world.status("a").message == "pods wait for admission plugin fake: busy"
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
            world.plugin.hold = "signal_container"
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
            world.fail("signal_container", TEMPORARY)
            await world.apply(pod("a", container("one"), generation=2))
            await world.advance(1)
            assert "try later" in world.status("a").message
            await world.advance(600)
            assert world.calls("signal_container") <= 20
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
            world.runtime.deaf = {running.id for running in world.runtime.running()}
            await world.apply(pod("new"))
            assert world.runs("new")
            await world.advance(29)
            assert len(world.runtime.running()) == 41
            await world.advance(1)
            assert [running.exit_code for running in world.runtime.containers.values()] == [0]
            assert world.runs("new")

    run(scenario)


def _bug(namespace: str, name: str) -> None:
    raise KeyError(namespace, name)


def test_a_bug_in_one_pod_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            monkeypatch.setattr(world.manager._desired, "find", _bug)
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
