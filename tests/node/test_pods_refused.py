"""Running pods whose update is refused, or whose surroundings are: they are looked after as they were."""

import asyncio
from pathlib import Path

import pytest

from edgeagent.api.admission import Violation
from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.probe import ExecAction, Probe
from edgeagent.api.runtime import ExecResult
from tests.node.fakeadmission import FakeAdmission
from tests.node.podworld import FakeNetwork, PodWorld, container, pod, run, with_spec

REFUSALS = ["unsupported", "forbidden", "unanswered"]


async def refuse_change(world: PodWorld, before: Pod, why: str) -> None:
    """Desire another image for the pod, in a way that is refused."""
    after = with_spec(before, containers=[container(image="image:2")])
    after = pod("a", *after.spec.containers, generation=2)
    if why == "unsupported":
        after = with_spec(after, runtime_class_name="other")
    admission = world.admission
    assert admission is not None
    if why == "forbidden":
        admission.violations = [Violation(field="spec", message="no")]
    if why == "unanswered":
        admission.failures = [TemporaryError("busy", reason="AdmissionDown")] * 10_000
    await world.apply(after)


@pytest.mark.parametrize("why", REFUSALS)
def test_a_pod_whose_change_is_refused_can_be_evicted(tmp_path: Path, why: str) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path, admission=FakeAdmission()) as world:
            await world.apply(pod("a"))
            await refuse_change(world, pod("a"), why)
            assert world.running("a").image == "image:1"
            await asyncio.wait_for(world.manager.evict("uid-a", "no memory", 0), 10)
            assert world.runtime.running() == []
            assert (world.status("a").phase, world.status("a").reason) == ("Failed", "Evicted")

    run(scenario)


@pytest.mark.parametrize("agent_restarts", [False, True])
@pytest.mark.parametrize("why", REFUSALS)
def test_a_pod_whose_change_is_refused_keeps_its_deadline(
    tmp_path: Path, why: str, agent_restarts: bool
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path, admission=FakeAdmission()) as world:
            before = with_spec(pod("a"), active_deadline_seconds=1000)
            await world.apply(before)
            await refuse_change(world, before, why)
            [refused] = world.objects
            assert isinstance(refused, Pod)
            await world.apply(with_spec(refused, active_deadline_seconds=1000))
            if agent_restarts:
                await world.restart()
            await world.advance(990)
            assert world.runs("a")
            assert world.condition("a", "Accepted").status == "False"
            await world.advance(10)
            assert world.runtime.running() == []
            assert (world.status("a").phase, world.status("a").reason) == ("Failed", "DeadlineExceeded")

    run(scenario)


@pytest.mark.parametrize("why", REFUSALS)
def test_a_pod_whose_change_is_refused_is_restarted_and_probed(tmp_path: Path, why: str) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path, admission=FakeAdmission()) as world:
            probe = Probe(exec=ExecAction(command=["ask"]), failure_threshold=1)
            before = pod("a", container(liveness_probe=probe))
            await world.apply(before)
            await refuse_change(world, before, why)
            said = len(world.said("FieldNotSupported"))
            await world.end("a", 1)
            assert world.running("a").image == "image:1"
            assert world.condition("a", "Accepted").status == "False"
            assert world.status("a").observed_generation == 2
            world.runtime.on_exec = lambda _container, _command: ExecResult(exit_code=1)
            await world.advance(11)
            waiting = world.container("a").state.waiting
            assert waiting is not None
            assert waiting.reason == "CrashLoopBackOff"
            world.runtime.on_exec = lambda _container, _command: ExecResult(exit_code=0)
            await world.advance(30)
            assert world.container("a").restart_count == 2
            assert len(world.said("FieldNotSupported")) == said
            # Taken back: the change is made.
            admission = world.admission
            assert admission is not None
            admission.violations, admission.failures = [], []
            await world.apply(pod("a", container(image="image:2"), generation=3))
            assert world.running("a").image == "image:2"
            assert not [c for c in world.status("a").conditions if c.type == "Accepted"]

    run(scenario)


def test_an_admission_plugin_that_does_not_answer_is_asked_ever_less(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            await refuse_change(world, pod("a"), "unanswered")
            left = len(admission.failures)
            await world.advance(3600)
            assert left - len(admission.failures) < 30
            admission.failures = []
            await world.advance(301)
            assert world.running("a").image == "image:2"

    run(scenario)


def test_a_running_pod_whose_network_is_not_found_again_ends_but_makes_no_container(tmp_path: Path) -> None:
    async def scenario() -> None:
        network = FakeNetwork()
        async with PodWorld(tmp_path, network=network) as world:
            await world.apply(pod("a", host_network=False))
            network.failures = [TemporaryError("not now", reason="NetworkDown")] * 10_000
            await world.restart()
            assert world.status("a").reason == "NetworkDown"
            await world.end("a", 1)
            await world.advance(60)
            assert world.runs("a") == []
            network.failures = []
            await world.advance(301)
            assert world.runtime.configs[world.running("a").id].network == "/run/netns/uid-a"
            network.failures = [TemporaryError("not now", reason="NetworkDown")]
            await world.restart()
            assert world.status("a").reason == "NetworkDown"
            await asyncio.wait_for(world.manager.evict("uid-a", "no memory", 0), 10)
            assert world.status("a").reason == "Evicted"

    run(scenario)
