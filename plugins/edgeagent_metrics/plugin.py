"""The hooks. HTTP, and TLS where it is configured, are imported when somebody asks for metrics."""

from typing import cast

from edgeagent import __version__
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.metrics import Collectors, Exporters
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent.api.service import Service
from edgeagent_metrics.config import MetricsConfig


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """In threads of the agent: the page is put together where most of what is on it is known."""
    return PluginInfo(
        name="metrics",
        version=__version__,
        summary="Metrics of the node, its containers and the agent, for Prometheus",
        lane=LaneSpec(isolation="thread", workers=2),
    )


@hookimpl
def edgeagent_config_schema() -> type[PluginConfig]:
    """``[plugins.metrics]``."""
    return MetricsConfig


@hookimpl
def edgeagent_collectors(ctx: PluginContext) -> Collectors:
    """The metrics of this machine and its containers."""
    from edgeagent_metrics.collectors import NodeMetrics

    return NodeMetrics(cast(MetricsConfig, ctx.config))


@hookimpl
def edgeagent_exporters(ctx: PluginContext) -> Exporters:
    """The receivers of ``[[plugins.metrics.remote_write]]``."""
    from edgeagent_metrics.exporters import make_exporters

    return make_exporters(cast(MetricsConfig, ctx.config), node=ctx.node_name)


@hookimpl
def edgeagent_service(ctx: PluginContext) -> Service:
    """The endpoint."""
    from edgeagent_metrics.endpoint import Endpoint, NoEndpoint

    config = cast(MetricsConfig, ctx.config)
    assert ctx.gather is not None, "the lane is one of threads"
    if not config.listen:
        return NoEndpoint()
    return Endpoint(config, gather=ctx.gather, cluster_ca=ctx.identity_dir / "ca.crt")
