"""Nothing that runs on a node stops for lack of a broker, a network, a hub or an agent."""

import contextlib
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import (
    AgentProcess,
    Cluster,
    Link,
    Seen,
    container,
    containers,
    pod,
    running,
    sleeper,
)
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

NODE = "n1"


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share a cluster."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def cluster(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with one node, which reaches the broker through a link."""
    with Cluster(tmp_path_factory.mktemp("offline"), podman) as made:
        node = made.add_node(NODE)
        text = node.config.read_text()
        node.config.write_text(
            text.replace("reconnect_ceiling_seconds = 1.0", "reconnect_ceiling_seconds = 0.2")
        )
        yield made


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> AgentProcess:
    """The cluster's node."""
    return cluster.nodes[NODE]


@pytest.fixture(scope="module")
def link(cluster: Cluster, node: AgentProcess) -> Iterator[Link]:
    """The network between the two; the node is started."""
    made = Link(cluster, node)
    made.mend()
    node.start()
    yield made
    node.process.terminate()
    made.cut()


@pytest.fixture(autouse=True)
def _whole_again(cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService) -> Iterator[None]:
    """After each test everything runs and is connected, and no pod is left."""
    yield
    if not link.process.running:
        link.mend()
    if not node.process.running:
        node.start()
    if not cluster.hub.running:
        cluster.hub.start()
    wait_connected(node)
    cluster.ctl("delete", "pod", "--all", "--ignore-not-found")
    wait_for(lambda: not containers(podman), 20, "all containers to be removed")


def wait_connected(node: AgentProcess, connected: bool = True) -> None:
    wanted = str(connected)
    wait_for(lambda: node.condition("Connected").get("status") == wanted, 15, f"connected to be {wanted}")


def start_pods(cluster: Cluster, podman: PodmanService, *objects: dict[str, Any]) -> dict[str, Seen]:
    """Apply pods of one container each, wait until the hub knows that they run; their containers by pod."""
    cluster.apply(*objects)
    for found in objects:
        cluster.wait_phase(found["metadata"]["name"], "Running")
    return by_pod(podman)


def by_pod(podman: PodmanService) -> dict[str, Seen]:
    """The running containers by the name of their pod."""
    return {seen.pod: seen for seen in running(podman)}


def kill(podman: PodmanService, seen: Seen) -> None:
    podman.run("kill", "--signal", "KILL", seen.id)


def restarts(node: AgentProcess, name: str) -> int:
    return int(node.container_status(name).get("restartCount", -1))


def hub_restarts(cluster: Cluster, name: str) -> int:
    statuses = (cluster.get("pod", name) or {}).get("status", {}).get("containerStatuses", [])
    return int(statuses[0]["restartCount"]) if statuses else -1


def told(cluster: Cluster) -> int:
    """The sequence number of the newest event that the hub took in."""
    with contextlib.closing(sqlite3.connect(cluster.hub_dir / "hub.db")) as store:
        return int(store.execute("SELECT MAX(sequence) FROM event_streams").fetchone()[0] or 0)


def outbox_empty(node: AgentProcess) -> bool:
    return bool((node.read("/edge/v1/status") or {}).get("outbox") == 0)


def test_an_agent_killed_and_started_without_a_network_touches_nothing(
    cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService
) -> None:
    """Nor does the network's return."""
    before = start_pods(cluster, podman, sleeper("a", NODE), sleeper("b", NODE))
    link.cut()
    wait_connected(node, False)
    for end in (node.process.kill, node.process.terminate):
        end()
        assert by_pod(podman) == before, "containers run without an agent"
        node.start()
        wait_for(lambda: len([p for p in node.pods() if p["status"]["phase"] == "Running"]) == 2, 10, "both")
        assert by_pod(podman) == before
    link.mend()
    wait_connected(node)
    wait_for(lambda: outbox_empty(node), 10, "everything to be told")
    assert by_pod(podman) == before
    assert [restarts(node, name) for name in ("a", "b")] == [0, 0]
    assert [hub_restarts(cluster, name) for name in ("a", "b")] == [0, 0]


