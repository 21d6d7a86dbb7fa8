"""What tests of the network as a whole ask of pods."""

from pathlib import Path

from tests.plugins.network.netkit import Node
from tests.support.netprobe import Probe


def spaces(node: Node) -> list[Path]:
    return sorted(Path("/run/netns").glob(f"{node.host.pod_prefix}*"))


def serve(node: Node, *uids: str) -> None:
    for uid in uids:
        node.lab.serve(node.space(uid), 80)
        node.lab.serve(node.space(uid), 53, protocol="UDP")


def talks(node: Node, *ways: tuple[str, str, str, str]) -> None:
    """Each way is FROM, ADDRESS, who answers, and whom it sees."""
    for protocol, port in (("TCP", 80), ("UDP", 53)):
        probes = [Probe(start, address, port, protocol) for start, address, _, _ in ways]  # type: ignore[arg-type]
        outcomes = node.lab.probes(probes, timeout=3)
        found = [(o.kind, o.server, o.seen) for o in outcomes]
        assert found == [("answer", server, seen) for _, _, server, seen in ways], protocol


def link_of(node: Node, uid: str) -> str:
    links = node.host.json("ip", "-j", "link", "show", "type", "veth")
    return next(str(link["ifname"]) for link in links if f":{uid} " in link.get("ifalias", ""))
