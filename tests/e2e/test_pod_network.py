"""The network plugin under a real agent and real Podman: a namespace is the node's host.

The manifests lie in the node's own folder, so that what is shown here holds with no hub at all.
https://kubernetes.io/docs/concepts/services-networking/
"""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgeagent.cli.edgeagent import main as edgeagent
from tests.support.lone import LoneAgent, is_running, static_pod
from tests.support.netlab import NETNS, Lab
from tests.support.netprobe import in_namespace_thread
from tests.support.podman import PodmanService
from tests.support.podtable import covers
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

LABELS = {"app": "web"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A host and a peer on its LAN."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> PodmanService:
    """The one of this process."""
    return podman_service


@pytest.fixture(scope="module")
def lone(lab: Lab, podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent whose host is the lab's, with the plugin for the kernel's network."""
    extra = (
        f'[plugins.network]\nnamespace_prefix = "{lab.host.pod_prefix}"\ndns = "off"\n'
        'pod_cidrs = ["10.42.7.0/24", "fd42:7::/64"]\nservice_cidrs = ["10.43.0.0/16", "fd43::/112"]\n'
    )
    options: dict[str, Any] = {"network": False, "namespace": lab.host.name, "extra": extra}
    with LoneAgent(tmp_path_factory.mktemp("lone"), podman, **options) as agent:
        wait_for(lambda: unavailable(agent) == "False", what="the network")
        agent.mark()
        yield agent
        agent.clear()
        agent.assert_nothing_left()


def unavailable(lone: LoneAgent) -> str:
    """The node's condition ``NetworkUnavailable``."""
    conditions = lone.read("/edge/v1/status")["status"]["conditions"]
    return next((one["status"] for one in conditions if one["type"] == "NetworkUnavailable"), "")


def pod(name: str, *command: str, ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod with a network of its own. Unless it has a command, it is of the Services, and says its name."""
    serve = f"echo {name} > /index.html; httpd -f -p 8080 -h /"
    words = command or ("sh", "-c", serve)
    container = {"ports": ports or [{"name": "http", "containerPort": 8080}]}
    labels = {} if command else LABELS
    return static_pod(name, words, labels=labels, container=container, hostNetwork=False, **spec)


def service(name: str, address: str, **spec: Any) -> dict[str, Any]:
    """A Service of the pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "clusterIP": address,
            "selector": LABELS,
            "ports": [{"port": 80, "targetPort": "http"}],
            **spec,
        },
    }


def namespace_of(lone: LoneAgent, name: str) -> str:
    """The network namespace that the pod's container is in, as ip-netns(8) calls it."""
    inode = os.stat(f"/proc/{lone.inspect(name)['State']['Pid']}/ns/net").st_ino
    return next(path.name for path in NETNS.iterdir() if path.stat().st_ino == inode)


def fetch(namespace: str, url: str) -> str:
    """What is got from there within two seconds; empty where nothing is.

    Not by the image's busybox: linked statically, it crashes where it looks an address up.
    """

    def ask() -> str:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http alone
                found: bytes = answer.read()
                return found.decode().strip()
        except OSError:
            return ""

    return in_namespace_thread(namespace, ask)


def until(answers: Callable[[], bool]) -> None:
    """Wait for a server that has just been started."""
    wait_for(answers, timeout=20, what="the answer")


@pytest.mark.installed
def test_pods_have_addresses_of_the_nodes_range_and_reach_each_other(lone: LoneAgent) -> None:
    with lone.running(pod("a")) as first, lone.running(pod("b")) as second:
        one, two = (found["status"]["podIPs"] for found in (first, second))
        assert [ip["ip"].rpartition(".")[0] or ip["ip"].rpartition(":")[0] for ip in one] == [
            "10.42.7",
            "fd42:7:",
        ]
        until(lambda: fetch(namespace_of(lone, "a"), f"http://{two[0]['ip']}:8080/") == "b")
        until(lambda: fetch(namespace_of(lone, "b"), f"http://[{one[1]['ip']}]:8080/") == "a")


def test_a_service_follows_the_readiness_of_the_nodes_own_pods(lone: LoneAgent, lab: Lab) -> None:
    ready = {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1}
    served = pod("served")
    served["spec"]["containers"][0]["readinessProbe"] = ready
    url = "http://10.43.0.10/"
    with (
        lone.running(pod("client", "sleep", "3600")),
        lone.running(served, service("web", "10.43.0.10")),
    ):
        assert fetch(namespace_of(lone, "client"), url) == ""
        lone.exec("served", "touch", "/ready")
        until(lambda: fetch(namespace_of(lone, "client"), url) == "served")
        assert fetch(lab.host.name, url) == "served"
        assert fetch(namespace_of(lone, "served"), url) == "served"
        lone.exec("served", "rm", "/ready")
        until(lambda: fetch(namespace_of(lone, "client"), url) == "")


@covers("ContainerPort.hostPort", "ContainerPort.hostIP")
def test_a_port_of_the_host_leads_to_the_pod(lone: LoneAgent, lab: Lab) -> None:
    ports: list[dict[str, Any]] = [
        {"containerPort": 8080, "hostPort": 18080},
        {"containerPort": 8080, "hostPort": 18081, "hostIP": "127.0.0.9"},
    ]
    with lone.running(pod("hosted", ports=ports)):
        until(lambda: fetch(lab.lan, f"http://{lab.host.ip4}:18080/") == "hosted")
        assert fetch(lab.lan, f"http://{lab.host.ip4}:18081/") == ""
    assert fetch(lab.lan, f"http://{lab.host.ip4}:18080/") == ""


def test_a_policy_is_in_force_once_the_pod_runs(lone: LoneAgent) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {"matchLabels": {"shut": "yes"}}, "policyTypes": ["Egress"]},
    }
    with lone.running(pod("open")) as target, lone.running(pod("free", "sleep", "3600")):
        address = target["status"]["podIP"]
        until(lambda: fetch(namespace_of(lone, "free"), f"http://{address}:8080/") == "open")
        shut = pod("shut", "sleep", "3600")
        shut["metadata"]["labels"] = {"shut": "yes"}
        with lone.running(shut, policy):
            assert fetch(namespace_of(lone, "shut"), f"http://{address}:8080/") == ""
            assert fetch(namespace_of(lone, "free"), f"http://{address}:8080/") == "open"
        with lone.running(shut):
            assert fetch(namespace_of(lone, "shut"), f"http://{address}:8080/") == "open"


