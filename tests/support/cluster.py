"""A whole cluster on this machine: Mosquitto with TLS, the hub, nodes on a real Podman, and edgectl.

Everything is a process of its own, started by the commands that people use.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeagent.api.runtime import LABEL_CONTAINER, LABEL_POD_NAME, LABEL_POD_UID
from tests.support.broker import MOSQUITTO
from tests.support.netprobe import in_namespace_thread
from tests.support.podman import PodmanService
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for

CLUSTER = "demo"


def program(name: str, *arguments: str | Path) -> list[str]:
    """The argument list that starts one of the three programs with this Python."""
    return [sys.executable, "-m", f"edgeagent.cli.{name}", *map(str, arguments)]


def within(namespace: str, argv: Sequence[str]) -> list[str]:
    """The argument list in a network namespace of ip-netns(8); empty for the machine's own network."""
    return [*(["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []), *argv]


@dataclass
class AgentProcess:
    """One enrolled node and the process that runs it."""

    name: str
    directory: Path
    process: Process

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.directory / "config.toml"

    @property
    def identity(self) -> Path:
        """The folder of its keys and certificates."""
        return self.directory / "state" / "identity"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One of the technician's commands, on this node."""
        return _run(program("edgeagent", "--config", self.config, *arguments), check=check)

    def status(self) -> dict[str, Any]:
        """What ``edgeagent status`` knows."""
        found: dict[str, Any] = json.loads(self.run("status", "-o", "json").stdout)
        return found

    def pods(self) -> list[dict[str, Any]]:
        """What ``edgeagent get pods -A`` knows; empty while the agent does not answer."""
        done = self.run("get", "pods", "-A", "-o", "json", check=False)
        items: list[dict[str, Any]] = json.loads(done.stdout)["items"] if done.returncode == 0 else []
        return items

    def read(self, path: str) -> Any:
        """The JSON behind a path of the local API, asked without a program; None where there is no answer."""
        sections = tomllib.loads(self.config.read_text())
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _LocalConnection(Path(sections["agent"]["run_dir"]) / "api.sock")
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                return json.loads(body) if answer.status == 200 else None
            finally:
                connection.close()
        return None

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """One pod as the node itself sees it; empty where it knows of none."""
        found: dict[str, Any] = self.read(f"/api/v1/namespaces/{namespace}/pods/{name}") or {}
        return found

    def container_status(self, name: str, position: int = 0) -> dict[str, Any]:
        """A container's status as the node itself sees it; empty where there is none."""
        statuses = self.pod(name).get("status", {}).get("containerStatuses", [])
        found: dict[str, Any] = statuses[position] if len(statuses) > position else {}
        return found

    def condition(self, type_: str) -> dict[str, Any]:
        """A condition of the node as the node itself sees it; empty where it has none."""
        summary = self.read("/edge/v1/status") or {}
        conditions: list[dict[str, Any]] = summary.get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == type_), {})

    def start(self) -> None:
        """Start it, and wait until its local socket answers."""
        self.process.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the local socket answers."""
        self.process.wait_until(lambda: self.run("status", check=False).returncode == 0, what="answering")


@dataclass
class Cluster:
    """A hub directory, its broker, its hub and its nodes, all below ``directory``.

    ``host`` is the broker's address. ``namespace``: the network namespace of the broker, the hub and edgectl,
    empty for the machine's own. ``init``: what follows ``edgehub init`` beside what it must be told.
    """

    directory: Path
    podman: PodmanService
    port: int = field(default_factory=free_port)
    nodes: dict[str, AgentProcess] = field(default_factory=dict)
    host: str = "127.0.0.1"
    namespace: str = ""
    init: Sequence[str] = ()
    enrol_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o711)
        self.hub_dir = self.directory / "hub"
        address = f"{self.host}:{self.port}"
        made = ["--cluster", CLUSTER, "--broker", address, "--listen", address]
        made += ["--enrol-listen", f"{self.host}:{self.enrol_port}", *self.init]
        _run(program("edgehub", "init", "--dir", self.hub_dir, *made))
        config = self.hub_dir / "mosquitto" / "mosquitto.conf"
        broker = within(self.namespace, [MOSQUITTO, "-c", str(config)])
        self.broker = Process(broker, log=self.directory / "mosquitto.log")
        self.hub = Process(
            within(self.namespace, program("edgehub", "run", "--dir", self.hub_dir)),
            log=self.directory / "hub.log",
            env=_environment(),
        )

    def __enter__(self) -> Self:
        self.start_broker()
        self.hub.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes.values():
            node.process.terminate()
        self.hub.terminate()
        self.broker.terminate()

    def start_broker(self) -> None:
        """Start the broker, and wait until it accepts connections."""
        self.broker.start()
        self.broker.wait_until(self._broker_answers, what="accepting connections")

    def _broker_answers(self) -> bool:
        if not self.namespace:
            return port_answers(self.port)
        return in_namespace_thread(self.namespace, lambda: port_answers(self.port, self.host))

    def add_node(
        self,
        name: str,
        *,
        extra: str = "",
        env: Mapping[str, str] | None = None,
        podman: PodmanService | None = None,
        namespace: str = "",
        pod_security: str = "privileged",
    ) -> AgentProcess:
        """Make ``name`` a member and give it a configuration; it is not started yet.

        ``extra`` is TOML, of the Podman plugin's section first. The plugin of this machine's own network is
        off, unless ``extra`` has its section. ``podman``: the node's own one, if it is not the cluster's.
        ``namespace``: the network namespace that is the node's host, empty for the machine's own.
        ``pod_security``: the level that is enforced where a namespace names none. edgeagent's own default is
        ``baseline``, which most pods of tests break: they use the host's network.
        """
        node = self.prepare_node(
            name, extra=extra, env=env, podman=podman, namespace=namespace, pod_security=pod_security
        )
        join = node.directory / "node.join"
        _run(program("edgehub", "node", "add", name, "--dir", self.hub_dir, "--output", join))
        node.run("enroll", "--join-file", str(join))
        return node

    def prepare_node(
        self,
        name: str,
        *,
        device: str = "",
        extra: str = "",
        env: Mapping[str, str] | None = None,
        podman: PodmanService | None = None,
        namespace: str = "",
        pod_security: str = "privileged",
    ) -> AgentProcess:
        """A device that has all but an identity; arguments as of ``add_node``.

        ``device`` tells it from others that are to have the same name.
        """
        device = device or name
        podman = podman or self.podman
        security = f'[plugins.security]\ndefault_level = "{pod_security}"\n'
        off = "".join(
            f"[plugins.{one}]\nenabled = false\n"
            for one in ("metrics", "network")
            if f"[plugins.{one}]" not in extra
        )
        directory = self.directory / device
        directory.mkdir()
        config = directory / "config.toml"
        config.write_text(
            f'[agent]\nstate_dir = "{directory}/state"\nrun_dir = "{podman.directory}/run-{device}"\n'
            f'reserve_size = "0"\nlog_level = "debug"\n[pods]\nstatic_pod_path = ""\n'
            f"[mqtt]\nreconnect_ceiling_seconds = 1.0\n{off}{security}"
            f'[plugins.podman]\nsocket = "{podman.socket}"\n{extra}'
        )
        process = Process(
            within(namespace, program("edgeagent", "--config", config, "run")),
            log=directory / "agent.log",
            env={**_environment(), **(env or {})},
        )
        node = AgentProcess(name, directory, process)
        self.nodes[device] = node
        return node

    def edgehub(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``edgehub`` on the hub's directory."""
        command = program("edgehub", *arguments, "--dir", self.hub_dir)
        return _run(within(self.namespace, command), check=check)

    def token(self, *arguments: str) -> dict[str, Any]:
        """What ``edgehub token create`` says of a new token."""
        found: dict[str, Any] = json.loads(self.edgehub("token", "create", *arguments, "-o", "json").stdout)
        return found

    def ctl(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``edgectl``."""
        environment = {**_environment(), "EDGECTL_CONFIG": str(self.hub_dir / "operator.json")}
        return _run(within(self.namespace, program("edgectl", *arguments)), check=check, env=environment)

    def apply(self, *objects: Mapping[str, object], check: bool = True) -> subprocess.CompletedProcess[str]:
        """``edgectl apply`` of objects given as data."""
        manifest = self.directory / "apply.json"
        manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
        return self.ctl("apply", "-f", manifest, check=check)

    def get(self, *arguments: str) -> Any:
        """``edgectl get … -o json``; None where it fails."""
        done = self.ctl("get", *arguments, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def pod_phase(self, name: str, namespace: str = "default") -> str:
        """The phase that the hub knows of, empty for none."""
        pod = self.get("pod", name, "-n", namespace)
        return str(pod.get("status", {}).get("phase", "")) if pod else ""

    def wait_phase(self, name: str, phase: str, timeout: float = 30.0, *, namespace: str = "default") -> None:
        """Wait until the hub knows the pod in ``phase``."""
        wait_for(
            lambda: self.pod_phase(name, namespace) == phase, timeout, f"pod {name} to be {phase} at the hub"
        )

    def publish(self, topic: str, payload: bytes, *, retain: bool = True, node: str = "") -> None:
        """Publish as whoever owns the broker can: anything, on any topic below ``edge/v1/<cluster>/``.

        ``node``: as somebody with that node's certificate, and with what the broker allows it.
        """
        file = self.directory / "payload"
        file.write_bytes(payload)
        self._mosquitto("mosquitto_pub", topic, *(["-r"] if retain else []), "-f", str(file), node=node)

    def retained(self, topic: str) -> bytes:
        """The retained message on a topic below ``edge/v1/<cluster>/``; it must be there."""
        return self._mosquitto("mosquitto_sub", topic, "-C", "1", "-W", "5", "-N")

    def _mosquitto(self, name: str, topic: str, *arguments: str, node: str = "") -> bytes:
        whose = self.nodes[node].identity if node else self.hub_dir
        own = "node" if node else "hub"
        ca, certificate, key = (str(whose / file) for file in ("ca.crt", f"{own}.crt", f"{own}.key"))
        argv = [name, "-h", self.host, "-p", str(self.port), "--cafile", ca, "--cert", certificate]
        argv += ["--key", key, "-q", "1", "-t", f"edge/v1/{CLUSTER}/{topic}", *arguments]
        argv = within(self.namespace, argv)
        done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
        assert done.returncode == 0, f"{name} ended with status {done.returncode}: {done.stderr.decode()}"
        return done.stdout


_FORWARD = """
import asyncio, sys
async def copy(source, sink):
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()
async def accept(reader, writer):
    try:
        there, here = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, here), copy(there, writer))