def test_what_happened_offline_is_told_in_order_and_once(
    cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService
) -> None:
    """A container is killed without a network, before and after the agent is: it runs again both times."""
    before = start_pods(cluster, podman, sleeper("victim", NODE), sleeper("witness", NODE))
    wait_for(lambda: outbox_empty(node), 10, "everything to be told")
    before_the_cut = told(cluster)
    link.cut()
    wait_connected(node, False)
    kill(podman, before["victim"])
    wait_for(lambda: restarts(node, "victim") == 1, 10, "the first restart")
    wait_for(lambda: "victim" in by_pod(podman), 10, "it to run")
    node.process.kill()
    node.start()
    wait_for(lambda: restarts(node, "victim") == 1, 10, "the restart to be remembered")
    waiting = node.read("/edge/v1/status")["outbox"]
    assert waiting >= 2, "created and started"
    assert cluster.pod_phase("victim") == "Running"
    assert hub_restarts(cluster, "victim") == 0, "the hub cannot know yet"
    now = by_pod(podman)
    link.mend()
    wait_connected(node)
    wait_for(lambda: hub_restarts(cluster, "victim") == 1, 10, "the hub to know")
    wait_for(lambda: outbox_empty(node), 10, "everything to be told")
    assert by_pod(podman) == now
    assert now["witness"] == before["witness"]
    status = cluster.get("pod", "victim")["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert told(cluster) >= before_the_cut + waiting
    events = [e for e in cluster.get("events")["items"] if e["involvedObject"]["name"] == "victim"]
    # The same event again is counted, not told as another: none is lost, and none counts twice.
    assert [(e["reason"], e["count"]) for e in events] == [("Created", 2), ("Started", 2)]
    stamps = [e["lastTimestamp"] for e in events]
    assert stamps == sorted(stamps)
    assert len({e["metadata"]["name"] for e in events}) == len(events)


@pytest.mark.parametrize("off", ["network", "agent"])
def test_what_changed_at_the_hub_meanwhile_is_acted_on_and_nothing_else(
    cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService, off: str
) -> None:
    """A pod deleted, one changed, one new, while the node is away; one that stays."""
    before = start_pods(cluster, podman, *(sleeper(name, NODE) for name in ("goes", "changes", "stays")))
    if off == "network":
        link.cut()
        wait_connected(node, False)
    else:
        node.process.kill()
    cluster.ctl("delete", "pod", "goes", "--wait=false")
    cluster.apply(sleeper("changes", NODE, seconds=4000), sleeper("comes", NODE))
    assert by_pod(podman) == before, "nobody has told the node"
    if off == "network":
        link.mend()
    else:
        node.start()
    cluster.wait_phase("comes", "Running")
    wait_for(lambda: hub_restarts(cluster, "changes") == 1, 10, "the changed pod's new container")
    wait_for(lambda: cluster.get("pod", "goes") is None, 10, "the hub to forget what was deleted")
    after = wait_for(lambda: now if len(now := by_pod(podman)) == 3 else {}, 10, "three pods to run")
    assert after.keys() == {"changes", "stays", "comes"}
    assert after["stays"] == before["stays"]
    assert after["changes"].uid == before["changes"].uid
    assert after["changes"].id != before["changes"].id


class Refuser:
    """Accepts connections, closes them at once, and counts."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Refuser":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.count += 1
                connection.close()


def test_trying_to_connect_in_vain_touches_nothing(
    cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService
) -> None:
    before = start_pods(cluster, podman, sleeper("calm", NODE))
    link.cut()
    with Refuser(link.port) as refuser:
        wait_for(lambda: refuser.count >= 30, 30, "thirty attempts")
        assert by_pod(podman) == before
        assert restarts(node, "calm") == 0
        assert node.condition("Connected")["status"] == "False"
        waiting = node.read("/edge/v1/status")["outbox"]
    assert waiting <= 1, "attempts in vain are no news"


def power_cut(node: AgentProcess, podman: PodmanService) -> None:
    """The agent, all containers and their monitors die at once; Podman takes it for a reboot."""
    node.process.kill()
    conmons = podman.run("inspect", *(s.id for s in running(podman)), "--format", "{{.State.ConmonPid}}")
    pids = podman.run("inspect", *(s.id for s in running(podman)), "--format", "{{.State.Pid}}")
    podman.process.kill()
    for pid in (*conmons.stdout.split(), *pids.stdout.split()):
        os.kill(int(pid), signal.SIGKILL)
    for alive in podman.directory.glob("tmp/**/alive"):
        alive.unlink()
    with contextlib.closing(sqlite3.connect(node.directory / "state" / "agent.db")) as store, store:
        store.execute("UPDATE meta SET value = 'the boot before' WHERE key = 'boot_id'")
    podman.start()
    assert running(podman) == []


def test_after_a_reboot_without_a_network_all_pods_come_back(
    cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService
) -> None:
    """But not those that had ended for good, nor a run with restartPolicy Never that the power cut ended."""
    sleep = [container("main", ["sleep", "3600"])]
    before = start_pods(
        cluster,
        podman,
        sleeper("first", NODE),
        sleeper("second", NODE),
        pod("on-failure", NODE, sleep, restartPolicy="OnFailure"),
        pod("never", NODE, sleep, restartPolicy="Never"),
    )
    cluster.apply(pod("done", NODE, [container("main", ["sh", "-c", "exit 0"])], restartPolicy="Never"))
    cluster.wait_phase("done", "Succeeded")
    link.cut()
    back = {"first", "second", "on-failure"}
    for boot in (1, 2, 3):
        power_cut(node, podman)
        node.start()
        wait_for(lambda: by_pod(podman).keys() == back, 9, "the pods to run, with no back-off")
        for name in back:
            wait_for(lambda name=name, boot=boot: restarts(node, name) == boot, 5, f"{name} counted")  # type: ignore[misc]
    phases = {p["metadata"]["name"]: p["status"]["phase"] for p in node.pods()}
    assert phases == {**dict.fromkeys(back, "Running"), "never": "Failed", "done": "Succeeded"}
    end = node.container_status("never")["state"]["terminated"]
    assert end["exitCode"] == 255
    assert restarts(node, "never") == 0
    assert restarts(node, "done") == 0
    now = by_pod(podman)
    assert {name: seen.uid for name, seen in now.items()} == {name: before[name].uid for name in back}
    link.mend()
    cluster.wait_phase("never", "Failed")
    wait_for(lambda: hub_restarts(cluster, "first") == 3, 10, "the hub to know")
    assert by_pod(podman) == now


def test_a_hub_that_lost_its_database_takes_no_pod_away(
    cluster: Cluster, node: AgentProcess, link: Link, podman: PodmanService
) -> None:
    """Nor does one restored from an old backup: its next generation is higher than what the node has."""
    before = start_pods(cluster, podman, sleeper("kept", NODE))
    cluster.hub.terminate()
    backup = {path: path.read_bytes() for path in cluster.hub_dir.glob("hub.db*")}
    cluster.hub.start()
    cluster.apply(sleeper("brief", NODE))
    cluster.wait_phase("brief", "Running")
    cluster.ctl("delete", "pod", "brief")
    generation = node.status()["generation"]
    cluster.hub.terminate()
    for path in cluster.hub_dir.glob("hub.db*"):
        path.unlink()
    cluster.hub.start()
    assert cluster.hub.wait() != 0
    assert "restore it from a backup" in cluster.hub.tail()
    link.cut()
    wait_connected(node, False)
    link.mend()
    wait_connected(node)
    assert node.status()["generation"] == generation
    assert by_pod(podman) == before
    for path, content in backup.items():
        path.write_bytes(content)
    cluster.hub.start()
    cluster.apply(sleeper("more", NODE))
    cluster.wait_phase("more", "Running")
    assert node.status()["generation"] > generation
    assert by_pod(podman)["kept"] == before["kept"]
