"""The life of pods on real parts: what is written in a manifest, and what then runs, ends and is told."""

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import (
    AgentProcess,
    Cluster,
    container,
    containers,
    pod,
    running,
    sleeper,
)
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.registry import Registry
from tests.support.waiting import wait_for

NODE = "n1"


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share a cluster."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def cluster(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose one node runs and is connected."""
    with Cluster(tmp_path_factory.mktemp("lifecycle"), podman) as made:
        made.add_node(NODE).start()
        yield made


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> AgentProcess:
    """The cluster's node."""
    return cluster.nodes[NODE]


@pytest.fixture(autouse=True)
def _no_leftovers(cluster: Cluster, node: AgentProcess, podman: PodmanService) -> Iterator[None]:
    yield
    cluster.ctl("delete", "pod", "--all", "--wait=false", "--ignore-not-found")
    if node.process.running:
        wait_for(lambda: not containers(podman), 20, "all containers to be removed")


def config_map(name: str, **data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


def secret(name: str, **data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": data,
    }


def wait_state(node: AgentProcess, name: str, kind: str, reason: str = "", timeout: float = 20) -> Any:
    """Wait until the pod's first container is in a state, for a reason; returns the container's status."""

    def found() -> Any:
        status = node.container_status(name)
        state = status.get("state", {}).get(kind)
        return status if state is not None and (not reason or state.get("reason") == reason) else None

    try:
        return wait_for(found, timeout, f"{name} to be {kind} {reason}")
    except AssertionError as error:
        raise AssertionError(f"{error}; the pod is {json.dumps(node.pod(name).get('status'))}") from None


def log_of(cluster: Cluster, *arguments: str) -> str:
    return cluster.ctl("logs", *arguments).stdout


def inspect(podman: PodmanService, name: str) -> Any:
    """What Podman knows of the running containers of a pod, by container name."""
    found = {seen.container: seen.id for seen in running(podman) if seen.pod == name}
    details = json.loads(podman.run("inspect", *found.values()).stdout)
    return dict(zip(found, details, strict=True))


@pytest.mark.installed
def test_containers_of_a_pod_get_what_the_manifest_says(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    """Two containers; variables of all sources; command, args, working directory; cgroup limits."""
    env = [
        {"name": "PLAIN", "value": "as written"},
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {
            "name": "ABSENT",
            "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}},
        },
    ]
    env_from = [{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "keys"}}]
    printer = container(
        "printer",
        ["sh", "-c", 'echo "$0 $1"; pwd; env | sort; exec sleep 3600'],
        args=["zero", "one"],
        workingDir="/tmp",  # noqa: S108 - in the container
        env=env,
        envFrom=env_from,
        resources={"limits": {"cpu": "250m", "memory": "48Mi"}},
    )
    cluster.apply(
        config_map("settings", colour="grün", size="3"),
        secret("keys", token="geheim"),
        pod("full", NODE, [printer, container("second", ["sleep", "3600"])]),
    )
    cluster.wait_phase("full", "Running")
    lines = wait_for(
        lambda: log_of(cluster, "full", "-c", "printer").splitlines(), 10, "the log to have lines"
    )
    assert lines[:2] == ["zero one", "/tmp"]  # noqa: S108 - in the container
    variables = dict(line.partition("=")[::2] for line in lines[2:])
    wanted = {
        "PLAIN": "as written",
        "FROM_MAP": "grün",
        "FROM_SECRET": "geheim",
        "colour": "grün",
        "size": "3",
        "S_token": "geheim",
    }
    assert {key: variables.get(key) for key in wanted} == wanted
    assert "ABSENT" not in variables

    found = inspect(podman, "full")
    assert set(found) == {"printer", "second"}
    limits = found["printer"]["HostConfig"]
    assert limits["Memory"] == 48 << 20
    assert limits["CpuQuota"] / limits["CpuPeriod"] == 0.25
    assert found["second"]["HostConfig"]["Memory"] == 0

    status = cluster.get("pod", "full")["status"]
    assert [one["name"] for one in status["containerStatuses"]] == ["printer", "second"]
    assert all(one["ready"] and one["restartCount"] == 0 for one in status["containerStatuses"])
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"


def test_pods_that_end_have_kubernetes_phases_and_reasons(cluster: Cluster, node: AgentProcess) -> None:
    """Never and OnFailure; the exit code as it was; what succeeded is not run again."""
    cluster.apply(
        pod("good", NODE, [container("main", ["sh", "-c", "echo done"])], restartPolicy="Never"),
        pod("bad", NODE, [container("main", ["sh", "-c", "exit 7"])], restartPolicy="Never"),
        pod("once", NODE, [container("main", ["true"])], restartPolicy="OnFailure"),
        pod(
            "half",
            NODE,
            [container("main", ["true"]), container("side", ["false"])],
            restartPolicy="Never",
        ),
    )
    cluster.wait_phase("good", "Succeeded")
    cluster.wait_phase("bad", "Failed")
    cluster.wait_phase("once", "Succeeded")
    cluster.wait_phase("half", "Failed")
    ends = {
        name: cluster.get("pod", name)["status"]["containerStatuses"][0] for name in ("good", "bad", "once")
    }
    for name, code, reason in (("good", 0, "Completed"), ("bad", 7, "Error"), ("once", 0, "Completed")):
        end = ends[name]["state"]["terminated"]
        assert (end["exitCode"], end["reason"]) == (code, reason)
        assert end["startedAt"] <= end["finishedAt"]
        assert end["containerID"] == ends[name]["containerID"]
        assert ends[name]["restartCount"] == 0
        assert ends[name]["ready"] is False
    ready = {c["type"]: c for c in cluster.get("pod", "good")["status"]["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    assert log_of(cluster, "good") == "done\n"


def test_a_crash_is_restarted_at_once_and_then_backs_off(cluster: Cluster, node: AgentProcess) -> None:
    """OnFailure and Always; the second crash waits, and the waiting is said with its reason."""
    cluster.apply(
        pod("fails", NODE, [container("main", ["sh", "-c", "exit 3"])], restartPolicy="OnFailure"),
        pod("ends", NODE, [container("main", ["sh", "-c", "echo run; exit 0"])]),
    )
    for name, code, reason in (("fails", 3, "Error"), ("ends", 0, "Completed")):
        status = wait_state(node, name, "waiting", "CrashLoopBackOff")
        assert status["restartCount"] == 1
        assert "back-off" in status["state"]["waiting"]["message"]
        end = status["lastState"]["terminated"]
        assert (end["exitCode"], end["reason"]) == (code, reason)
        shown = functools.partial(cluster.ctl, "get", "pod", name)
        wait_for(lambda shown=shown: "CrashLoopBackOff" in shown().stdout, 10, "it shown")  # type: ignore[misc]
        assert cluster.pod_phase(name) == "Running"
    assert log_of(cluster, "ends") == "run\n"
    assert log_of(cluster, "ends", "--previous") == "run\n"


def test_a_killed_container_runs_again_and_its_former_log_stays(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    script = "for n in 1 2 3; do echo line $n; done; exec sleep 3600"
    cluster.apply(pod("talks", NODE, [container("main", ["sh", "-c", script])]))
    cluster.wait_phase("talks", "Running")
    [before] = running(podman)
    refused = cluster.ctl("logs", "talks", "--previous", check=False)
    assert refused.returncode == 1
    assert 'previous terminated container "main" in pod "talks" not found' in refused.stderr
    podman.run("kill", "--signal", "KILL", before.id)
    wait_for(lambda: node.container_status("talks").get("restartCount") == 1, 10, "the restart")
    status = wait_state(node, "talks", "running")
    assert status["lastState"]["terminated"]["exitCode"] == 137
    [after] = running(podman)
    assert after.id != before.id
    assert after.uid == before.uid
    wait_for(lambda: len(log_of(cluster, "talks").splitlines()) == 3, 10, "the log of the new run")
    assert log_of(cluster, "talks", "--tail", "1") == "line 3\n"
    assert log_of(cluster, "talks", "--previous", "--tail=2") == "line 2\nline 3\n"
    stamped = log_of(cluster, "talks", "--timestamps", "--tail=1")
    assert stamped.endswith(" line 3\n")
    assert stamped[:2] == "20"
    assert cluster.ctl("logs", "nobody", check=False).returncode == 1
    # The same on the node itself.
    assert node.run("logs", "talks", "--tail", "1").stdout == "line 3\n"
    assert node.run("logs", "talks", "--previous", "--tail", "1").stdout == "line 3\n"
    assert "not found" in node.run("logs", "nobody", check=False).stderr


def test_a_changed_spec_replaces_the_container_under_the_same_uid(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    """And only the container whose spec changed."""

    def manifest(value: str) -> dict[str, object]:
        echo = ["sh", "-c", 'echo "$WHO"; exec sleep 3600']
        first = container("main", echo, env=[{"name": "WHO", "value": value}])
        return pod("changes", NODE, [first, container("other", ["sleep", "3600"])])

    cluster.apply(manifest("one"))
    cluster.wait_phase("changes", "Running")
    before = {seen.container: seen for seen in running(podman)}
    cluster.apply(manifest("two"))
    wait_for(lambda: node.container_status("changes").get("restartCount") == 1, 15, "the replacement")
    wait_state(node, "changes", "running")
    after = {seen.container: seen for seen in running(podman)}
    assert after["main"].id != before["main"].id
    assert after["main"].uid == before["main"].uid
    assert after["other"] == before["other"]
    wait_for(lambda: log_of(cluster, "changes", "-c", "main") == "two\n", 10, "the new value in the log")

    def caught_up() -> bool:
        status = cluster.get("pod", "changes")["status"]
        return bool(status["containerStatuses"][0]["restartCount"] == 1)

    wait_for(caught_up, 10, "the hub to know")
    assert node.container_status("changes", 1)["restartCount"] == 0
    # Once more, and it is no crash: there is no back-off.
    cluster.apply(manifest("three"))
    wait_for(lambda: log_of(cluster, "changes", "-c", "main") == "three\n", 8, "no back-off")


def test_a_missing_config_map_is_waited_for(cluster: Cluster, node: AgentProcess) -> None:
    source = {"configMapKeyRef": {"name": "later", "key": "word"}}
    main = container("main", ["sh", "-c", "echo $WORD; exec sleep 3600"])
    main["env"] = [{"name": "WORD", "valueFrom": source}]
    cluster.apply(pod("waits", NODE, [main]))
    status = wait_state(node, "waits", "waiting", "CreateContainerConfigError")
    assert status["state"]["waiting"]["message"] == "configmap 'later' not found"
    assert status["restartCount"] == 0
    cluster.wait_phase("waits", "Pending")
    assert "CreateContainerConfigError" in cluster.ctl("get", "pod", "waits").stdout
    cluster.apply(config_map("later", word="now"))
    cluster.wait_phase("waits", "Running", 8)
    wait_for(lambda: log_of(cluster, "waits") == "now\n", 10, "the value in the log")


@pytest.mark.slow
def test_images_come_from_the_registry_as_the_pull_policy_says(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, registry: Registry
) -> None:
    image = f"{registry.address}/library/lifecycle"
    podman.run("push", "--quiet", "--tls-verify=false", BUSYBOX_TAG, f"{image}:1")
    sleep = ["sleep", "3600"]
    cluster.apply(
        pod("never", NODE, [{**container("main", sleep), "image": f"{image}:9", "imagePullPolicy": "Never"}]),
        pod("pulled", NODE, [{**container("main", sleep), "image": f"{image}:1"}]),
        pod("unknown", NODE, [{**container("main", sleep), "image": f"{image}:nonesuch"}]),
    )
    try:
        cluster.wait_phase("pulled", "Running")
        status = wait_state(node, "never", "waiting", "ErrImageNeverPull")
        assert f"{image}:9" in status["state"]["waiting"]["message"]
        status = wait_state(node, "unknown", "waiting", "ErrImagePull")
        assert f"{image}:nonesuch" in status["state"]["waiting"]["message"]
        wait_state(node, "unknown", "waiting", "ImagePullBackOff", 20)
        events = [e for e in cluster.get("events")["items"] if e["involvedObject"]["name"] == "pulled"]
        assert [e["reason"] for e in events] == ["Pulling", "Pulled", "Created", "Started"]
    finally:
        for name in ("never", "pulled", "unknown"):
            cluster.ctl("delete", "pod", name)
        podman.run("rmi", "--force", f"{image}:1", check=False)


def test_a_command_that_is_not_there_is_a_start_error(cluster: Cluster, node: AgentProcess) -> None:
    cluster.apply(
        pod("typo", NODE, [container("main", ["no-such-program"])], restartPolicy="Never"),
        pod("loops", NODE, [container("main", ["no-such-program"])]),
    )
    cluster.wait_phase("typo", "Failed")
    end = cluster.get("pod", "typo")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "no-such-program" in end["message"]
    status = wait_state(node, "loops", "waiting", "CrashLoopBackOff")
    assert status["lastState"]["terminated"]["reason"] == "StartError"
    assert cluster.ctl("logs", "loops", check=False).returncode == 1


def test_a_pod_without_a_network_plugin_is_refused_by_name(cluster: Cluster, node: AgentProcess) -> None:
    cluster.apply(sleeper("netless", NODE, hostNetwork=False))
    wait_state(node, "netless", "waiting", "NetworkUnavailable")
    cluster.wait_phase("netless", "Pending")
    status = cluster.get("pod", "netless")["status"]
    assert status["reason"] == "NetworkUnavailable"
    assert "spec.hostNetwork must be true" in status["message"]


def test_a_deleted_pod_has_its_grace_period_and_leaves_nothing(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    """One that ends on SIGTERM may; one that does not is killed after its period."""
    polite = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    cluster.apply(
        pod("polite", NODE, [container("main", ["sh", "-c", polite])],
            terminationGracePeriodSeconds=30),
        pod("deaf", NODE, [container("main", ["sh", "-c", deaf])], terminationGracePeriodSeconds=2),
    )  # fmt: skip
    for name in ("polite", "deaf"):
        cluster.wait_phase(name, "Running")
        wait_for(lambda name=name: log_of(cluster, name) == "ready\n", 10, "the trap to be set")  # type: ignore[misc]
    cluster.ctl("delete", "pod", "polite", "--timeout=10s")
    assert [seen.pod for seen in containers(podman)] == ["deaf"]
    assert cluster.get("pod", "polite") is None
    cluster.ctl("delete", "pod", "deaf", "--wait=false")
    status = node.container_status("deaf")
    assert not status or "running" in status["state"], "it has its two seconds"
    wait_for(lambda: not containers(podman), 10, "the containers to be removed")
    wait_for(lambda: cluster.get("pod", "deaf") is None, 10, "the hub to forget it")
    assert node.pods() == []


def test_the_same_name_made_anew_while_the_agent_is_off_is_another_pod(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    cluster.apply(sleeper("twin", NODE), sleeper("bystander", NODE))
    cluster.wait_phase("twin", "Running")
    cluster.wait_phase("bystander", "Running")
    before = {seen.pod: seen for seen in running(podman)}
    node.process.kill()
    cluster.ctl("delete", "pod", "twin", "--wait=false")
    with contextlib.suppress(AssertionError):
        # The hub may keep the old one until the node has stopped it; then this is refused, and comes later.
        cluster.apply(sleeper("twin", NODE, seconds=3601))
    node.start()

    def another() -> bool:
        twin = cluster.get("pod", "twin")
        if twin is None:
            cluster.apply(sleeper("twin", NODE, seconds=3601), check=False)
        found = [seen for seen in containers(podman) if seen.pod == "twin"]
        return bool(found) and all(s.uid != before["twin"].uid and s.state == "running" for s in found)

    wait_for(another, 20, "the new twin alone to run", interval=0.2)
    cluster.wait_phase("twin", "Running")
    assert cluster.get("pod", "twin")["metadata"]["uid"] != before["twin"].uid
    assert {seen.pod: seen for seen in running(podman)}["bystander"] == before["bystander"]
    assert node.container_status("twin")["restartCount"] == 0


def test_the_technician_sees_everything_without_a_broker(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, tmp_path: Path
) -> None:
    """``get``, ``logs``, ``status`` and ``plugins list`` ask the local socket."""
    cluster.apply(pod("local", NODE, [container("main", ["sh", "-c", "echo here; exec sleep 3600"])]))
    cluster.wait_phase("local", "Running")
    cluster.broker.terminate()
    try:
        wait_for(lambda: node.condition("Connected").get("status") == "False", 10, "the node to notice")
        table = node.run("get", "pods").stdout.splitlines()
        assert table[0].split()[:4] == ["NAME", "READY", "STATUS", "RESTARTS"]
        assert table[1].split()[:4] == ["local", "1/1", "Running", "0"]
        assert (
            json.loads(node.run("get", "pod", "local", "-o", "json").stdout)["status"]["phase"] == "Running"
        )
        assert "kind: Pod" in node.run("get", "pod", "local", "-o", "yaml").stdout
        assert NODE in node.run("get", "nodes").stdout
        assert node.run("logs", "local").stdout == "here\n"
        status = node.run("status").stdout
        assert "Connected:   no: " in status
        assert f"{NODE} (cluster demo)" in status
        assert "Ready                 True" in status
        plugins = {line.split()[0]: line.split() for line in node.run("plugins", "list").stdout.splitlines()}
        assert plugins["podman"][3] == "Running"
        missing = node.run("get", "pod", "nobody", check=False)
        assert missing.returncode == 1
        assert 'pods "nobody" not found' in missing.stderr
    finally:
        cluster.start_broker()
    wait_for(
        lambda: node.condition("Connected").get("status") == "True", 10, "the node to be connected again"
    )
