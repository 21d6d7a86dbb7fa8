"""Whoever owns the broker sees no secret value: not on its way to the hub, to a node, or back to a person."""

import base64
import json
from pathlib import Path

from tests.support.cluster import Cluster, container, pod
from tests.support.podman import PodmanService
from tests.support.proc import Process
from tests.support.waiting import wait_for

VALUE = "hunter2-very-secret-value"


def listener(cluster: Cluster) -> Process:
    """Everything that the broker carries, as somebody reads it who may read all."""
    files = {"--cafile": "ca.crt", "--cert": "hub.crt", "--key": "hub.key"}
    options = [part for name, file in files.items() for part in (name, str(cluster.hub_dir / file))]
    return Process(
        [
            "mosquitto_sub",
            "-V",
            "5",
            "-h",
            "127.0.0.1",
            "-p",
            str(cluster.port),
            *options,
            "-t",
            "edge/#",
            "-F",
            "%t %x",
        ],
        log=cluster.directory / "carried.log",
    )


def test_a_secret_is_read_by_its_node_and_its_owner_and_by_nobody_between(
    podman: PodmanService, tmp_path: Path
) -> None:
    with Cluster(tmp_path / "cluster", podman) as cluster, listener(cluster) as carried:
        node = cluster.add_node("node1")
        node.start()
        carried.wait_until(lambda: b"/status " in carried.log.read_bytes(), what="hearing what is carried")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "login", "namespace": "default"},
            "stringData": {"password": VALUE},
        }
        reads = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
        command = ["sh", "-c", 'echo "it is $PASSWORD"; exec sleep 3600']
        cluster.apply(secret, pod("reader", "node1", [container("main", command, env=[reads])]))
        cluster.wait_phase("reader", "Running")
        wait_for(lambda: VALUE in cluster.ctl("logs", "reader").stdout, 10, "the pod to print its password")
        found = cluster.get("secret", "login")
        assert base64.b64decode(found["data"]["password"]).decode() == VALUE

        payloads = [
            bytes.fromhex(line.split()[1].decode())
            for line in carried.log.read_bytes().splitlines()
            if len(line.split()) == 2
        ]
        assert len(payloads) > 10
        forms = [VALUE.encode(), base64.b64encode(VALUE.encode())]
        assert not [payload for payload in payloads if any(form in payload for form in forms)]
        for path in node.directory.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not any(form in data for form in forms), path
        assert VALUE not in json.dumps(node.pods())
        assert VALUE not in cluster.ctl("describe", "pod", "reader").stdout
