"""What operators may do on a real cluster, and what is noted of it, with the programs that people use."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import AgentProcess, Cluster, container, pod
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for


@pytest.fixture
def site(podman: PodmanService, tmp_path: Path) -> Iterator[tuple[Cluster, AgentProcess]]:
    """A cluster of one node, whose command to reboot leaves a file behind instead."""
    with Cluster(tmp_path / "site", podman) as cluster:
        node = cluster.add_node("n1")
        text = node.config.read_text()
        touch = f'reboot_command = ["touch", "{tmp_path}/rebooted"]\n'
        node.config.write_text(text.replace("[agent]\n", f"[agent]\n{touch}", 1))
        node.start()
        wait_for(lambda: cluster.get("node", "n1"), 30, "the node at the hub")
        yield cluster, node


def _operator(cluster: Cluster, name: str, role: str, *more: str) -> Path:
    path = cluster.directory / f"{name}.json"
    cluster.edgehub("operator", "add", name, "--role", role, "--output", str(path), *more)
    return path


def _condition(cluster: Cluster, type_: str = "AuditLogComplete") -> dict[str, Any]:
    node = cluster.get("node", "n1") or {}
    found: list[dict[str, Any]] = node.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == type_), {})


def test_a_viewer_sees_and_changes_nothing_and_all_of_it_is_noted(
    site: tuple[Cluster, AgentProcess], tmp_path: Path
) -> None:
    cluster, node = site
    hello = pod("hello", "n1", [container("main", ["sh", "-c", "echo hello; exec sleep 3600"])])
    cluster.apply(hello)
    cluster.wait_phase("hello", "Running")
    viewer = str(_operator(cluster, "ann", "viewer"))

    def ctl(*words: str | Path) -> Any:
        return cluster.ctl("--config", viewer, *words, check=False)

    assert "hello" in ctl("get", "pods").stdout

    def told() -> bool:
        """The node has the index with the new binding."""
        return bool(ctl("logs", "hello").returncode == 0)

    wait_for(told, 30, "the viewer's log")
    assert ctl("logs", "hello").stdout == "hello\n"
    manifest = tmp_path / "hello.json"
    manifest.write_text(json.dumps(hello | {"metadata": {"name": "other", "namespace": "default"}}))
    refused = ctl("apply", "-f", manifest)
    assert refused.returncode == 1
    assert (
        'Error from server (Forbidden): pods "other" is forbidden: user "ann" cannot create resource "pods"'
        ' in namespace "default"' in refused.stderr
    )
    assert 'cannot delete resource "pods" in namespace "default"' in ctl("delete", "pod", "hello").stderr
    assert 'cannot create resource "nodes/reboot" at the cluster scope' in ctl("reboot", "n1").stderr
    assert 'cannot get resource "auditlogs"' in ctl("audit").stderr
    assert "secrets is forbidden" in ctl("get", "secrets").stderr
    assert cluster.pod_phase("hello") == "Running"

    def rows(*words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(cluster.ctl("audit", *words, "-o", "json").stdout)["rows"]
        return found

    def brief(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["operator"], row["method"], row["verdict"]

    at_hub = [brief(row) for row in rows()]
    assert ("ann", "logs", "allowed") in at_hub
    assert {("ann", "apply", "refused"), ("ann", "delete", "refused"), ("ann", "reboot", "refused")} <= set(
        at_hub
    )
    wait_for(lambda: ("ann", "logs", "allowed") in [brief(row) for row in rows("n1")], 10, "the node's rows")
    on_node = json.loads(node.run("audit", "-o", "json").stdout)
    assert on_node["findings"] == []
    assert on_node["rows"] == rows("n1")
    assert ("ann", "logs", "allowed") in [brief(row) for row in on_node["rows"]]
    assert "ann" in node.run("audit").stdout


def test_an_admin_reboots_a_node_and_a_revoked_one_does_not(
    site: tuple[Cluster, AgentProcess], tmp_path: Path
) -> None:
    cluster, _ = site
    assert cluster.ctl("reboot", "n1").stdout == "node/n1 is rebooting\n"
    rebooted = tmp_path / "rebooted"
    assert rebooted.exists()
    rebooted.unlink()
    other = _operator(cluster, "ben", "admin")
    listed = cluster.edgehub("operator", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["admin", "ben"]
    cluster.edgehub("operator", "revoke", "ben")
    refused = cluster.ctl("--config", other, "reboot", "n1", check=False)
    assert "the broker refuses this client's certificate, which was revoked" in refused.stderr
    assert not rebooted.exists()
    last = cluster.edgehub("operator", "revoke", "admin", check=False)
    assert "admin is the only admin" in last.stderr
    wait_for(lambda: _condition(cluster).get("status") == "True", 10, "a complete audit log")


def test_a_changed_row_of_the_nodes_table_is_noticed_by_the_hub(
    site: tuple[Cluster, AgentProcess],
) -> None:
    cluster, node = site
    cluster.ctl("reboot", "n1")
    cluster.ctl("network", "n1", check=False)
    wait_for(lambda: _condition(cluster).get("reason") == "Complete", 10, "the rows at the hub")
    node.process.terminate()
    database = sqlite3.connect(node.directory / "state" / "agent.db")
    with database:
        [(body,)] = database.execute("SELECT body FROM audit WHERE sequence = 2").fetchall()
        changed = bytes(body).replace(b'"operator":"admin"', b'"operator":"nobody"')
        assert changed != body
        database.execute("UPDATE audit SET body = ? WHERE sequence = 2", (changed,))
    database.close()
    node.start()
    wait_for(lambda: _condition(cluster).get("reason") == "Tampered", 30, "the hub's finding")
    shown = cluster.ctl("audit", "n1", check=False)
    assert (shown.returncode, "row 2 is another than the one that it told" in shown.stderr) == (1, True)
    assert "nobody" not in shown.stdout
    cluster.edgehub("audit", "acknowledge", "n1")
    assert cluster.ctl("audit", "n1").returncode == 0
