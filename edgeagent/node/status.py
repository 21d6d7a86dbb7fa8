"""The node's own status: what it is, what it has, and what is wrong with it."""

import logging
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from edgeagent import __version__
from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.facts import Facts
from edgeagent.api.objects.base import Condition
from edgeagent.api.objects.node import AuditHead, NodeAddress, NodeStatus, NodeSystemInfo, PluginStatus
from edgeagent.node.networkkey import PublicKey

log = logging.getLogger(__name__)

MAX_PODS = 110


def system_info(root: Path, runtime: str) -> NodeSystemInfo:
    """What kind of machine this is. ``root`` is where the file system begins."""
    machine = os.uname().machine
    return NodeSystemInfo(
        architecture={"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine),
        kernel_version=os.uname().release,
        os_image=_os_image(root / "etc/os-release"),
        container_runtime_version=runtime,
        kubelet_version=f"edgeagent-{__version__}",
        boot_id=_line(root / "proc/sys/kernel/random/boot_id"),
        machine_id=_line(root / "etc/machine-id"),
    )


def capacity(disk: Path) -> dict[str, str]:
    """CPU, memory, pods and the file system with the folder ``disk``, as Kubernetes writes them.

    Without ``ephemeral-storage`` where that file system does not answer.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory // 1024}Ki", "pods": str(MAX_PODS)}
    try:
        storage = os.statvfs(disk)
    except OSError:
        return found
    return {**found, "ephemeral-storage": f"{storage.f_blocks * storage.f_frsize // 1024}Ki"}


def host_ip() -> str:
    """The address that other machines most likely see: that of the default route, loopback without one.

    Asks the kernel's routing table through an unconnected UDP socket; nothing is sent.
    """
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return "127.0.0.1"


class FactsSource(Protocol):
    """The part of a plugin's facade that tells facts."""

    async def facts(self) -> Facts:
        """What the plugin knows of the node."""


async def collect_facts(sources: Iterable[FactsSource]) -> list[Facts]:
    """What all of them know; one that fails is left out."""
    found = []
    for source in sources:
        try:
            found.append(await source.facts())
        except EdgeAgentError as error:
            log.warning("a plugin's facts are left out: %s", error)
    return found


class Conditions:
    """The node's conditions, each with the time of its last change."""

    def __init__(self) -> None:
        self._by_type: dict[str, Condition] = {}

    def set(self, type_: str, good: bool, reason: str, message: str, now: float) -> None:
        """State condition ``type_``; the time stays where the status does."""
        status = "True" if good else "False"
        old = self._by_type.get(type_)
        since = old.last_transition_time if old is not None and old.status == status else rfc3339(now)
        self._by_type[type_] = Condition(
            type=type_, status=status, reason=reason, message=message, last_transition_time=since
        )

    def all(self) -> list[Condition]:
        """Sorted by type."""
        return [self._by_type[type_] for type_ in sorted(self._by_type)]


def node_status(
    *,
    generation: int,
    conditions: Conditions,
    info: NodeSystemInfo,
    address: str,
    disk: Path,
    plugins: Sequence[PluginStatus],
    facts: Sequence[Facts],
    public_key: PublicKey,
    audit: AuditHead,
) -> NodeStatus:
    """Everything together, plugins' facts merged in their order. ``disk`` is where pods keep their files."""
    resources = capacity(disk)
    extra: list[Condition] = []
    for fact in facts:
        resources.update(fact.capacity)
        extra.extend(fact.conditions)
    return NodeStatus(
        observed_generation=generation,
        conditions=conditions.all() + extra,
        addresses=[
            NodeAddress(type="InternalIP", address=address),
            NodeAddress(type="Hostname", address=socket.gethostname()),
        ],
        capacity=resources,
        allocatable=resources,
        node_info=info,
        plugins=list(plugins),
        public_key=public_key.key,
        public_key_proof=public_key.proof,
        audit=audit,
    )


def _os_image(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "Linux"
    names = [line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")]
    return names[0] if names else "Linux"


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
