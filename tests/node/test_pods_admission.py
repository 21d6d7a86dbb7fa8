"""Admission is asked once for each spec: what was admitted stays so, what is new waits for a word.

Whatever becomes of labels, settings or the plugin: nothing that runs is stopped for it, or not started again.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.admission import AdmissionRequest, AdmissionWarning, Violation
from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.policy import Namespace
from edgeagent.api.objects.probe import ExecAction, Probe
from edgeagent.api.objects.security import SeccompProfile, SecurityContext
from edgeagent.api.runtime import ExecResult
from edgeagent.node.plugins.facades import MissingAdmission
from tests.node.fakeadmission import FakeAdmission
from tests.node.podworld import FakeNetwork, PodWorld, container, pod, run, with_spec

NO = [Violation(field="spec.hostNetwork", message="no")]
DOWN: list[Exception] = [TemporaryError("busy", reason="PluginBackoff")]


def namespace(**labels: str) -> Namespace:
    """The namespace of all pods here."""
    meta = ObjectMeta(name="default", uid="uid-default", labels=labels)
    return Namespace(api_version="v1", metadata=meta)


def labelled(made: Pod, **labels: str) -> Pod:
    """The pod with these labels, and a higher generation."""
    metadata = msgspec.structs.replace(made.metadata, labels=labels, generation=made.metadata.generation + 1)
    return msgspec.structs.replace(made, metadata=metadata)


def with_default_profile(made: Pod) -> Pod:
    """What a plugin may make of a pod."""
    context = SecurityContext(seccomp_profile=SeccompProfile(type="RuntimeDefault"))
    changed = [msgspec.structs.replace(one, security_context=context) for one in made.spec.containers]
    return with_spec(made, containers=changed)


def refusing(world: PodWorld, violations: Sequence[Violation] = NO) -> FakeAdmission:
    """The plugin of this world, which refuses everything from now on."""
    admission = world.admission
    assert admission is not None
    admission.violations = list(violations)
    return admission


@pytest.mark.parametrize("how", ["restart", "reboot", "goes on"])
@pytest.mark.parametrize("why", ["refuses", "does not answer"])
def test_what_was_admitted_stays_so(tmp_path: Path, how: str, why: str) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        admission.change = with_default_profile
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            reviews = admission.reviews
            if why == "refuses":
                refusing(world)
            else:
                admission.failures = DOWN * 10_000
            await world.apply(pod("a"), namespace(strict="yes"))
            if how != "goes on":
                await world.restart(reboot=how == "reboot")
            first = world.running("a")
            await world.end("a", 1)
            await world.advance(20)
            assert world.running("a").id != first.id
            assert world.status("a").reason == ""
            assert admission.reviews == reviews
            assert world.container("a").restart_count == (2 if how == "reboot" else 1)

    run(scenario)


@pytest.mark.parametrize("reboot", [False, True])
@pytest.mark.parametrize("why", ["refused", "not answered", "unsupported"])
def test_a_refused_change_leaves_what_was_admitted_over_restarts(
    tmp_path: Path, reboot: bool, why: str
) -> None:
    """Its containers are run again, and probed, by an agent that was started since."""

    async def scenario() -> None:
        admission, network = FakeAdmission(), FakeNetwork()
        admission.change = with_default_profile
        async with PodWorld(tmp_path, admission=admission, network=network) as world:
            probe = Probe(exec=ExecAction(command=["ask"]), failure_threshold=1)
            await world.apply(pod("a", container(liveness_probe=probe), host_network=False))
            after = pod("a", container(image="image:2"), host_network=False, generation=2)
            if why == "refused":
                refusing(world)
            elif why == "unsupported":
                after = with_spec(after, runtime_class_name="other")
            else:
                admission.failures = DOWN * 10_000
            await world.apply(after)
            await world.restart(reboot=reboot)
            assert world.running("a").image == "image:1"
            assert world.condition("a", "Accepted").status == "False"
            assert world.status("a").observed_generation == 2
            assert world.runtime.configs[world.running("a").id].network == "/run/netns/uid-a"
            await world.end("a", 1)
            await world.advance(30)
            first = world.running("a")
            assert first.image == "image:1"
            world.runtime.on_exec = lambda _container, _command: ExecResult(exit_code=1)
            await world.advance(11)
            world.runtime.on_exec = lambda _container, _command: ExecResult(exit_code=0)
            await world.advance(60)
            assert world.running("a").id != first.id
            # Taken back, it is as it was admitted, and nobody is asked.
            before = container(liveness_probe=probe)
            reviews, running = admission.reviews, world.running("a").id
            await world.apply(pod("a", before, host_network=False, generation=3))
            assert (admission.reviews, world.running("a").id) == (reviews, running)
            assert not [one for one in world.status("a").conditions if one.type == "Accepted"]

    run(scenario)


def test_a_new_pod_waits_for_a_plugin_that_does_not_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            admission.failures = DOWN * 10_000
            await world.apply(pod("a"))
            said = ("AdmissionUnavailable", "pods wait for admission plugin fake: busy")
            assert world.waiting("a") == said
            assert world.status("a").phase == "Pending"
            assert [event.message for event in world.said("AdmissionUnavailable")] == [said[1]]
            await world.restart()
            assert world.waiting("a") == said
            admission.failures = []
            await world.advance(301)
            assert world.runs("a")

    run(scenario)


def test_a_plugin_that_hangs_holds_no_admitted_pod_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission, network = FakeAdmission(), FakeNetwork()
        async with PodWorld(tmp_path, admission=admission, network=network) as world:
            await world.apply(pod("a"), pod("b", host_network=False))
            world.plugin.hold = "review"
            new = [pod(f"new-{number}") for number in range(40)]
            await world.apply(pod("a"), pod("b", host_network=False), *new)
            await world.end("a", 1)
            await world.end("b", 1)
            await world.advance(20)
            assert world.runs("a")
            assert world.runs("b")
            assert not any(world.runs(one.metadata.name) for one in new)
            world.plugin.release()
            await world.clock.settle()
            assert all(world.runs(one.metadata.name) for one in new)

    run(scenario)


def test_the_labels_of_its_namespace_are_told_and_followed(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            refusing(world)
            await world.apply(pod("a"))
            assert admission.requests[-1] == AdmissionRequest()
            admission.violations = []
            # The pod is the same: that its namespace is another has it judged anew.
            await world.apply(pod("a"), namespace(level="low"))
            assert admission.requests[-1] == AdmissionRequest(namespace_labels={"level": "low"})
            assert world.runs("a")
            assert len(world.said("AdmissionRefused")) == 1

    run(scenario)


def test_static_pods_are_told_from_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            made = pod("s", uid="uid-static")
            world.manager.static_changed({"uid-static": made, "uid-default": namespace(of="folder")})
            await world.clock.settle()
            assert admission.requests == [AdmissionRequest(namespace_labels={"of": "folder"}, static=True)]
            await world.apply(pod("a"), namespace(of="hub"))
            assert admission.requests[-1] == AdmissionRequest(namespace_labels={"of": "hub"})

    run(scenario)


def test_warnings_are_events_and_audit_is_a_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        admission.warnings = [AdmissionWarning(reason="PodSecurityWarning", message="would violate")]
        admission.audit = ["pod default/a would violate more"]
        caplog.set_level("INFO", "edgeagent.node.pods.admission")
        async with PodWorld(tmp_path, admission=admission) as world:
            refusing(world)
            await world.apply(pod("a"))
            assert world.said("PodSecurityWarning") == []
            admission.violations = []
            await world.apply(pod("a"), namespace())
            await world.restart()
            await world.advance(4000)
            [event] = world.said("PodSecurityWarning")
            assert (event.type, event.message, event.count) == ("Warning", "would violate", 1)
            assert (event.involved_object.uid, event.involved_object.name) == ("uid-a", "a")
            lines = [one.message for one in caplog.records if "audit" in one.message]
            assert lines == ["audit: pod default/a would violate more"]

    run(scenario)


def test_a_change_of_metadata_alone_is_not_judged(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        admission.change = with_default_profile
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            before = world.running("a").id
            refusing(world)
            await world.apply(labelled(pod("a"), app="web"))
            assert (world.running("a").id, admission.reviews) == (before, 1)
            assert world.status("a").observed_generation == 2
            assert world.status("a").reason == ""

    run(scenario)


@pytest.mark.parametrize("profile", ["before", "since"])
def test_a_pod_that_runs_and_was_never_written_down_is_admitted(tmp_path: Path, profile: str) -> None:
    """The store was lost, or an edgeagent ran it that kept no word; as it was, or as plugins made it."""

    async def scenario() -> None:
        admission = FakeAdmission()
        if profile == "since":
            admission.change = with_default_profile
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"), pod("b"))
            running = world.running("a").id
            await world.crash()
            with world.database.batched() as connection:
                connection.execute("DELETE FROM admitted")
            admission.change = with_default_profile
            refusing(world)
            changed = pod("b", container(image="image:2"), generation=2)
            await world.restart(reboot=True)
            await world.apply(pod("a"), changed, pod("c"))
            assert world.running("a").id != running, "after the reboot"
            await world.end("a", 1)
            await world.advance(20)
            assert world.runs("a")
            assert world.status("c").reason == "AdmissionRefused"
            assert world.runs("c") == []
            # Only what runs as it is desired counts.
            assert world.status("b").reason == "AdmissionRefused"
            assert [one.image for one in world.runs("b")] == ["image:1"]

    run(scenario)


def test_a_pod_that_was_gone_is_judged_as_a_new_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path, admission=FakeAdmission()) as world:
            await world.apply(pod("a"))
            await world.apply()
            assert world.database.rows("SELECT * FROM admitted") == []
            refusing(world)
            await world.apply(pod("a"))
            assert world.status("a").reason == "AdmissionRefused"

    run(scenario)


def test_what_is_written_down_and_cannot_be_read_is_asked_for_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            await world.end("a", 1)
            await world.crash()
            with world.database.batched() as connection:
                connection.execute("UPDATE admitted SET body = ?", (b"{",))
            await world.restart()
            await world.advance(20)
            assert world.runs("a")

    run(scenario)


def test_a_plugin_that_must_be_asked_and_is_not_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        missing = MissingAdmission("security", "plugins.security.default_level: wrong")
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            world.manager._admissions._plugins = [missing]
            await world.apply(pod("a"), pod("b"))
            await world.end("a", 1)
            await world.advance(20)
            assert world.runs("a")
            why = "it is not used: plugins.security.default_level: wrong"
            said = f"pods wait for admission plugin security: {why}"
            assert world.waiting("b") == ("AdmissionUnavailable", said)

    run(scenario)


def test_two_restarts_of_a_hundred_pods_ask_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        admission = FakeAdmission()
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(*(pod(f"p{number}") for number in range(100)))
            assert admission.reviews == 100
            await world.restart()
            await world.restart(reboot=True)
            assert admission.reviews == 100

    run(scenario)
