"""What the host's own network must be like for pods: forwarding, and how large packets may be."""

import json
import re
from collections.abc import Collection
from ipaddress import ip_address

from edgeagent.api.objects.network import NodeNetworkSpec
from edgeagent_network.programs import Runner

DEFAULT_MTU = 1500
MIN_MTU = 1280
"""IPv6 asks for no less."""
_OVERHEAD = {"none": (0, 0), "route": (0, 0), "vxlan": (50, 70), "wireguard": (60, 80)}
"""What an overlay puts around a packet, over IPv4 and over IPv6."""
_ACCEPTS = re.compile(r"(?m)^(net\.ipv6\.conf\.(\S+)\.accept_ra) = 1$")
_POD_LINK = re.compile(r"edge[0-9a-f]{10}")


def forward(run: Runner, families: Collection[int]) -> None:
    """Let the host forward packets of these families (4, 6), and keep its own addresses while it does.

    A host that forwards IPv6 ignores router advertisements unless ``accept_ra`` is 2, and would lose an
    address and a default route that it has from them:
    https://docs.kernel.org/networking/ip-sysctl.html (accept_ra, forwarding).
    """
    if 4 in families:
        run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    if 6 in families:
        listed = run(["sysctl", "-a", "-r", r"^net\.ipv6\.conf\..*\.accept_ra$"], check=False)
        kept = [
            f"{key}=2"
            for key, link in _ACCEPTS.findall(listed)
            if link not in ("all", "default") and not _POD_LINK.fullmatch(link)
        ]
        run(["sysctl", "-q", "-w", *kept, "net.ipv6.conf.all.forwarding=1"])


def pod_mtu(run: Runner, configured: int, node: NodeNetworkSpec | None) -> int:
    """What pods' links may carry: what is configured, or what the uplink does less the overlay's share."""
    if configured:
        return configured
    overhead = 0
    if node is not None:
        over4, over6 = _OVERHEAD[node.overlay]
        overhead = over6 if _is_six(node.address) else over4
    return max(MIN_MTU, _uplink_mtu(run) - overhead)


def _is_six(address: str) -> bool:
    try:
        return ip_address(address).version == 6
    except ValueError:
        return False


def _uplink_mtu(run: Runner) -> int:
    for family in ("-4", "-6"):
        routes = json.loads(run(["ip", "-j", family, "route", "show", "default"], check=False) or "[]")
        for route in routes:
            if "dev" not in route:
                continue
            links = json.loads(run(["ip", "-j", "link", "show", "dev", route["dev"]], check=False) or "[]")
            if links and isinstance(links[0].get("mtu"), int):
                return int(links[0]["mtu"])
    return DEFAULT_MTU