def test_a_restarted_agent_leaves_networks_as_they_are(lone: LoneAgent) -> None:
    with lone.running(pod("kept")) as before, lone.running(pod("asker", "sleep", "3600")):
        address = before["status"]["podIP"]
        namespace = namespace_of(lone, "kept")
        lone.restart(kill=True)
        until(lambda: fetch(namespace_of(lone, "asker"), f"http://{address}:8080/") == "kept")
        after = lone.wait_status("kept", lambda status: status.get("podIP") == address)
        assert after["status"]["podIPs"] == before["status"]["podIPs"]
        assert namespace_of(lone, "kept") == namespace


def test_a_deleted_pod_stays_isolated_though_the_agent_is_restarted(lone: LoneAgent) -> None:
    """Policies apply to a pod until it is gone; its endpoint serves, terminating, where there is no other."""
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {"matchLabels": LABELS}, "policyTypes": ["Egress"]},
    }
    stays = "trap '' TERM; echo stays > /index.html; httpd -p 8080 -h /; while :; do sleep 1; done"
    leaving = pod("leaving", "sh", "-c", stays, terminationGracePeriodSeconds=300)
    leaving["metadata"]["labels"] = LABELS

    def isolated() -> bool:
        (row,) = lone.read("/edge/v1/network/policies")["rows"]
        return lone.full_name("leaving") in row["pods"]

    with (
        lone.running(pod("target", "sh", "-c", "echo target > /index.html; httpd -f -p 8080 -h /")) as target,
        lone.running(pod("client", "sleep", "3600"), service("web", "10.43.0.10"), deny),
    ):
        url = f"http://{target['status']['podIP']}:8080/"
        until(lambda: fetch(namespace_of(lone, "client"), url) == "target")
        lone.write("leaving", leaving)
        lone.wait_status("leaving", is_running)
        until(lambda: fetch(namespace_of(lone, "client"), "http://10.43.0.10/") == "stays")
        pid = lone.inspect("leaving")["State"]["Pid"]
        namespace = namespace_of(lone, "leaving")
        assert fetch(namespace, url) == ""
        lone.remove("leaving")
        wait_for(lambda: any(one["reason"] == "Killing" for one in lone.events("leaving")), what="its end")
        lone.restart(kill=True)
        try:
            wait_for(lambda: unavailable(lone) == "False", what="the network")
            assert isolated()
            assert fetch(namespace, url) == ""
            assert fetch(namespace_of(lone, "client"), "http://10.43.0.10/") == "stays"
        finally:
            os.kill(pid, signal.SIGKILL)
        lone.wait_gone("leaving")
        wait_for(lambda: not isolated(), what="the policy without its pod")


@pytest.mark.installed
def test_the_program_on_the_node_shows_and_traces(
    lone: LoneAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    client = f"default/{lone.full_name('client')}"

    def told(*words: str) -> str:
        assert edgeagent(["--socket", str(lone.run_dir / "api.sock"), "network", *words]) == 0
        return capsys.readouterr().out

    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "shut"},
        "spec": {"podSelector": {"matchLabels": LABELS}, "ingress": [{"ports": [{"port": 8080}]}]},
    }
    with (
        lone.running(pod("client", "sleep", "3600")),
        lone.running(pod("shown"), service("web", "10.43.0.10"), policy) as shown,
    ):
        until(lambda: fetch(namespace_of(lone, "client"), "http://10.43.0.10/") == "shown")
        (row,) = json.loads(told("services", "-o", "json"))
        assert (row["name"], row["endpoints"]) == ("web", "1/1")
        assert int(row["hits"]) >= 1
        lines = told("trace", client, "default/web:80").splitlines()
        assert any("allows it by spec.ingress[0]" in line for line in lines)
        assert lines[-1] == "allowed"
        ip = shown["status"]["podIP"]
        assert told("trace", client, f"{ip}:81").splitlines()[-1].startswith("dropped")
        assert fetch(namespace_of(lone, "client"), f"http://{ip}:81/") == ""
        assert f"{client}   10.42.7." in told("drops")
        assert told("policies").splitlines()[1].split()[:4] == [
            "default",
            "shut",
            "ingress",
            lone.full_name("shown"),
        ]
