"""A whole cluster with the pod network on: a hub, its broker and edgectl on a LAN, and nodes that are hosts on it.

Each node is a real agent in a network namespace of its own, with a Podman of its own.
"""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.cluster import AgentProcess, Cluster, containers, running, within
from tests.support.netlab import NETNS, Host, Lab
from tests.support.netprobe import in_namespace_thread
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.waiting import wait_for

ASK_SECONDS = 2.0
"""How long an answer may take before it counts as none."""
WAIT_SECONDS = 60.0
"""How long a change may take on a machine that is busy with other things."""


class NetCluster:
    """Use it as a context. ``podmans``: each node's, by name; the node ``a`` is the lab's first host.

    Pods and Services have addresses of both families, and the nodes a VXLAN between them.
    """

    def __init__(self, directory: Path, podmans: Mapping[str, PodmanService]) -> None:
        self.podmans = dict(podmans)
        self.lab = Lab(forwarding=False)
        self._stack = ExitStack()
        self._stack.callback(self.lab.close)
        try:
            self._begin(directory)
        except BaseException:
            self._stack.close()
            raise

    def _begin(self, directory: Path) -> None:
        lab = self.lab
        ranges = ["--pod-cidr", "10.42.0.0/16", "--pod-cidr", "fd42::/48"]
        ranges += ["--service-cidr", "10.43.0.0/16", "--service-cidr", "fd43::/112"]
        made = Cluster(
            directory,
            next(iter(self.podmans.values())),
            host=lab.lan4,
            namespace=lab.lan,
            init=[*ranges, "--overlay", "vxlan"],
        )
        self.cluster = self._stack.enter_context(made)
        self.hosts: dict[str, Host] = {}
        for name, podman in self.podmans.items():
            host = self.hosts[name] = lab.host if name == "a" else lab.add_host(name)
            extra = f'[plugins.network]\nnamespace_prefix = "{host.pod_prefix}"\n'
            made.add_node(name, extra=extra, podman=podman, namespace=host.name).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def node(self, name: str) -> AgentProcess:
        """The agent of a node."""
        return self.cluster.nodes[name]

    def told(self, *words: str) -> Any:
        """The JSON that ``edgectl network`` prints."""
        return json.loads(self.cluster.ctl("network", *words, "-o", "json").stdout)

    def online(self, name: str) -> bool:
        """Whether the hub holds a node for ready."""
        found = self.cluster.get("node", name) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)

    # Pods

    @contextmanager
    def applied(self, *objects: Mapping[str, Any]) -> Iterator[None]:
        """These objects for as long as the block is, and its pods ready."""
        self.cluster.apply(*objects)
        names = [one["metadata"]["name"] for one in objects if one["kind"] == "Pod"]
        try:
            for name in names:
                self.wait_ready(name)
            yield
        finally:
            for one in objects:
                self.cluster.ctl("delete", one["kind"].lower(), one["metadata"]["name"], "--wait=false")
            wait_for(lambda: not self._left(names), WAIT_SECONDS, f"{names} to be gone")

    def _left(self, names: Sequence[str]) -> list[str]:
        """Those pods of which the hub or a Podman still knows."""
        there = {item["metadata"]["name"] for item in (self.cluster.get("pods") or {"items": []})["items"]}
        there |= {seen.pod for podman in self.podmans.values() for seen in containers(podman)}
        return [name for name in names if name in there]

    def wait_ready(self, name: str) -> None:
        """Until the hub knows the pod as ready."""

        def ready() -> bool:
            found = (self.cluster.get("pod", name) or {}).get("status", {})
            return any(
                (one["type"], one["status"]) == ("Ready", "True") for one in found.get("conditions", [])
            )

        try:
            wait_for(ready, WAIT_SECONDS, f"pod {name} to be ready at the hub")
        except AssertionError as error:
            logs = "\n".join(node.process.tail(15) for node in self.cluster.nodes.values())
            raise AssertionError(f"{error}\n{logs}") from None

    def ips(self, pod: str) -> list[str]:
        """The pod's addresses as the hub knows them."""
        return [one["ip"] for one in self.cluster.get("pod", pod)["status"]["podIPs"]]

    def service_ips(self, service: str) -> list[str]:
        """The Service's addresses."""
        found: list[str] = self.cluster.get("service", service)["spec"]["clusterIPs"]
        return found

    def container(self, pod: str) -> tuple[PodmanService, str]:
        """Where the pod's container runs, and its id."""
        for podman in self.podmans.values():
            for seen in running(podman):
                if seen.pod == pod:
                    return podman, seen.id
        raise AssertionError(f"no container of pod {pod} runs")

    def exec(self, pod: str, *command: str, check: bool = True) -> str:
        """What a command in the pod's container writes."""
        podman, container = self.container(pod)
        return podman.run("exec", container, *command, check=check).stdout

    def namespace(self, pod: str) -> str:
        """The network namespace that the pod's container is in, as ip-netns(8) calls it."""
        podman, container = self.container(pod)
        pid = podman.run("inspect", "--format", "{{.State.Pid}}", container).stdout.strip()
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        return next(path.name for path in NETNS.iterdir() if path.stat().st_ino == inode)


def server(name: str, node: str, **labels: str) -> dict[str, Any]:
    """A pod whose web server says ``NAME CLIENT-ADDRESS`` at ``/cgi-bin/who``; ready while ``/ready`` is."""
    script = f"#!/bin/sh\\necho; echo {name} $REMOTE_ADDR\\n"
    serve = (
        f"mkdir -p /www/cgi-bin; printf '{script}' > /www/cgi-bin/who; chmod +x /www/cgi-bin/who;"
        " touch /ready; httpd -f -p 8080 -h /www"
    )
    made = client(name, node, **labels)
    made["spec"]["containers"][0] |= {
        "command": ["sh", "-c", serve],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1},
    }
    return made


def client(name: str, node: str, **labels: str) -> dict[str, Any]:
    """A pod on the pod network that sleeps."""
    main = {"name": "main", "image": BUSYBOX_TAG, "command": ["sleep", "3600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [main]},
    }


def ask(namespace: str, host: str, port: int = 8080, *, times: int = 1) -> Counter[str]:
    """What is answered to so many requests, one after another and each on a connection of its own, from a
    network namespace: how often each answer came, empty where none did.
    """
    bracketed = f"[{host}]" if ":" in host else host
    url = f"http://{bracketed}:{port}/cgi-bin/who"

    def once() -> str:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:  # noqa: S310 - http alone
            found: bytes = answer.read()
            return found.decode().strip()
        return ""

    return in_namespace_thread(namespace, lambda: Counter(once() for _ in range(times)))
