"""A whole cluster on this machine: Mosquitto with TLS, the hub, nodes on a real Podman, and edgectl.

Everything is a process of its own, started by the commands that people use.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.broker import MOSQUITTO
from tests.support.podman import PodmanService
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for

CLUSTER = "demo"


def program(name: str, *arguments: str | Path) -> list[str]:
    """The argument list that starts one of the three programs with this Python."""
    return [sys.executable, "-m", f"edgeagent.cli.{name}", *map(str, arguments)]


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

    def start(self) -> None:
        """Start it, and wait until its local socket answers."""
        self.process.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the local socket answers."""
        self.process.wait_until(lambda: self.run("status", check=False).returncode == 0, what="answering")


@dataclass
class Cluster:
    """A hub directory, its broker, its hub and its nodes, all below ``directory``."""

    directory: Path
    podman: PodmanService
    port: int = field(default_factory=free_port)
    nodes: dict[str, AgentProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o711)
        self.hub_dir = self.directory / "hub"
        address = f"127.0.0.1:{self.port}"
        _run(
            program(
                "edgehub",
                "init",
                "--dir",
                self.hub_dir,
                "--cluster",
                CLUSTER,
                "--broker",
                address,
                "--listen",
                address,
            )
        )
        config = self.hub_dir / "mosquitto" / "mosquitto.conf"
        self.broker = Process([MOSQUITTO, "-c", str(config)], log=self.directory / "mosquitto.log")
        self.hub = Process(
            program("edgehub", "run", "--dir", self.hub_dir),
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
        self.broker.wait_until(lambda: port_answers(self.port), what="accepting connections")

    def add_node(self, name: str, *, extra: str = "", env: Mapping[str, str] | None = None) -> AgentProcess:
        """Make ``name`` a member and give it a configuration; it is not started yet. ``extra`` is TOML."""
        directory = self.directory / name
        directory.mkdir()
        join = directory / "node.join"
        _run(program("edgehub", "node", "add", name, "--dir", self.hub_dir, "--output", join))
        config = directory / "config.toml"
        config.write_text(
            f'[agent]\nstate_dir = "{directory}/state"\nrun_dir = "{self.podman.directory}/run-{name}"\n'
            f'log_level = "debug"\n[mqtt]\nreconnect_ceiling_seconds = 1.0\n'
            f'[plugins.podman]\nsocket = "{self.podman.socket}"\n{extra}'
        )
        _run(program("edgeagent", "--config", config, "enroll", "--join-file", join))
        process = Process(
            program("edgeagent", "--config", config, "run"),
            log=directory / "agent.log",
            env={**_environment(), **(env or {})},
        )
        node = AgentProcess(name, directory, process)
        self.nodes[name] = node
        return node

    def ctl(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``edgectl``."""
        environment = {**_environment(), "EDGECTL_CONFIG": str(self.hub_dir / "operator.json")}
        return _run(program("edgectl", *arguments), check=check, env=environment)

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

    def wait_phase(self, name: str, phase: str, timeout: float = 30.0) -> None:
        """Wait until the hub knows the pod in ``phase``."""
        wait_for(lambda: self.pod_phase(name) == phase, timeout, f"pod {name} to be {phase} at the hub")


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
