"""The whole plugin on a lab's host, and what there is of it in the kernel."""

from collections.abc import Sequence
from pathlib import Path

from edgeagent.api.network import Attachment, NetworkPod, NetworkState, PodSandbox
from edgeagent_network.config import NetworkConfig
from edgeagent_network.generation import Generation, generation_of, netlink_socket
from edgeagent_network.network import KernelNetwork
from edgeagent_network.programs import Runner
from tests.support.netlab import Host, Lab

CIDRS = ["10.42.0.0/24", "fd42::/64"]


class Node:
    """One host with the plugin. ``start`` is the start of the agent: what was before is found, not known."""

    def __init__(self, lab: Lab, host: Host, state_dir: Path, cidrs: Sequence[str] = CIDRS) -> None:
        self.lab = lab
        self.host = host
        self.state_dir = state_dir
        self.cidrs = list(cidrs)
        self.now = 0.0
        self._socket = lab.inside(host.name, netlink_socket)
        self.generation: Generation = generation_of(self._socket)
        self.network = self.start()

    def start(self, run: Runner | None = None) -> KernelNetwork:
        """A new process's network."""
        config = NetworkConfig(
            pod_cidrs=self.cidrs,
            service_cidrs=["10.43.0.0/16", "fd43::/112"],
            namespace_prefix=self.host.pod_prefix,
        )
        self.network = KernelNetwork(
            config,
            self.state_dir,
            run=run or self.host.run,
            generation=self.generation,
            monotonic=lambda: self.now,
        )
        return self.network

    def attach(self, uid: str) -> Attachment:
        """Attach the pod of this uid."""
        return self.network.attach(sandbox(uid))

    def detach(self, uid: str) -> None:
        """Detach it."""
        self.network.detach(sandbox(uid))

    def space(self, uid: str) -> str:
        """The name of the pod's namespace."""
        return f"{self.host.pod_prefix}{uid}"

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def seen(self) -> dict[str, list[str]]:
        """All that can leak: namespaces, links, routes, neighbours, addresses, rules, elements, files."""
        run = self.host.run

        def lines(text: str) -> list[str]:
            return sorted(line.strip() for line in text.splitlines() if line.strip())

        return {
            "namespaces": sorted(self.lab.namespaces()),
            "links": sorted(link["ifname"] for link in self.host.json("ip", "-j", "link", "show")),
            "routes": lines(run(["ip", "route", "show", "table", "all"])),
            "routes6": lines(run(["ip", "-6", "route", "show", "table", "all"])),
            "neighbours": lines(run(["ip", "neigh", "show", "nud", "permanent"])),
            "rules": lines(run(["ip", "rule", "show"])),
            "addresses": [line for line in lines(run(["ip", "address", "show"])) if line.startswith("inet")],
            "table": lines(run(["nft", "-s", "list", "ruleset"])),
            "files": sorted(path.name for path in self.state_dir.iterdir()),
        }


def sandbox(uid: str) -> PodSandbox:
    """A pod's identity."""
    return PodSandbox(uid=uid, namespace="default", name=uid)


def state_of(*uids: str) -> NetworkState:
    """A state with these pods and nothing else."""
    return NetworkState(
        node="a", pods=[NetworkPod(uid=uid, namespace="default", name=uid, ips=[]) for uid in uids]
    )
