"""The hooks. One thread follows all logs, others ship; what they need is imported when they are asked for."""

from typing import cast

from edgeagent import __version__
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.logs import LogSource
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent_logs.config import LogsConfig


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """In threads of the agent: one is always in ``read``, one is for what the source is told."""
    return PluginInfo(
        name="logs",
        version=__version__,
        summary="Container logs and the journal to Elasticsearch, Loki, OTLP and syslog",
        lane=LaneSpec(isolation="thread", workers=6),
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
