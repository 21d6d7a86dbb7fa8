"""Several nodes on one LAN, each with the whole plugin and a pod, and what a hub would tell them."""

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from edgeagent.api.network import NetworkReport, Problem
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec, Overlay
from edgeagent_network.programs import Runner
from tests.plugins.network.netkit import Node, state_of
from tests.support.netlab import Lab
from tests.support.netprobe import Probe
from tests.support.wireguardlab import WireGuardHost

NAMES = ("a", "b", "c")


class Nodes:
    """Use it as a context. ``six``: nodes know each other's IPv6 addresses. Node ``b``'s pod has the
    address 10.42.1.2, and so on.
    """

    def __init__(
        self, folder: Path, overlay: Overlay, *, six: bool = False, names: Sequence[str] = NAMES
    ) -> None:
        self.lab = Lab(forwarding=False)
        self.nodes: dict[str, Node] = {}
        self.objects: dict[str, NodeNetwork] = {}
        self.runners: dict[str, Runner] = {}
        self._wireguard: list[WireGuardHost] = []
        try:
            for number, name in enumerate(names):
                host = self.lab.host if name == "a" else self.lab.add_host(name)
                # A forwarding host asks for its neighbour by its link-local address.
                host.ip(f"address add fe80::{number + 1}/64 dev uplink nodad")
                (folder / name).mkdir()
                node = Node(
                    self.lab, host, folder / name, [f"10.42.{number}.0/24", f"fd42:0:0:{number}::/64"]
                )
                self.nodes[name] = node
                self.runners[name] = host.run
                if overlay == "wireguard":
                    self._wireguard.append(WireGuardHost(host))
                    self.runners[name] = self._wireguard[-1].run
                spec = NodeNetworkSpec(
                    pod_cidrs=node.cidrs, address=host.ip6 if six else host.ip4, overlay=overlay
                )
                self.objects[name] = NodeNetwork(
                    api_version="edgeagent/v1", metadata=ObjectMeta(name=name), spec=spec
                )
                self.restart(name)
                node.attach("pod")
                for protocol, port in (("TCP", 80), ("UDP", 53)):
                    self.lab.servers.serve(self.pod(name), port, protocol, name)  # type: ignore[arg-type]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it all."""
        for node in self.nodes.values():
            node.close()
        for one in self._wireguard:
            one.close()
        self.lab.close()

    def restart(self, name: str, run: Runner | None = None) -> None:
        """A new process of a node's agent, whose programs run by ``run``."""
        self.nodes[name].start(run or self.runners[name])

    def pod(self, name: str) -> str:
        """The namespace of a node's pod."""
        return self.nodes[name].space("pod")

    def ip(self, name: str, version: int = 4) -> str:
        """The address of a node's pod."""
        number = NAMES.index(name)
        return str(ip_address(f"10.42.{number}.2" if version == 4 else f"fd42:0:0:{number}::2"))

    def change(self, name: str, **spec: Any) -> None:
        """What the hub says of a node from now on."""
        old = self.objects[name]
        self.objects[name] = msgspec.structs.replace(old, spec=msgspec.structs.replace(old.spec, **spec))

    def reconcile(self, name: str, known: Sequence[str] | None = None) -> NetworkReport:
        """Have a node know these nodes, or all."""
        names = known if known is not None else list(self.objects)
        state = msgspec.structs.replace(
            state_of("pod"), node=name, nodes=[self.objects[one] for one in names]
        )
        return self.nodes[name].network.reconcile(state)

    def settle(self, known: Sequence[str] | None = None) -> list[Problem]:
        """Have all nodes know each other, their keys too; what is wrong."""
        for name in self.nodes:
            if key := self.reconcile(name, known).public_key:
                self.change(name, public_key=key)
        return [problem for name in self.nodes for problem in self.reconcile(name, known).problems]

    def reached(self, *names: str, timeout: float = 90.0) -> set[tuple[str, str, int]]:
        """FROM, TO and family of all pods on different nodes that answer each other by TCP and UDP, and see
        each other's own address.

        The time is ample: WireGuard's first handshakes may cross, and each then waits five seconds and a
        little to try again (REKEY_TIMEOUT), on a busy machine for several rounds.
        """
        ways = [
            (one, other, version) for one in names for other in names if one != other for version in (4, 6)
        ]
        found = set(ways)
        for protocol, port in (("TCP", 80), ("UDP", 53)):
            probes = [
                Probe(self.pod(one), self.ip(other, version), port, protocol)  # type: ignore[arg-type]
                for one, other, version in ways
            ]
            for way, outcome in zip(ways, self.lab.probes(probes, timeout), strict=True):
                one, other, version = way
                if not outcome or (outcome.server, outcome.seen) != (other, self.ip(one, version)):
                    found.discard(way)
        return found

    def all_ways(self, *names: str) -> set[tuple[str, str, int]]:
        """What ``reached`` gives where all is well."""
        return {(one, two, version) for one in names for two in names if one != two for version in (4, 6)}
