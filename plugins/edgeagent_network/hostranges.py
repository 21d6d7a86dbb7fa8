"""Which ranges cannot be pods' or Services', because the host is on a network that has addresses of them.

A pod range that holds the host's own gateway would take the host off its network.
"""

from collections.abc import Collection, Iterable
from ipaddress import ip_network

from edgeagent_network import vxlan, wireguard
from edgeagent_network.addresses import Range
from edgeagent_network.hostlinks import look
from edgeagent_network.programs import Runner
from edgeagent_network.sandbox import is_pod_link

_OVERLAYS = (vxlan.DEVICE, wireguard.DEVICE)


class HostRanges:
    """Remembers what it found of a range, until it is to look again."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._known: dict[str, str] = {}

    def forget(self) -> None:
        """The host's links may be others now."""
        self._known = {}

    def conflicts(self, cidrs: Iterable[str], made: Collection[str]) -> dict[str, str]:
        """Which of these ranges overlap a network of the host, and which network, in words.

        ``made`` are addresses that the plugin itself gave the host's ``lo``. What is no range overlaps none.
        Costs three processes where there is a range that was not asked about since ``forget``.
        """
        asked = list(cidrs)
        if new := [cidr for cidr in asked if cidr not in self._known]:
            networks = self._networks(made)
            self._known |= {cidr: _overlap(cidr, networks) for cidr in new}
        return {cidr: said for cidr in asked if (said := self._known[cidr])}

    def _networks(self, made: Collection[str]) -> list[tuple[Range, str]]:
        host = look(self._run)
        found = {
            (own.network, link.name)
            for link in host.links.values()
            for own in link.addresses
            if not (link.name == "lo" and str(own.ip) in made)
        }
        found |= {(ip_network(cidr), device) for cidr, device in host.connected if device != "lo"}
        return sorted(
            ((within, name) for within, name in found if name not in _OVERLAYS and not is_pod_link(name)),
            key=lambda one: (one[0].version, one),
        )


def _overlap(cidr: str, networks: Iterable[tuple[Range, str]]) -> str:
    try:
        asked = ip_network(cidr[:64])
    except ValueError:
        return ""
    for within, name in networks:
        if within.version == asked.version and within.overlaps(asked):
            return f"{within}, which this host is on by its link {name}"
    return ""
