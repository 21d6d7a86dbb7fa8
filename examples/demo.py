#!/usr/bin/env python3
"""The whole of edgeagent on one machine, in a minute: `./dev demo`.

Starts a broker with TLS, the hub and a node; applies examples/hello.yaml; then takes the broker away,
kills the container and restarts the agent, and shows what happens to the pod each time. Everything lies
in a temporary directory and on loopback, and is gone at the end.
"""

import contextlib
import http.client
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.cluster import AgentProcess, Cluster  # noqa: E402 - the path comes first
from tests.support.podman import PodmanService  # noqa: E402
from tests.support.proc import free_port, port_answers  # noqa: E402
from tests.support.waiting import wait_for  # noqa: E402

BOLD, GREEN, RESET = ("\033[1m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def say(text: str) -> None:
    """One step of the demonstration."""
    print(f"\n{BOLD}== {text}{RESET}", flush=True)


def show(text: str) -> None:
    """What a command printed."""
    print("".join(f"   {line}\n" for line in text.rstrip().splitlines()), end="", flush=True)


def good(text: str) -> None:
    """Something that was shown to be so."""
    print(f"   {GREEN}✔{RESET} {text}", flush=True)


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Say what takes a while, and how long it took."""
    print(f"   {text} …", end="", flush=True)
    began = time.monotonic()
    yield
    print(f" {time.monotonic() - began:.1f} s", flush=True)


def fetch(port: int) -> str:
    """What the pod answers over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/index.html")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


def container_of(podman: PodmanService) -> tuple[str, str]:
    """Id and start time of the running container."""
    line = podman.run("ps", "--no-trunc", "--format", "{{.ID}} {{.StartedAt}}").stdout.strip()
    identity, _, started = line.partition(" ")
    return identity, started


def pod_of(node: AgentProcess) -> dict[str, Any]:
    """The pod as the node itself sees it."""
    pods = node.pods()
    return pods[0] if pods else {}


def restarts(node: AgentProcess) -> int:
    """How often the container was restarted."""
    statuses = pod_of(node).get("status", {}).get("containerStatuses", [])
    return int(statuses[0]["restartCount"]) if statuses else -1


def running(node: AgentProcess) -> bool:
    """Whether the container runs, as the node sees it."""
    statuses = pod_of(node).get("status", {}).get("containerStatuses", [])
    return bool(statuses) and "running" in statuses[0]["state"]


def main() -> int:
    """The demonstration; 0 where everything was as it should be."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-demo-")))
        with working("starting Podman's API service on a storage of its own, and building an image"):
            podman = stack.enter_context(PodmanService())
            podman.import_busybox()
        say("A cluster: certificates, a broker with TLS, the hub")
        with working("edgehub init, mosquitto, edgehub run"):
            cluster = stack.enter_context(Cluster(directory, podman))
        with working("edgehub node add node1, edgeagent enroll, edgeagent run"):
            node = cluster.add_node("node1", pod_security="baseline")
            node.start()
        wait_for(
            lambda: "Ready" in cluster.ctl("get", "nodes", check=False).stdout, 30, "the node to be Ready"
        )
        show("$ edgectl get nodes\n" + cluster.ctl("get", "nodes").stdout)
        return demonstrate(cluster, node, podman, directory)


def demonstrate(cluster: Cluster, node: AgentProcess, podman: PodmanService, directory: Path) -> int:
    """Everything after the cluster is up."""
    port = free_port()
    manifest = directory / "hello.yaml"
    manifest.write_text((ROOT / "examples/hello.yaml").read_text().replace("8080", str(port)))

    say("edgectl apply -f examples/hello.yaml")
    show(cluster.ctl("apply", "-f", manifest).stdout)
    with working("waiting for the pod to be Running at the hub"):
        cluster.wait_phase("hello", "Running", namespace="hello")
    show("$ edgectl get pods -n hello\n" + cluster.ctl("get", "pods", "-n", "hello").stdout)
    wait_for(lambda: port_answers(port), 20, "the pod to listen")
    good(f"it answers over HTTP: {fetch(port)!r}")
    show("$ edgectl logs hello -n hello\n" + cluster.ctl("logs", "hello", "-n", "hello").stdout)

    say("The broker goes away")
    cluster.broker.terminate()
    wait_for(lambda: not node.status()["connected"], 20, "the node to notice")
    good(f"the node is alone, and the pod goes on: {fetch(port)!r}")

    say("The container is killed while the broker is away")
    before = restarts(node)
    identity, _ = container_of(podman)
    podman.run("kill", identity)
    with working("waiting for it to come back"):
        wait_for(lambda: restarts(node) == before + 1 and running(node), 30, "the container to be back")
        wait_for(lambda: port_answers(port), 20, "the pod to listen")
    good(f"a new container answers: {fetch(port)!r}")
    show("$ edgeagent get pods -A\n" + node.run("get", "pods", "-A").stdout)

    say("The agent is restarted while the broker is away")
    identity, started = container_of(podman)
    node.process.terminate()
    node.start()
    wait_for(lambda: running(node), 20, "the agent to know its pod again")
    if container_of(podman) != (identity, started):
        print("   the container was restarted, which it should not have been", file=sys.stderr)
        return 1
    good(f"nothing restarted: container {identity[:12]} runs since {started}")

    say("The broker is back")
    cluster.start_broker()
    with working("waiting for the hub to know of the restart"):

        def known() -> bool:
            pod = cluster.get("pod", "hello", "-n", "hello")
            statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
            return bool(statuses) and statuses[0]["restartCount"] == before + 1

        wait_for(known, 60, "the hub to catch up")
    if container_of(podman) != (identity, started):
        print(
            "   the container was touched by the reconnection, which it should not have been", file=sys.stderr
        )
        return 1
    good("the hub caught up, and no container was touched")
    show("$ edgectl get events -n hello\n" + cluster.ctl("get", "events", "-n", "hello").stdout)

    say("edgectl delete pod hello -n hello")
    show(cluster.ctl("delete", "pod", "hello", "-n", "hello").stdout)
    if podman.run("ps", "-aq").stdout.strip():
        print("   a container was left behind", file=sys.stderr)
        return 1
    good("stopped, removed, forgotten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
