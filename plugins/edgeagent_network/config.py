"""The section ``[plugins.network]``."""

from typing import Annotated, Literal

import msgspec

from edgeagent.api.plugin import PluginConfig

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class NetworkConfig(PluginConfig, frozen=True):
    """What the node's network is made with where desired state does not say it.

    ``pod_cidrs``: the addresses of this node's pods, one range a family, where the hub gave the node none.
    ``service_cidrs``: what cluster IPs are out of; ``node_ports``: what node ports are, ``first-last``.
    ``mtu``: of pods' links, 0 for that of the uplink less what the overlay needs.
    ``wireguard_keepalive``: seconds after which a silent peer is sent a packet, 0 for never.
    ``namespace_prefix``: what the names of pods' network namespaces begin with, and no others'.
    ``upstreams``: DNS servers for all other names; empty for those of the node's resolv.conf.
    """

    pod_cidrs: list[str] = msgspec.field(default_factory=lambda: ["10.42.0.0/24"])
    service_cidrs: list[str] = msgspec.field(default_factory=lambda: ["10.43.0.0/16"])
    node_ports: Annotated[str, msgspec.Meta(pattern=r"^\d+-\d+$")] = "30000-32767"
    cluster_domain: str = "cluster.local"
    mtu: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    vxlan_port: Port = 8472
    vxlan_id: Annotated[int, msgspec.Meta(ge=1, le=16777215)] = 4096
    wireguard_port: Port = 51820
    wireguard_keepalive: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    dns: Literal["on", "off"] = "on"
    dns_address: str = "169.254.20.10"
    upstreams: list[str] = []
    namespace_prefix: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,30}-$")] = "edge-"
