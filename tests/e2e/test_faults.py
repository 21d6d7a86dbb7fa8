"""What breaks around a node is said where a person looks, and takes nothing away that runs."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.wire.blob import encode_blob
from edgeagent.wire.envelope import INDEX_TYPE, encode_envelope, sign_envelope
from edgeagent.wire.index import Index, encode_index
from edgeagent.wire.keys import SigningKey
from tests.support.cluster import (
    CLUSTER,
    AgentProcess,
    Cluster,
    Seen,
    container,
    containers,
    pod,
    running,
    sleeper,
)
from tests.support.podman import PodmanService
from tests.support.podmanfaults import absent, answering_500, frozen
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

NODE = "n1"
IMPATIENT = """\
request_timeout = 1.0
exit_timeout = 1.0
[eviction]
pressure_transition_period = "1s"
"""


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share a cluster."""
    podman_service.start()
    yield podman_service
    podman_service.process.thaw()
    podman_service.start()
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def cluster(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with one running node that does not wait long for anything."""
    with Cluster(tmp_path_factory.mktemp("faults"), podman) as made:
        node = made.add_node(NODE, extra=IMPATIENT)
        text = node.config.read_text()
        node.config.write_text(
            text.replace("reconnect_ceiling_seconds = 1.0", "reconnect_ceiling_seconds = 0.2")
        )
        node.start()
        yield made


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> AgentProcess:
    """The cluster's node."""
    return cluster.nodes[NODE]


@pytest.fixture(autouse=True)
def _whole_again(cluster: Cluster, node: AgentProcess, podman: PodmanService) -> Iterator[None]:
    """After each test everything runs and is connected, and no pod is left."""
    yield
    podman.process.thaw()
    podman.start()
    if not cluster.broker.running:
        cluster.start_broker()
    if not node.process.running:
        node.start()
    wait_condition(node, "Connected", "True")
    wait_condition(node, "Ready", "True")
    cluster.ctl("delete", "pod", "--all", "--wait=false", "--ignore-not-found")
    wait_for(lambda: not containers(podman), 20, "all containers to be removed")

    def forgotten() -> bool:
        return all(item["spec"]["nodeName"] != NODE for item in cluster.get("pods")["items"])

    wait_for(forgotten, 10, "the hub to forget this node's pods")


def wait_condition(node: AgentProcess, type_: str, status: str, reason: str = "") -> dict[str, Any]:
    """Wait for a condition of the node; returns it."""

    def found() -> dict[str, Any]:
        condition = node.condition(type_)
        good = condition.get("status") == status and (not reason or condition["reason"] == reason)
        return condition if good else {}

    try:
        return wait_for(found, 20, f"{type_} to be {status} {reason}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {node.condition(type_)}") from None


def wait_message(node: AgentProcess, text: str) -> None:
    """Wait until the node says of its desired state that it is not in force, in these words."""

    def told() -> bool:
        condition = node.condition("DesiredStateInForce")
        return condition.get("status") == "False" and text in condition["message"]

    wait_for(told, 15, f"{text!r} to be told")


def hub_condition(cluster: Cluster, type_: str) -> dict[str, Any]:
    conditions = cluster.get("node", NODE)["status"]["conditions"]
    return next((condition for condition in conditions if condition["type"] == type_), {})


def start_pods(cluster: Cluster, podman: PodmanService, *names: str) -> dict[str, Seen]:
    """Pods of one container each that run, as the hub knows; their containers by pod."""
    cluster.apply(*(sleeper(name, NODE) for name in names))
    for name in names:
        cluster.wait_phase(name, "Running")
    return by_pod(podman)


def by_pod(podman: PodmanService) -> dict[str, Seen]:
    """The running containers by the name of their pod."""
    return {seen.pod: seen for seen in running(podman)}


def restarts(node: AgentProcess, name: str) -> int:
    return int(node.container_status(name).get("restartCount", -1))


# The store


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def noise(path: Path) -> None:
    """From the first byte on, as a broken SD card answers."""
    path.write_bytes(os.urandom(path.stat().st_size))


def noise_within(path: Path) -> None:
    """Everything but the beginning."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def store_of(node: AgentProcess) -> Path:
    return node.directory / "state" / "agent.db"


@pytest.mark.parametrize("damage", [cut_short, noise, noise_within], ids=lambda damage: damage.__name__)
def test_a_damaged_store_is_recovered_and_nothing_restarts(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, damage: Callable[[Path], None]
) -> None:
    """From the copy beside it, without a broker: what is desired still is, also when a container ends."""
    before = start_pods(cluster, podman, "kept", "victim")
    generation = node.read("/edge/v1/status")["generation"]
    cluster.broker.terminate()
    node.process.terminate()
    damage(store_of(node))
    node.start()
    assert node.read("/edge/v1/status")["generation"] == generation
    wait_for(lambda: [p["status"]["phase"] for p in node.pods()] == ["Running"] * 2, 10, "both to be known")
    assert by_pod(podman) == before
    assert [restarts(node, name) for name in before] == [0, 0]
    podman.run("kill", "--signal", "KILL", before["victim"].id)
    wait_for(lambda: restarts(node, "victim") == 1 and "victim" in by_pod(podman), 10, "the restart")
    assert list(node.directory.glob("state/agent.db.corrupt-*")), "what is left of it is kept"
    cluster.start_broker()

    def told() -> list[Any]:
        events = cluster.get("events", "-A")["items"]
        return [e for e in events if e["reason"] == "StoreRecovered" and e["involvedObject"]["name"] == NODE]

    assert "the last good snapshot was used" in wait_for(told, 15, "the event at the hub")[-1]["message"]
    assert by_pod(podman)["kept"] == before["kept"]


@pytest.mark.parametrize("damage", [noise, emptied], ids=lambda damage: damage.__name__)
def test_with_store_and_copy_gone_containers_run_on_and_are_adopted(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, damage: Callable[[Path], None]
) -> None:
    """Nothing is known of them until the index comes; nothing is taken away for that."""
    before = start_pods(cluster, podman, "orphan", "other")
    cluster.broker.terminate()
    node.process.terminate()
    damage(store_of(node))
    store_of(node).with_name("agent.db.snapshot").unlink(missing_ok=True)
    node.start()
    wait_condition(node, "Ready", "True")
    assert node.pods() == []
    assert node.read("/edge/v1/status")["generation"] == 0
    assert by_pod(podman) == before
    cluster.start_broker()
    wait_for(lambda: [p["status"]["phase"] for p in node.pods()] == ["Running"] * 2, 15, "both to be adopted")
    assert by_pod(podman) == before
    assert [restarts(node, name) for name in before] == [0, 0]
    cluster.wait_phase("orphan", "Running")
    cluster.ctl("delete", "pod", "orphan")
    assert by_pod(podman).keys() == {"other"}


def test_a_pod_deleted_after_the_store_was_lost_is_forgotten_by_the_hub(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    """All that the node knows of it are its container's labels."""
    # How long it may take to stop is lost too, so it is one that stops when it is told.
    polite = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    cluster.apply(pod("doomed", NODE, [container("main", ["sh", "-c", polite])]))
    cluster.wait_phase("doomed", "Running")
    node.process.terminate()
    noise(store_of(node))
    store_of(node).with_name("agent.db.snapshot").unlink()
    cluster.ctl("delete", "pod", "doomed", "--wait=false")
    node.start()
    wait_for(lambda: not containers(podman), 15, "the container to be removed")
    wait_for(lambda: cluster.get("pod", "doomed") is None, 10, "the hub to forget the pod")


def test_a_copy_older_than_the_damaged_store_takes_no_pod_away(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, tmp_path: Path
) -> None:
    """A pod that came after the copy was made is not in it: that is no word of its deletion."""
    start_pods(cluster, podman, "old")
    snapshot = store_of(node).with_name("agent.db.snapshot")
    node.process.terminate()  # at the latest then the copy is made
    shutil.copy(snapshot, tmp_path / "snapshot")
    node.start()
    before = start_pods(cluster, podman, "new")
    assert before.keys() == {"old", "new"}
    cluster.broker.terminate()
    node.process.terminate()
    noise(store_of(node))
    shutil.copy(tmp_path / "snapshot", snapshot)
    node.start()
    wait_for(lambda: [p["metadata"]["name"] for p in node.pods()] == ["old"], 10, "the copy to be read")
    wait_for(lambda: node.pod("old")["status"]["phase"] == "Running", 10, "what it holds to be adopted")
    assert by_pod(podman) == before
    cluster.start_broker()
    wait_for(lambda: [p["status"]["phase"] for p in node.pods()] == ["Running"] * 2, 15, "both to be known")
    assert by_pod(podman) == before


@pytest.fixture
def small_disk(cluster: Cluster, node: AgentProcess) -> Iterator[Path]:
    """The node's state lies on a file system of two megabytes."""
    state = node.directory / "state"
    kept = node.directory / "state-kept"
    node.process.terminate()
    shutil.copytree(state, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(state)], check=True)
    try:
        shutil.copytree(kept, state, dirs_exist_ok=True)
        for aside in state.glob("agent.db.corrupt-*"):
            aside.unlink()
        node.start()
        yield state
        (state / "filler").unlink(missing_ok=True)
        node.process.terminate()
        shutil.rmtree(kept)
        shutil.copytree(state, kept)
    finally:
        node.process.terminate()
        subprocess.run(["umount", "--lazy", str(state)], check=True)
    shutil.copytree(kept, state, dirs_exist_ok=True)
    shutil.rmtree(kept)


