"""The whole contract between the core and a plugin. A hook declares; the core runs what it returns.

A plugin is a module (or object) named by an entry point in the group ``edgeagent``; it marks functions
with ``hookimpl``. Importing it must be cheap: heavy libraries are imported in the hooks that need them, or
later. Every hook but the first two runs in the plugin's lane.
"""

import pluggy

from edgeagent.api.admission import Admission
from edgeagent.api.facts import NodeFacts
from edgeagent.api.logs import LogSinks, LogSource
from edgeagent.api.metrics import Collectors, Exporters
from edgeagent.api.network import Network
from edgeagent.api.plugin import PluginConfig, PluginContext, PluginInfo
from edgeagent.api.runtime import ContainerRuntime
from edgeagent.api.secrets import Unsealer
from edgeagent.api.service import Service

GROUP = "edgeagent"
"""The entry-point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def edgeagent_plugin_info() -> PluginInfo:  # type: ignore[empty-body]
    """Name, version, API version, summary and lane. Required; called once, at discovery."""


@hookspec
def edgeagent_config_schema() -> type[PluginConfig]:  # type: ignore[empty-body]
    """The struct that ``[plugins.<name>]`` is validated as. Without it, the section must be empty."""


@hookspec
def edgeagent_container_runtime(ctx: PluginContext) -> ContainerRuntime:  # type: ignore[empty-body]
    """The runtime for pods. The first plugin, in pluggy's call order, that has this hook is used."""


@hookspec
def edgeagent_network(ctx: PluginContext) -> Network:  # type: ignore[empty-body]
    """The pod network. The first plugin that has this hook is used."""


@hookspec
def edgeagent_admission(ctx: PluginContext) -> Admission:  # type: ignore[empty-body]
    """A judge of pods. All are asked, in call order; one violation is enough to refuse."""


@hookspec
def edgeagent_secrets(ctx: PluginContext) -> Unsealer:  # type: ignore[empty-body]
    """Opens sealed Secrets. The first plugin that has this hook is used."""


@hookspec
def edgeagent_node_facts(ctx: PluginContext) -> NodeFacts:  # type: ignore[empty-body]
    """Facts for the node's status. All are asked and merged in call order."""


@hookspec
def edgeagent_service(ctx: PluginContext) -> Service:  # type: ignore[empty-body]
    """A long-running service, supervised by the core."""


@hookspec
def edgeagent_log_source(ctx: PluginContext) -> LogSource:  # type: ignore[empty-body]
    """Reads logs, for the sinks of all plugins. All are asked."""


@hookspec
def edgeagent_log_sinks(ctx: PluginContext) -> LogSinks:  # type: ignore[empty-body]
    """Where logs are shipped to. All sinks of all plugins get every record."""


@hookspec
def edgeagent_collectors(ctx: PluginContext) -> Collectors:  # type: ignore[empty-body]
    """A source of metrics. All are asked when somebody scrapes, or when an exporter is due."""


@hookspec
def edgeagent_exporters(ctx: PluginContext) -> Exporters:  # type: ignore[empty-body]
    """Where metrics are sent to. All exporters of all plugins get every sample."""
