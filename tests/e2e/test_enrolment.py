"""Devices become nodes with a token, and nodes go out, with every part a process of its own."""

import json
import subprocess
from pathlib import Path

from tests.support.cluster import AgentProcess, Cluster, program, running, sleeper
from tests.support.podman import PodmanService
from tests.support.proc import Process
from tests.support.waiting import wait_for


def command_of(token: dict[str, object], name: str) -> list[str]:
    """What ``edgehub token create`` says to run on the device, but for the program's name."""
    words = str(token["command"]).split()
    assert words[:2] == ["edgeagent", "enroll"]
    if "--name" in words:
        words[words.index("--name") + 1] = name
    else:
        words += ["--name", name]
    return words[1:]


def ready(cluster: Cluster, name: str) -> bool:
    node = cluster.get("node", name) or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def enrol(device: AgentProcess, token: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return device.run(*command_of(token, device.name), check=False)


def test_a_node_comes_by_token_and_goes_by_revocation_and_its_pods_run_on(
    podman: PodmanService, tmp_path: Path
) -> None:
    with Cluster(tmp_path / "cluster", podman) as cluster:
        old = cluster.prepare_node("gw-1")
        done = enrol(old, cluster.token())
        assert done.returncode == 0, done.stderr
        assert "enrolled as node 'gw-1' of cluster 'demo'" in done.stdout
        old.start()
        wait_for(lambda: ready(cluster, "gw-1"), 30, "the node to be ready")
        cluster.apply(sleeper("web", "gw-1"))
        cluster.wait_phase("web", "Running")
        before = running(podman)

        said = json.loads(cluster.edgehub("node", "revoke", "gw-1", "-o", "json").stdout)
        assert said == {"name": "gw-1", "state": "revoked", "brokerRefuses": True, "problem": ""}
        wait_for(lambda: not old.status()["connected"], 5, "the node to be without a broker")
        wait_for(lambda: "REVOKED" in old.status()["lastError"].upper(), 15, "the node to know why")
        assert old.condition("Connected")["status"] == "False"
        assert running(podman) == before
        assert cluster.get("node", "gw-1") is None
        # Also a restart neither brings it back nor touches what runs.
        old.process.terminate()
        old.start()
        wait_for(lambda: "REVOKED" in old.status()["lastError"].upper(), 15, "the node to be refused again")
        assert running(podman) == before

        refused = enrol(cluster.prepare_node("gw-1", device="thief"), cluster.token())
        assert refused.returncode == 1
        assert "gw-1 was revoked" in refused.stderr
        assert "--replace --name gw-1" in refused.stderr

        new = cluster.prepare_node("gw-1", device="board2", extra="enabled = false\n")
        assert enrol(new, cluster.token("--replace", "--name", "gw-1")).returncode == 0
        new.start()
        wait_for(lambda: new.status()["connected"], 20, "the new board to be connected")
        assert cluster.get("node", "gw-1") is not None
        assert not old.status()["connected"]
        assert running(podman) == before


def test_a_person_approves_a_device_that_waits(podman: PodmanService, tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", podman) as cluster:
        device = cluster.prepare_node("gw-1")
        token = cluster.token("--approval", "manual", "--name", "gw-*")
        asking = Process(
            program("edgeagent", "--config", device.config, *command_of(token, "gw-1")),
            log=tmp_path / "enroll.log",
        )
        with asking:
            asking.wait_until(lambda: "waiting for approval" in asking.tail(), what="waiting for approval")
            listed = json.loads(cluster.edgehub("enrolment", "list", "-o", "json").stdout)
            assert [(one["node"], one["state"]) for one in listed] == [("gw-1", "pending")]
            assert listed[0]["key"] in asking.tail()
            assert "the hub tells the device" in cluster.edgehub("enrolment", "approve", "gw-1").stdout
            assert asking.wait() == 0, asking.tail()
        device.start()
        wait_for(lambda: ready(cluster, "gw-1"), 30, "the node to be ready")
        again = enrol(device, token)
        assert again.returncode == 1
        assert "add --force" in again.stderr