def fill(directory: Path) -> None:
    """Take every byte that is left."""
    with contextlib.suppress(OSError), (directory / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def test_on_a_full_disk_pods_run_and_the_next_index_waits(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, small_disk: Path
) -> None:
    before = start_pods(cluster, podman, "kept", "victim")
    generation = node.status()["generation"]
    fill(small_disk)
    # Larger than what SQLite may still have room for in its log.
    ballast = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large", "namespace": "default"},
               "data": {"value": os.urandom(100_000).hex()}}  # fmt: skip
    late = sleeper("late", NODE)
    late["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "large"}}]  # type: ignore[index]
    cluster.apply(ballast, late)
    found = wait_condition(node, "DesiredStateInForce", "False", "DiskFull")
    assert "disk is full" in found["message"]
    assert "DesiredStateInForce   False    DiskFull: the disk is full" in node.run("status").stdout
    wait_for(
        lambda: hub_condition(cluster, "DesiredStateInForce")["reason"] == "DiskFull", 10, "the hub told"
    )
    assert node.status()["generation"] == generation
    assert by_pod(podman) == before
    podman.run("kill", "--signal", "KILL", before["victim"].id)
    wait_for(lambda: restarts(node, "victim") == 1 and "victim" in by_pod(podman), 10, "the restart")
    # Even an agent that starts on a full disk has its pods.
    now = by_pod(podman)
    node.process.kill()
    fill(small_disk)
    node.start()
    wait_for(lambda: [p["status"]["phase"] for p in node.pods()] == ["Running"] * 2, 10, "both to be known")
    wait_condition(node, "DesiredStateInForce", "False", "DiskFull")
    assert by_pod(podman) == now
    (small_disk / "filler").unlink()
    wait_condition(node, "DesiredStateInForce", "True")
    cluster.wait_phase("late", "Running")
    assert by_pod(podman)["kept"] == before["kept"]
    cluster.ctl("delete", "configmap", "large")


# Podman


MESSAGES = {
    "absent": "does not exist",
    "frozen": "no whole answer",
    "answering_500": "the database is out of order",
}


@pytest.mark.parametrize("fault", [absent, frozen, answering_500], ids=lambda fault: fault.__name__)
def test_without_podman_the_node_says_so_and_goes_on_afterwards(
    cluster: Cluster,
    node: AgentProcess,
    podman: PodmanService,
    fault: Callable[[PodmanService], "contextlib.AbstractContextManager[str]"],
) -> None:
    """Noticed by an agent that runs when there is something to do, and by one that starts."""
    before = start_pods(cluster, podman, "kept", "victim")
    pid = int(podman.run("inspect", before["victim"].id, "--format", "{{.State.Pid}}").stdout)
    with fault(podman) as reason:
        os.kill(pid, 9)
        found = wait_condition(node, "Ready", "False", reason)
        assert str(podman.socket) in found["message"]
        assert MESSAGES[fault.__name__] in found["message"]
        assert f"Ready                 False    {reason}" in node.run("status").stdout
        wait_for(lambda: hub_condition(cluster, "Ready")["status"] == "False", 10, "the hub to know")
        assert "NotReady" in cluster.ctl("get", "nodes").stdout
        assert by_pod(podman) == {"kept": before["kept"]}
    wait_condition(node, "Ready", "True")
    wait_for(lambda: restarts(node, "victim") == 1 and "victim" in by_pod(podman), 15, "the restart")
    now = by_pod(podman)
    assert now["kept"] == before["kept"]

    node.process.terminate()
    with fault(podman) as reason:
        node.start()
        wait_condition(node, "Ready", "False", reason)
        assert by_pod(podman) == now
    wait_condition(node, "Ready", "True")
    wait_for(lambda: [p["status"]["phase"] for p in node.pods()] == ["Running"] * 2, 15, "both to be known")
    assert by_pod(podman) == now
    assert [restarts(node, "kept"), restarts(node, "victim")] == [0, 1]


# The broker


@pytest.mark.parametrize("side", ["client", "server"])
def test_certificates_of_another_authority_end_the_connection_and_nothing_else(
    cluster: Cluster, node: AgentProcess, podman: PodmanService, tmp_path: Path, side: str
) -> None:
    """The broker does not accept the node's, or the node not the broker's: ``edgeagent status`` says it."""
    before = start_pods(cluster, podman, "kept")
    config = cluster.hub_dir / "mosquitto" / "mosquitto.conf"
    good = config.read_text()
    cluster.broker.terminate()
    tmp_path.chmod(0o755)
    with other_authority(cluster, tmp_path) as other:
        if side == "client":
            bad = good.replace(str(cluster.hub_dir / "ca.crt"), str(other / "ca.crt"))
        else:
            bad = good
            for file in ("broker.crt", "broker.key"):
                bad = bad.replace(str(cluster.hub_dir / file), str(other / file))
        assert bad != good
        try:
            config.write_text(bad)
            cluster.start_broker()

            def refused() -> bool:
                text = str(node.read("/edge/v1/status")["lastError"]).lower()
                return "certificate" in text or "unknown ca" in text

            wait_for(refused, 15, "the reason to be known")
            status = node.run("status").stdout
            assert "Connected:   no: " in status
            assert by_pod(podman) == before
            cluster.broker.terminate()
        finally:
            config.write_text(good)
    cluster.start_broker()
    wait_condition(node, "Connected", "True")
    assert by_pod(podman) == before


@contextlib.contextmanager
def other_authority(cluster: Cluster, directory: Path) -> Iterator[Path]:
    """The files of another cluster, readable for the broker that turns into its own user."""
    with_other = Cluster(directory / "other", cluster.podman)
    yield with_other.hub_dir


def forged(generation: int) -> bytes:
    """An index that takes everything away, signed by somebody else."""
    key = SigningKey.generate()
    index = Index(
        cluster=CLUSTER, node=NODE, generation=generation, issued_at="2026-01-01T00:00:00Z", objects=[]
    )
    envelope = sign_envelope(INDEX_TYPE, encode_index(index), key.public.id, key)
    return encode_blob(encode_envelope(envelope), 200_000).payload


def test_who_owns_the_broker_cannot_change_what_runs(
    cluster: Cluster, node: AgentProcess, podman: PodmanService
) -> None:
    """Garbage, a forgery, an old index, another node's, an empty topic: the state before stays in force."""
    topic = f"nodes/{NODE}/desired"
    cluster.apply(sleeper("kept", NODE))
    cluster.wait_phase("kept", "Running")
    old = cluster.retained(topic)
    cluster.apply(sleeper("second", NODE))
    cluster.wait_phase("second", "Running")
    newest = cluster.retained(topic)
    cluster.add_node("n2")
    cluster.apply(sleeper("elsewhere", "n2"))
    theirs = wait_for(lambda: cluster.retained("nodes/n2/desired"), 10, "the other node's index")
    generation = node.status()["generation"]
    before = by_pod(podman)
    bad = {
        b"no blob at all": ("Invalid", "unknown payload encoding"),
        b"\x00no envelope": ("Invalid", "not a signed envelope"),
        b"\x01" + os.urandom(500): ("Invalid", ""),
        forged(generation + 1000): ("BadSignature", "not signed by the cluster's signing key"),
        theirs: ("WrongNode", "'n2'"),
    }
    for payload, (reason, message) in bad.items():
        cluster.publish(topic, payload)
        wait_message(node, message)
        found = wait_condition(node, "DesiredStateInForce", "False")
        assert found["reason"].startswith(reason), found
        assert f"False    {found['reason']}: " in node.run("status").stdout
        assert by_pod(podman) == before
        cluster.publish(topic, newest)
        wait_condition(node, "DesiredStateInForce", "True")
    cluster.publish(topic, forged(generation + 1000))
    wait_for(
        lambda: hub_condition(cluster, "DesiredStateInForce")["reason"] == "BadSignature",
        10,
        "the hub to know",
    )
    # Old ones and nothing at all say nothing; a restart of agent and broker changes nothing about it.
    for payload in (old, b""):
        cluster.publish(topic, payload)
        node.process.terminate()
        node.start()
        wait_condition(node, "Connected", "True")
        wait_condition(node, "DesiredStateInForce", "True")
        wait_for(lambda: [p["status"]["phase"] for p in node.pods()] == ["Running"] * 2, 10, "both known")
        assert by_pod(podman) == before
        assert node.status()["generation"] == generation
    # The hub's next word counts again.
    began = time.monotonic()
    cluster.apply(sleeper("third", NODE))
    cluster.wait_phase("third", "Running")
    assert time.monotonic() - began < 15
    assert {name: seen for name, seen in by_pod(podman).items() if name != "third"} == before