async def main():
    await (await asyncio.start_server(accept, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""


class Link:
    """The network between a node and the broker: a process that forwards, and that can be cut."""

    def __init__(self, cluster: Cluster, node: AgentProcess) -> None:
        """Lead ``node`` through the link; it must not have been started yet."""
        self.port = free_port()
        self.process = Process(
            [sys.executable, "-c", _FORWARD, str(self.port), str(cluster.port)],
            log=node.directory / "link.log",
        )
        text = node.config.read_text()
        node.config.write_text(text.replace("[mqtt]", f'[mqtt]\nbrokers = ["127.0.0.1:{self.port}"]', 1))

    def mend(self) -> None:
        """From now on there is a network."""
        self.process.start()
        self.process.wait_until(lambda: port_answers(self.port), what="forwarding")

    def cut(self) -> None:
        """From now on there is none; connections break."""
        self.process.kill()


class _LocalConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class Seen:
    """A container as Podman tells of it, without the agent's help."""

    id: str
    started_at: int
    state: str
    pod: str
    uid: str
    container: str


def containers(podman: PodmanService) -> list[Seen]:
    """All containers of pods, running or not, sorted by id."""
    found = json.loads(podman.run("ps", "--all", "--no-trunc", "--format", "json").stdout)
    return sorted(
        (
            Seen(
                id=item["Id"],
                started_at=item["StartedAt"],
                state=item["State"],
                pod=item["Labels"][LABEL_POD_NAME],
                uid=item["Labels"][LABEL_POD_UID],
                container=item["Labels"][LABEL_CONTAINER],
            )
            for item in found
            if LABEL_POD_UID in (item["Labels"] or {})
        ),
        key=lambda seen: seen.id,
    )


def running(podman: PodmanService) -> list[Seen]:
    """The containers of pods that run."""
    return [seen for seen in containers(podman) if seen.state == "running"]


def sleeper(name: str, node: str, *, seconds: int = 3600, **spec: object) -> dict[str, object]:
    """A pod of one container that sleeps."""
    return pod(name, node, [container("main", ["sleep", str(seconds)])], **spec)


def container(name: str, command: Sequence[str], **more: object) -> dict[str, object]:
    """A container of the busybox test image."""
    return {"name": name, "image": "localhost/busybox:1", "command": list(command), **more}


def pod(
    name: str, node: str, containers: Sequence[Mapping[str, object]], **spec: object
) -> dict[str, object]:
    """A pod on the host's network that stops at once when it is told to."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "containers": list(containers),
            **spec,
        },
    }


def _environment() -> dict[str, str]:
    """As an installed program has it: with its byte code kept from one start to the next."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _run(
    argv: Sequence[str], *, check: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(argv),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env=_environment() if env is None else env,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(argv)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done
