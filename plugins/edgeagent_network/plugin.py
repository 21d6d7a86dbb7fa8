"""The hooks. Programs that end at once do the work; only a netlink socket and the DNS server stay."""

from typing import cast

from edgeagent import __version__
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.network import Network
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent_network.config import NetworkConfig


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """In one thread of the agent: calls never overlap, and what services and policies are is kept."""
    return PluginInfo(
        name="network",
        version=__version__,
        summary="Pod networks, services and policies in the kernel",
        lane=LaneSpec(isolation="thread", workers=1),
    )


@hookimpl
def edgeagent_config_schema() -> type[PluginConfig]:
    """``[plugins.network]``."""
    return NetworkConfig


@hookimpl
def edgeagent_network(ctx: PluginContext) -> Network:
    """The network of this host."""
    from edgeagent_network.dnsserver import DnsServer
    from edgeagent_network.network import KernelNetwork

    config = cast(NetworkConfig, ctx.config)
    return KernelNetwork(config, ctx.state_dir, dns=DnsServer(config, ctx.run_dir))
