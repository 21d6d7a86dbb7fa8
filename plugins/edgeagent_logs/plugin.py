"""The hooks. One thread follows all logs, others ship; what they need is imported when they are asked for."""

from typing import cast

from edgeagent import __version__
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.logs import LogSinks, LogSource
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.sinkconfig import MAX_SINKS


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """In threads of the agent: one is always in ``read``, one hears of containers, and one a sink."""
    return PluginInfo(
        name="logs",
        version=__version__,
        summary="Container logs and the journal to Elasticsearch, Loki, OTLP and syslog",
        lane=LaneSpec(isolation="thread", workers=2 + MAX_SINKS),
    )


@hookimpl
def edgeagent_config_schema() -> type[PluginConfig]:
    """``[plugins.logs]``."""
    return LogsConfig


@hookimpl
def edgeagent_log_source(ctx: PluginContext) -> LogSource:
    """The logs of this node's containers, and of units of its systemd."""
    from edgeagent_logs.source import NodeLogs

    return NodeLogs(cast(LogsConfig, ctx.config))


@hookimpl
def edgeagent_log_sinks(ctx: PluginContext) -> LogSinks:
    """The places of ``[[plugins.logs.sinks]]``."""
    from edgeagent_logs.sinks import NodeLogSinks

    config = cast(LogsConfig, ctx.config)
    return NodeLogSinks(config.sinks, node=ctx.node_name, cluster=ctx.cluster)
