"""Only the node and its pods may ask the node's DNS server; a neighbour on the LAN may not."""

from ipaddress import ip_address

from edgeagent.api.network import NetworkState, Problem
from edgeagent_network.config import NetworkConfig
from edgeagent_network.ruleset import Chain, Fragment

KEY = "names"


class NameGuard:
    """A part of the table. Linux takes a packet to any of its addresses on any link, this one too."""

    def __init__(self, config: NetworkConfig) -> None:
        self._fragments: dict[str, Fragment] = {}
        if config.dns == "off":
            return
        try:
            address = ip_address(config.dns_address)
        except ValueError:
            return  # then no server runs, and it says why
        family = "ip" if address.version == 4 else "ip6"
        rule = f'{family} daddr {address} iifname != "lo" iifname != "edge*" drop'
        chain = Chain((rule,), "type filter hook input priority filter; policy accept;")
        self._fragments = {KEY: Fragment(chains={"names_input": chain})}

    def fragments(self, state: NetworkState) -> tuple[dict[str, Fragment], list[Problem]]:
        """Always the same."""
        return self._fragments, []
