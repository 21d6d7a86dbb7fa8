"""Certificates that run out or are followed by those of another CA, on a real broker, while a pod runs on."""

import asyncio
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.nodes import add_node, encode_join
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import Certificate, read_bundle, read_certificate
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.tls import client_context
from edgeagent.wire.trial import try_connection
from tests.support.cluster import AgentProcess, Cluster, program, running, sleeper
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

DAY = 86_400.0
CONDITION = "CertificateRenewed"


@pytest.fixture
def cluster(podman: PodmanService, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", podman) as cluster:
        yield cluster


def hub(cluster: Cluster, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One of the hub's commands."""
    argv = program("edgehub", *arguments, "--dir", cluster.hub_dir)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def enrol_in_the_past(cluster: Cluster, node: AgentProcess, days: float) -> None:
    """Give ``node`` an identity as it was made so many days ago."""
    files = HubFiles(cluster.hub_dir)
    join = add_node(files, node.name, ManualClock(time.time() - days * DAY), output=None, replace=True)
    path = node.directory / "old.join"
    path.write_bytes(encode_join(join))
    node.run("enroll", "--join-file", str(path), *(["--force"] if forces(node) else []))


def forces(node: AgentProcess) -> bool:
    """Whether enrolling anew wants to be told so."""
    return "--force" in node.run("enroll", "--help").stdout


def identity(node: AgentProcess) -> Path:
    """Where the node's keys lie."""
    return node.directory / "state" / "identity"


def certificate(node: AgentProcess) -> Certificate:
    """The one in use."""
    return read_certificate((identity(node) / "node.crt").read_bytes())


def is_connected(node: AgentProcess) -> bool:
    """Whether a broker has accepted its session."""
    return node.condition("Connected").get("status") == "True"


def lets_in(cluster: Cluster, folder: Path) -> str:
    """Why the broker does not let in the pair of files in ``folder``; empty if it does."""
    ca = HubFiles(cluster.hub_dir).ca_certificate
    tls = client_context(ca, folder / "node.crt", folder / "node.key")
    address = BrokerAddress(host=cluster.host, port=cluster.port)
    return asyncio.run(try_connection([address], tls, clock=SystemClock(), rng=random.Random(1)))


def connections(cluster: Cluster, client_id: str) -> int:
    """How often that client has connected."""
    log = (cluster.directory / "mosquitto.log").read_text()
    return sum(1 for line in log.splitlines() if "connected from" in line and f"as {client_id}" in line)


def test_a_certificate_that_ran_out_two_years_ago_is_renewed_by_itself(cluster: Cluster) -> None:
    node = cluster.add_node("n1")
    enrol_in_the_past(cluster, node, 3 * 365)
    before = certificate(node)
    assert before.not_after < time.time() - 2 * 365 * DAY + 2 * DAY
    assert lets_in(cluster, identity(node))
    for _ in range(3):
        hub(cluster, "keys", "rotate")
        hub(cluster, "ca", "rotate")
        finished = hub(cluster, "ca", "rotate", "--finish", "--force").stdout
        assert "the broker:" not in finished
    node.start()
    wait_for(lambda: is_connected(node), 60, "the node to be back")
    assert (identity(node) / "ca.crt").read_bytes() == (cluster.hub_dir / "ca.crt").read_bytes()
    hub(
        cluster,
        "operator",
        "add",
        "admin",
        "--role",
        "admin",
        "--output",
        str(cluster.directory / "new.json"),
    )
    (cluster.directory / "new.json").replace(cluster.hub_dir / "operator.json")
    now = certificate(node)
    assert now.serial != before.serial
    assert now.public_key != before.public_key
    assert now.not_after > time.time() + 300 * DAY
    assert node.condition(CONDITION)["status"] == "True"
    cluster.apply(sleeper("works", "n1"))
    cluster.wait_phase("works", "Running", 60)


def test_a_certificate_that_is_due_is_renewed_over_the_session_that_stays(cluster: Cluster) -> None:
    node = cluster.add_node("n1")
    enrol_in_the_past(cluster, node, 300)
    before = certificate(node)
    old = cluster.directory / "old"
    shutil.copytree(identity(node), old)
    node.start()
    cluster.apply(sleeper("stays", "n1"))
    cluster.wait_phase("stays", "Running", 60)
    wait_for(lambda: certificate(node).serial != before.serial, 60, "the renewal")
    assert certificate(node).not_after > time.time() + 300 * DAY
    assert not lets_in(cluster, identity(node))
    assert is_connected(node)
    events = [event["reason"] for event in cluster.get("events")["items"]]
    assert "CertificateRenewed" in events
    [seen] = running(cluster.podman)
    node.process.terminate()
    node.start()
    wait_for(lambda: is_connected(node), 30, "the node to be back with the new certificate")
    assert [one.id for one in running(cluster.podman)] == [seen.id]


def test_a_new_ca_is_followed_by_a_node_that_stays_connected(cluster: Cluster) -> None:
    node = cluster.add_node("n1")
    node.start()
    cluster.apply(sleeper("stays", "n1"))
    cluster.wait_phase("stays", "Running", 60)
    before = certificate(node)
    old = cluster.directory / "old"
    shutil.copytree(identity(node), old)
    said = hub(cluster, "ca", "rotate").stdout
    assert "edgeagent demo CA 2 issues from now on" in said
    assert "the broker:" not in said
    wait_for(lambda: certificate(node).issuer_key != before.issuer_key, 60, "a certificate of the new CA")
    [newest, _] = read_bundle((cluster.hub_dir / "ca.crt").read_bytes())
    assert certificate(node).issuer_key == newest.key_id
    # Both count.
    assert not lets_in(cluster, old)
    assert not lets_in(cluster, identity(node))

    def status() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(hub(cluster, "ca", "status", "-o", "json").stdout)
        return found

    wait_for(lambda: status()[0]["nodes"] == ["n1"], 30, "the hub to know that the new one is in use")
    refused = hub(cluster, "ca", "rotate", "--finish", check=False)
    assert refused.returncode == 1
    assert "operator admin" in refused.stderr
    assert "n1" not in refused.stderr
    mine = cluster.directory / "admin.json"
    hub(cluster, "operator", "add", "admin", "--role", "admin", "--output", str(mine))
    finished = hub(cluster, "ca", "rotate", "--finish").stdout
    assert "is the only CA that counts now" in finished
    assert "the broker:" not in finished
    assert lets_in(cluster, old)
    assert not lets_in(cluster, identity(node))
    mine.replace(cluster.hub_dir / "operator.json")
    assert is_connected(node)
    cluster.apply(sleeper("after", "n1"))
    cluster.wait_phase("after", "Running", 60)
    assert {one.pod for one in running(cluster.podman)} == {"stays", "after"}
    cluster.broker.terminate()
    cluster.start_broker()
    wait_for(lambda: is_connected(node), 60, "the node to be back after the broker's restart")
    cluster.wait_phase("after", "Running")
    assert len(status()) == 1
