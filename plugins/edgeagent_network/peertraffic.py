"""What VXLAN itself lacks: only peers may send to this node's end, and their bytes are counted.

Who could send to it from elsewhere would be in the pods' network past all policies; so a pod may not speak
to any node's end either, since its node's address would stand for it.
"""

import json
from typing import Any

from edgeagent_network.peerplan import Plan
from edgeagent_network.programs import Runner
from edgeagent_network.ruleset import TABLE, Chain, Fragment

_MAX_LISTING_CHARACTERS = 16_000_000
_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_FAMILY = {4: "ip", 6: "ip6"}


def traffic_fragment(plan: Plan, default_port: int) -> Fragment:
    """For an overlay of VXLAN, on ``default_port`` where no node says another."""
    ports = {plan.port or default_port, *(peer.port or default_port for peer in plan.peers)}
    any_port = f"udp dport {{ {', '.join(map(str, sorted(ports)))} }}"
    elements: dict[str, dict[str, str]] = {}
    for peer in plan.peers:
        for name in ("overlay_received", "overlay_sent", "overlay_nodes"):
            elements.setdefault(f"{name}{peer.address.version}", {})[str(peer.address)] = ""
    if plan.address is not None:
        elements.setdefault(f"overlay_nodes{plan.address.version}", {})[str(plan.address)] = ""
    sets = {}
    received, sent, forged = [], [], []
    for version, family in _FAMILY.items():
        sets[f"overlay_nodes{version}"] = f"type {_TYPES[version]};"
        for name in ("overlay_received", "overlay_sent"):
            sets[f"{name}{version}"] = f"type {_TYPES[version]}; counter;"
        received.append(f"{family} saddr @overlay_received{version} accept")
        sent.append(f"{any_port} {family} daddr @overlay_sent{version}")
        forged.append(f"iifname @pod_links {any_port} {family} daddr @overlay_nodes{version} drop")
    return Fragment(
        sets=sets,
        elements=elements,
        chains={
            "overlay_in": Chain(
                (f"udp dport {plan.port or default_port} goto overlay_peers",),
                "type filter hook input priority filter - 1; policy accept;",
            ),
            "overlay_peers": Chain((*received, "drop")),
            "overlay_out": Chain(tuple(sent), "type filter hook output priority filter + 1; policy accept;"),
            "overlay_forged": Chain(
                tuple(forged), "type filter hook forward priority filter - 1; policy accept;"
            ),
        },
    )


def traffic_of(run: Runner) -> dict[str, tuple[str, str]]:
    """Bytes from and to each peer's address."""
    found: dict[str, list[str]] = {}
    for version in (4, 6):
        for place, name in enumerate(("overlay_received", "overlay_sent")):
            text = run(["nft", "-j", "list", "set", "inet", TABLE, f"{name}{version}"], check=False)
            if text and len(text) <= _MAX_LISTING_CHARACTERS:
                for address, count in _counts(json.loads(text)):
                    found.setdefault(address, ["0", "0"])[place] = count
    return {address: (received, sent) for address, (received, sent) in found.items()}


def _counts(listed: dict[str, Any]) -> list[tuple[str, str]]:
    sets = [item["set"] for item in listed["nftables"] if "set" in item]
    held = [one["elem"] for found in sets for one in found.get("elem", ()) if "elem" in one]
    return [(one["val"], str(one["counter"]["bytes"])) for one in held if "counter" in one]
