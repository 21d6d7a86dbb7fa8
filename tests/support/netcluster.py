"""A whole cluster with the pod network on: hub, broker and edgectl on a LAN, and nodes that are hosts on it.

Each node is a real agent in a network namespace of its own, with a Podman of its own.
"""

import http.client
import json
import os
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeagent.api.objects.network import Overlay
from edgeagent_network.programs import run_program
from tests.support.cluster import AgentProcess, Cluster, containers, running
from tests.support.netlab import NETNS, Host, Lab
from tests.support.netprobe import in_namespace_thread
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.waiting import wait_for
from tests.support.wireguardlab import WireGuardHost

ASK_SECONDS = 2.0
"""How long an answer may take before it counts as none."""
WAIT_SECONDS = 60.0
"""How long a change may take on a machine that is busy with other things."""
POLL_SECONDS = 0.25
"""Between two looks by edgectl, which costs more than a look."""


class NetCluster:
    """Use it as a context. ``podmans``: each node's, by name; the node ``a`` is the lab's first host.

    Pods and Services have addresses of both families, and the nodes ``overlay`` between them.
    """

    def __init__(
        self, directory: Path, podmans: Mapping[str, PodmanService], *, overlay: Overlay = "vxlan"
    ) -> None:
        self.podmans = dict(podmans)
        self.overlay = overlay
        self.lab = Lab(forwarding=False)
        self.hosts: dict[str, Host] = {}
        self.wireguard: dict[str, WireGuardHost] = {}
        """By node, where that is the overlay."""
        self._stack = ExitStack()
        self._stack.callback(self.lab.close)
        try:
            self._begin(directory)
        except BaseException:
            self._stack.close()
            raise

    def _begin(self, directory: Path) -> None:
        lab = self.lab
        for name in self.podmans:
            host = self.hosts[name] = lab.host if name == "a" else lab.add_host(name)
            if self.overlay == "wireguard":
                self.wireguard[name] = WireGuardHost(host)
                self._stack.callback(self.wireguard[name].close)
        ranges = ["--pod-cidr", "10.42.0.0/16", "--pod-cidr", "fd42::/48"]
        ranges += ["--service-cidr", "10.43.0.0/16", "--service-cidr", "fd43::/112"]
        made = Cluster(
            directory,
            next(iter(self.podmans.values())),
            host=lab.lan4,
            namespace=lab.lan,
            init=[*ranges, "--overlay", self.overlay],
        )
        self.cluster = self._stack.enter_context(made)
        for name, podman in self.podmans.items():
            host, env = self.hosts[name], {}
            if name in self.wireguard:
                programs = self.wireguard[name].programs(directory / f"programs-{name}")
                env["PATH"] = f"{programs}:{os.environ['PATH']}"
            extra = f'[plugins.network]\nnamespace_prefix = "{host.pod_prefix}"\n'
            made.add_node(name, extra=extra, env=env, podman=podman, namespace=host.name).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def node(self, name: str) -> AgentProcess:
        """The agent of a node."""
        return self.cluster.nodes[name]

    def spaces(self) -> list[str]:
        """The network namespaces of pods that there are."""
        prefixes = tuple(host.pod_prefix for host in self.hosts.values())
        return [name for name in sorted(self.lab.namespaces()) if name.startswith(prefixes)]

    def plug(self, name: str, *, in_: bool) -> None:
        """Have a node's cable in the LAN's switch, or not."""
        run_program(["ip", "-n", self.lab.lan, "link", "set", "dev", name, "up" if in_ else "down"])

    def settled(self, name: str) -> bool:
        """Whether a node is connected, has looked at its network, and found nothing wrong with it."""
        expected = {"Connected": "True", "NetworkUnavailable": "False"}
        node = self.node(name)
        return all(node.condition(type_).get("status") == status for type_, status in expected.items())

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
        pods = [one["metadata"]["name"] for one in objects if one["kind"] == "Pod"]
        try:
            for pod in pods:
                self.wait_ready(pod)
            yield
        finally:
            for kind in dict.fromkeys(one["kind"] for one in objects):
                listed = [one["metadata"]["name"] for one in objects if one["kind"] == kind]
                self.cluster.ctl("delete", kind.lower(), *listed, "--wait=false")
            wait_for(lambda: not self._left(pods), WAIT_SECONDS, f"{pods} to be gone", POLL_SECONDS)

    def _left(self, pods: Sequence[str]) -> list[str]:
        """Those of which the hub or a Podman still knows."""
        there = {item["metadata"]["name"] for item in (self.cluster.get("pods") or {"items": []})["items"]}
        there |= {seen.pod for podman in self.podmans.values() for seen in containers(podman)}
        return [pod for pod in pods if pod in there]

    def wait_ready(self, name: str) -> None:
        """Until the hub knows the pod as ready."""

        def ready() -> bool:
            found = (self.cluster.get("pod", name) or {}).get("status", {})
            return any(
                (one["type"], one["status"]) == ("Ready", "True") for one in found.get("conditions", [])
            )

        try:
            wait_for(ready, WAIT_SECONDS, f"pod {name} to be ready at the hub", POLL_SECONDS)
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


def service(name: str, selector: dict[str, str], *ports: dict[str, Any]) -> dict[str, Any]:
    """A Service of both families."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "ports": list(ports), "ipFamilyPolicy": "RequireDualStack"},
    }


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for what takes an agent or the hub a moment."""
    wait_for(holds, WAIT_SECONDS, what, interval=0.2)


def ask(
    namespace: str, host: str, port: int = 8080, *, times: int = 1, path: str = "cgi-bin/who"
) -> Counter[str]:
    """What servers answer to so many requests from a network namespace, one after another and each on a
    connection of its own: how often each answer came. It ends with the first that is not answered, as "".
    """
    bracketed = f"[{host}]" if ":" in host else host
    url = f"http://{bracketed}:{port}/{path}"

    def run() -> Counter[str]:
        found: Counter[str] = Counter()
        try:
            for _ in range(times):
                with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
                    body: bytes = answer.read()
                found[body.decode().strip()] += 1
        except (OSError, http.client.HTTPException):
            found[""] += 1
        return found

    return in_namespace_thread(namespace, run)


def names(answers: Iterable[str]) -> set[str]:
    """The servers that gave these answers, "" for one that is none."""
    return {answer.partition(" ")[0] for answer in answers}
