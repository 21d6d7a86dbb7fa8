"""Static pods on real parts: a folder of manifests on a lone machine, and what a hub sees of it later.

https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, containers, program, sleeper
from tests.support.lone import (
    LoneAgent,
    config_map,
    has_phase,
    is_running,
    lone_agent,
    secret,
    static_pod,
)
from tests.support.podman import PodmanService
from tests.support.proc import Process, port_answers
from tests.support.waiting import wait_for

YAML = """\
# Two documents, as a person writes them.
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  COLOUR: blue
---
apiVersion: v1
kind: Pod
metadata:
  name: written
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: localhost/busybox:1
      command: [sleep, "3600"]
      envFrom:
        - configMapRef: {name: settings}
"""


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share an agent."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled."""
    with lone_agent(tmp_path_factory.mktemp("lone"), podman) as agent:
        yield agent


@pytest.mark.installed
def test_a_lone_machine_runs_a_manifest_and_says_that_it_is_alone(lone: LoneAgent) -> None:
    with lone.running(static_pod("web")) as pod:
        assert pod["metadata"]["name"] == f"web-{lone.node}"
        assert pod["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
        assert pod["metadata"]["annotations"]["kubernetes.io/config.hash"] == pod["metadata"]["uid"]
        assert f"web-{lone.node}" in lone.agent.run("get", "pods").stdout
        assert lone.agent.condition("Connected")["reason"] == "NotEnrolled"
        shown = lone.agent.run("status").stdout
        assert f"{lone.node} (not enrolled)" in shown
        assert f"1 objects in {lone.folder}" in shown
        wait_for(lambda: {"Created", "Started"} <= {e["reason"] for e in lone.events("web")}, 5, "events")
        assert "Started container main" in lone.agent.run("get", "events").stdout
    assert not lone.pod("web")


def test_yaml_with_a_config_map(lone: LoneAgent) -> None:
    lone.write("all", YAML)
    lone.wait_status("written", is_running)
    assert lone.exec("written", "sh", "-c", "echo $COLOUR").stdout == "blue\n"
    lone.remove("all")
    lone.wait_gone("written")


def test_a_secret_beside_its_pod(lone: LoneAgent) -> None:
    pod = static_pod("keeper", container={"envFrom": [{"secretRef": {"name": "login"}}]})
    with lone.running(pod, secret("login", TOKEN="hush")):
        assert lone.exec("keeper", "sh", "-c", "echo $TOKEN").stdout == "hush\n"


def test_a_changed_manifest_is_another_pod(lone: LoneAgent) -> None:
    with lone.running(static_pod("changing")) as before:
        first = lone.container("changing")
        lone.write("default.changing", static_pod("changing", ["sleep", "3601"]))
        lone.wait_status(
            "changing",
            lambda status: (
                is_running(status) and lone.pod("changing")["metadata"]["uid"] != before["metadata"]["uid"]
            ),
        )
        second = lone.container("changing")
        assert second.uid != first.uid
        wait_for(lambda: first.id not in {c.id for c in containers(lone.podman)}, 10, "the old one to go")


def test_a_bad_file_stops_nothing_and_is_named(lone: LoneAgent) -> None:
    with lone.running(static_pod("steady")):
        running = lone.container("steady")
        path = lone.write("default.steady", "{", suffix=".json")
        wait_for(lambda: str(path) in lone.problems(), 10, "the problem")
        assert str(path) in lone.agent.run("status").stdout
        assert any(str(path) in event["message"] for event in lone.events())
        assert lone.container("steady") == running
        lone.restart()
        wait_for(lambda: str(path) in lone.problems(), 10, "the problem")
        lone.wait_status("steady", is_running)
        assert lone.container("steady") == running
        lone.write("default.steady", static_pod("steady"))
        wait_for(lambda: not lone.problems(), 10, "no problem")
        assert lone.container("steady") == running


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_pods_outlive_the_agent_and_what_was_removed_meanwhile_goes(lone: LoneAgent, kill: bool) -> None:
    with lone.running(static_pod("stays")):
        lone.write("goes", static_pod("goes"))
        lone.wait_status("goes", is_running)
        stays, goes = lone.container("stays"), lone.container("goes")
        lone.agent.process.kill() if kill else lone.agent.process.terminate()
        assert {stays.id, goes.id} <= {c.id for c in containers(lone.podman) if c.state == "running"}
        lone.remove("goes")
        lone.start()
        lone.wait_gone("goes")
        lone.wait_status("stays", is_running)
        assert lone.container("stays") == stays


def test_a_broken_store_stops_no_static_pod(lone: LoneAgent) -> None:
    with lone.running(static_pod("robust")):
        before = lone.container("robust")
        lone.agent.process.kill()
        database = lone.state_dir / "agent.db"
        for name in (database, Path(f"{database}.snapshot"), Path(f"{database}-wal")):
            name.write_bytes(b"\x00garbage" * 1000)
        lone.write("next", static_pod("next"))
        lone.start()
        lone.wait_status("next", is_running)
        lone.wait_status("robust", is_running)
        assert lone.container("robust") == before
        lone.remove("next")
        lone.wait_gone("next")


def test_a_folder_that_comes_later_is_found(podman: PodmanService, tmp_path: Path) -> None:
    with LoneAgent(tmp_path / "lone", podman, name="late") as late:
        late.agent.process.terminate()
        late.folder.rmdir()
        late.start()
        wait_for(lambda: "nothing to run" in late.agent.process.tail(200), 10, "the advice")
        late.folder.mkdir()
        with late.running(static_pod("late")):
            shutil.rmtree(late.folder)
            late.wait_gone("late")
            late.folder.mkdir()


def test_a_pod_with_a_network_of_its_own_is_reached_from_the_node(lone: LoneAgent) -> None:
    server = static_pod("server", ["httpd", "-f", "-p", "8080"], hostNetwork=False)
    with lone.running(server) as pod:
        address = pod["status"]["podIP"]
        wait_for(lambda: _answers(address, 8080), 10, "the server to answer")


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def test_a_run_to_completion(lone: LoneAgent) -> None:
    job = static_pod("job", ["sh", "-c", "echo done"], restartPolicy="Never")
    with lone.running(job, until=has_phase("Succeeded")):
        assert lone.logs("job") == "done\n"


# With a hub


@pytest.fixture
def cluster(podman: PodmanService, tmp_path: Path) -> Iterator[Cluster]:
    """A hub and its broker, without a node."""
    with Cluster(tmp_path / "hub", podman) as made:
        yield made


@pytest.fixture
def joined(podman: PodmanService, cluster: Cluster, tmp_path: Path) -> Iterator[LoneAgent]:
    """A lone agent with a pod, a ConfigMap and a Secret, enrolled while they run."""
    extra = '[mqtt]\nreconnect_ceiling_seconds = 1.0\n[plugins.security]\ndefault_level = "privileged"\n'
    with LoneAgent(tmp_path / "node", podman, extra=extra, name="joined") as agent:
        pod = static_pod("web", container={"envFrom": [{"secretRef": {"name": "login"}}]})
        agent.write("web", [secret("login", TOKEN="hush"), config_map("settings", A="b"), pod])
        agent.wait_status("web", is_running)
        before = agent.container("web")
        join = tmp_path / "node.join"
        add = program("edgehub", "node", "add", agent.node, "--dir", cluster.hub_dir, "--output", join)
        adding = Process(add, log=tmp_path / "add.log").start()
        assert adding.wait() == 0, adding.tail()
        agent.agent.run("enroll", "--join-file", str(join))
        agent.restart()
        wait_for(lambda: cluster.pod_phase(f"web-{agent.node}") == "Running", 30, "the mirror")
        assert agent.container("web") == before
        yield agent
        agent.clear()
        wait_for(lambda: cluster.get("pods", "-A")["items"] == [], 30, "the hub to forget")


def test_the_hub_shows_static_pods_and_cannot_change_them(joined: LoneAgent, cluster: Cluster) -> None:
    name = f"web-{joined.node}"
    shown = cluster.get("pod", name)
    assert shown["metadata"]["annotations"]["kubernetes.io/config.mirror"] == shown["metadata"]["uid"]
    assert shown["metadata"]["uid"] == joined.pod("web")["metadata"]["uid"]
    assert name in cluster.ctl("get", "pods").stdout
    refused = cluster.ctl("delete", "pod", name, "--wait=false", check=False)
    assert refused.returncode != 0
    assert str(joined.folder / "web.json") in refused.stderr
    # Secrets stay on the node, and so do ConfigMaps.
    assert b"hush" not in cluster.retained(f"nodes/{joined.node}/pods/default/{name}")
    assert cluster.get("secrets", "-A")["items"] == cluster.get("configmaps", "-A")["items"] == []
    joined.remove("web")
    wait_for(lambda: cluster.get("pod", name) is None, 30, "the hub to forget")


def test_desired_state_and_the_folder_leave_each_other_alone(joined: LoneAgent, cluster: Cluster) -> None:
    before = joined.container("web")
    cluster.apply(sleeper("hubs", joined.node))
    cluster.wait_phase("hubs", "Running")
    assert {pod["metadata"]["name"] for pod in cluster.get("pods")["items"]} == {"hubs", f"web-{joined.node}"}
    cluster.ctl("delete", "pod", "hubs", "--ignore-not-found")
    wait_for(lambda: {c.pod for c in containers(joined.podman)} == {f"web-{joined.node}"}, 30, "hubs to go")
    assert joined.container("web") == before


def test_without_the_broker_the_folder_is_followed_all_the_same(joined: LoneAgent, cluster: Cluster) -> None:
    cluster.broker.kill()
    try:
        joined.restart()
        joined.write("offline", static_pod("offline"))
        joined.wait_status("offline", is_running)
        joined.wait_status("web", is_running)
    finally:
        cluster.start_broker()
    wait_for(lambda: port_answers(cluster.port), 10, "the broker")
    cluster.wait_phase(f"offline-{joined.node}", "Running")
