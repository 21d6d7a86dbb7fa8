"""Pod Security Standards and rules for images on real parts: what is refused, and what goes on anyway.

https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import AgentProcess, Cluster, containers, running, sleeper
from tests.support.lone import LoneAgent, is_running, static_pod
from tests.support.podman import PodmanService
from tests.support.registry import Registry
from tests.support.waiting import wait_for

NODE = "n1"
PREFIX = "pod-security.kubernetes.io/"
HOST_NETWORK = 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share a cluster."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def cluster(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose one node enforces what edgeagent enforces by default."""
    with Cluster(tmp_path_factory.mktemp("admission"), podman) as made:
        made.add_node(NODE, pod_security="baseline").start()
        yield made


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> AgentProcess:
    """The cluster's node."""
    return cluster.nodes[NODE]


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "cluster" in request.fixturenames:
        made: Cluster = request.getfixturevalue("cluster")
        for name in ("default", "open"):
            made.ctl("delete", "pod", "--all", "-n", name, "--wait=false", "--ignore-not-found")
        wait_for(lambda: not containers(made.podman), 20, "all containers to be removed")


def namespace(name: str, **modes: str) -> dict[str, object]:
    """A namespace with these levels."""
    labels = {f"{PREFIX}{mode}": level for mode, level in modes.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def placed(made: dict[str, Any], where: str) -> dict[str, Any]:
    """The manifest, in a namespace."""
    return {**made, "metadata": {**made["metadata"], "namespace": where}}


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """One of a pod's conditions; empty where it has none of the kind."""
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


@pytest.mark.installed
def test_a_refused_pod_names_rule_and_field(cluster: Cluster, node: AgentProcess) -> None:
    cluster.apply(sleeper("plain", NODE))
    said = f"spec.hostNetwork: {HOST_NETWORK}"

    def status() -> dict[str, Any]:
        found: dict[str, Any] = (cluster.get("pod", "plain") or {}).get("status", {})
        return found

    wait_for(lambda: status().get("reason") == "AdmissionRefused", 20, "the hub to know of the refusal")
    assert status()["message"] == said
    assert status()["phase"] == "Pending"
    accepted = condition(status(), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "AdmissionRefused")
    assert said in accepted["message"]
    waiting = status()["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "AdmissionRefused"
    wait_for(lambda: said in cluster.ctl("get", "events").stdout, 20, "the event at the hub")
    assert "AdmissionRefused" in cluster.ctl("describe", "pod", "plain").stdout
    assert containers(cluster.podman) == []
    # A label of its namespace lets it in; the warning is told all the same.
    cluster.apply(namespace("default", enforce="privileged", warn="baseline", audit="restricted"))
    cluster.wait_phase("plain", "Running")
    would = HOST_NETWORK.replace("violates", "would violate")
    wait_for(lambda: would in cluster.ctl("get", "events").stdout, 20, "the warning at the hub")
    assert "PodSecurityWarning" in cluster.ctl("get", "events").stdout
    log = node.process.log.read_text()
    assert 'audit: pod default/plain would violate PodSecurity "restricted:latest": host namespaces' in log
    cluster.ctl("delete", "namespace", "default")


def test_what_was_admitted_goes_on_whatever_its_namespace_becomes(
    cluster: Cluster, node: AgentProcess
) -> None:
    podman = cluster.podman
    cluster.apply(namespace("open", enforce="privileged"), placed(sleeper("kept", NODE), "open"))
    cluster.wait_phase("kept", "Running", namespace="open")
    [first] = running(podman)
    cluster.apply(namespace("open", enforce="restricted"), placed(sleeper("new", NODE), "open"))
    wait_for(
        lambda: node.pod("new", "open").get("status", {}).get("reason") == "AdmissionRefused",
        20,
        "the new pod to be refused",
    )
    assert [seen.id for seen in running(podman)] == [first.id]

    # Without the broker, an agent that starts anew takes it up, and runs it again when it ends.
    node.process.terminate()
    cluster.broker.terminate()
    try:
        node.start()
        wait_for(lambda: node.pod("kept", "open").get("status", {}).get("phase") == "Running", 20, "the pod")
        assert [seen.id for seen in running(podman)] == [first.id]
        podman.run("kill", first.id)
        wait_for(
            lambda: [s.pod for s in running(podman) if s.id != first.id] == ["kept"], 30, "it to run again"
        )
        assert not node.pod("kept", "open")["status"].get("reason")
    finally:
        cluster.start_broker()

    # A change is judged anew; what runs goes on as it was, also for an agent that did not see it admitted.
    [second] = running(podman)
    cluster.apply(placed(sleeper("kept", NODE, seconds=1234), "open"))
    wait_for(
        lambda: node.pod("kept", "open").get("status", {}).get("reason") == "AdmissionRefused",
        20,
        "the change to be refused",
    )
    node.process.terminate()
    node.start()
    wait_for(lambda: node.pod("kept", "open").get("status", {}).get("phase") == "Running", 20, "the pod")
    assert [seen.id for seen in running(podman)] == [second.id]
    podman.run("kill", second.id)
    wait_for(lambda: [s.pod for s in running(podman) if s.id != second.id] == ["kept"], 30, "it to run again")
    [third] = running(podman)
    command = podman.run("inspect", "--format", "{{.Path}} {{.Args}}", third.id).stdout.split()
    assert command == ["sleep", "[3600]"]
    assert "restricted:latest" in condition(node.pod("kept", "open")["status"], "Accepted")["message"]


def test_settings_that_are_wrong_keep_new_pods_waiting_and_admitted_ones_running(
    cluster: Cluster, node: AgentProcess
) -> None:
    podman, before = cluster.podman, node.config.read_text()
    cluster.apply(namespace("open", enforce="privileged"), placed(sleeper("kept", NODE), "open"))
    cluster.wait_phase("kept", "Running", namespace="open")
    [first] = running(podman)
    node.process.terminate()
    node.config.write_text(before.replace('default_level = "baseline"', 'default_level = "basline"'))
    try:
        node.start()
        cluster.apply(placed(sleeper("new", NODE), "open"))
        wait_for(
            lambda: node.pod("new", "open").get("status", {}).get("reason") == "AdmissionUnavailable",
            20,
            "the new pod to wait",
        )
        message = node.pod("new", "open")["status"]["message"]
        assert message.startswith(
            "pods wait for admission plugin security: it is not used: plugins.security."
        )
        podman.run("kill", first.id)
        wait_for(
            lambda: [s.pod for s in running(podman) if s.id != first.id] == ["kept"], 30, "it to run again"
        )
    finally:
        node.process.terminate()
        node.config.write_text(before)
        node.start()
    cluster.wait_phase("new", "Running", namespace="open")


@pytest.fixture
def lone(tmp_path: Path, podman: PodmanService) -> Iterator[LoneAgent]:
    """An agent that judges the pods of its folder too."""
    with LoneAgent(tmp_path, podman, extra='[plugins.security]\nstatic_pods = "enforce"\n') as agent:
        yield agent


RESTRICTED: dict[str, Any] = {
    "hostNetwork": False,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
}
HARDENED = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}


def test_what_each_level_admits_runs_as_the_kernel_says(lone: LoneAgent) -> None:
    strict, free = namespace("strict", enforce="restricted"), namespace("free", enforce="privileged")
    hardened = static_pod("hardened", namespace="strict", container=HARDENED, **RESTRICTED)
    with lone.running(hardened, strict):
        (seen,) = [one for one in containers(lone.podman) if one.pod == lone.full_name("hardened")]
        status = lone.podman.run("exec", seen.id, "cat", "/proc/1/status").stdout
        assert "Seccomp:\t2" in status, "a filter, though the pod names no profile"
        assert "NoNewPrivs:\t1" in status
        assert "CapBnd:\t0000000000000000" in status
    plain = static_pod("plain", namespace="strict", **RESTRICTED)
    lone.write("plain", [strict, plain])
    lone.wait_status("plain", lambda s: s.get("reason") == "AdmissionRefused", namespace="strict")
    message = lone.status("plain", "strict")["message"]
    assert "spec.containers[0].securityContext.allowPrivilegeEscalation: violates PodSecurity" in message
    assert "seccompProfile" not in message
    lone.remove("plain")
    profile = {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}
    with lone.running(static_pod("unconfined", namespace="free", container=profile), free):
        (seen,) = [one for one in containers(lone.podman) if one.pod == lone.full_name("unconfined")]
        assert "Seccomp:\t0" in lone.podman.run("exec", seen.id, "cat", "/proc/1/status").stdout


def test_an_image_that_policy_json_refuses(tmp_path: Path, podman_service: PodmanService) -> None:
    """By Podman when it is pulled; where the settings ask for signatures, it is not even tried."""
    del podman_service  # what other tests need is made once
    with Registry(tmp_path / "registry") as registry:
        podman = PodmanService(insecure_registries=[registry.address])
        home = podman.directory / "home"
        file = home / ".config/containers/policy.json"
        file.parent.mkdir(parents=True)
        anything = [{"type": "insecureAcceptAnything"}]
        file.write_text(json.dumps({"default": anything}))
        podman.env["HOME"] = str(home)
        podman.process.env = dict(podman.env)
        try:
            podman.start()
            local, image = podman.import_busybox(), f"{registry.address}/edge/app:1"
            podman.run("tag", local, image)
            podman.run("push", "--quiet", "--tls-verify=false", image)
            podman.run("untag", local, image)
            scopes = {"docker": {registry.address: [{"type": "reject"}]}}
            file.write_text(json.dumps({"default": anything, "transports": scopes}))
            extra = (
                '[plugins.security]\nstatic_pods = "enforce"\ndefault_level = "privileged"\n'
                f'[plugins.security.images]\nrequire_signatures = ["{registry.address}/signed"]\n'
                f'policy_file = "{file}"\n'
            )
            with LoneAgent(tmp_path / "lone", podman, extra=extra) as lone:
                _refused_at_pull(lone, image, file, anything)
                _refused_by_settings(lone, f"{registry.address}/signed/app:1", file)
        finally:
            podman.close()


def _refused_at_pull(lone: LoneAgent, image: str, file: Path, anything: list[dict[str, str]]) -> None:
    lone.write("pulled", static_pod("pulled", container={"image": image}))
    lone.wait_status(
        "pulled",
        lambda status: _waiting(status).get("reason") == "SignatureValidationFailed",
        what="the pull to be refused",
    )
    assert "is refused by the node's policy.json: " in _waiting(lone.status("pulled"))["message"]
    events = [event for event in lone.events("pulled") if event["reason"] == "Failed"]
    assert events
    assert events[0]["message"].startswith(f"SignatureValidationFailed: {image} is refused by")
    file.write_text(json.dumps({"default": anything}))
    lone.wait_status("pulled", is_running, timeout=60)


def _refused_by_settings(lone: LoneAgent, image: str, file: Path) -> None:
    lone.write("unsigned", static_pod("unsigned", container={"image": image}))
    lone.wait_status("unsigned", lambda status: status.get("reason") == "AdmissionRefused")
    rule = f'image "{image}" must be signed (plugins.security.images.require_signatures)'
    why = f"default of {file} has neither signedBy nor sigstoreSigned"
    assert lone.status("unsigned")["message"] == f"spec.containers[0].image: {rule}: {why}"


def _waiting(status: dict[str, Any]) -> dict[str, Any]:
    found = status.get("containerStatuses", [])
    waiting: dict[str, Any] = found[0]["state"].get("waiting", {}) if found else {}
    return waiting
