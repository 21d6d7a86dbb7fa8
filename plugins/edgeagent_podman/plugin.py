"""The plugin's hooks. Importing this module imports neither podman-py nor anything it needs."""

from typing import cast

from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent.api.runtime import ContainerRuntime
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.runtime import PodmanRuntime


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """A lane of its own process: podman-py is too heavy to be held while nothing happens."""
    return PluginInfo(
        name="podman",
        version="1.0.0",
        summary="Runs containers on Podman",
        lane=LaneSpec(isolation="process", workers=16, queue=256, idle_seconds=30.0),
    )


@hookimpl
def edgeagent_config_schema() -> type[PluginConfig]:
    """The section ``[plugins.podman]``."""
    return PodmanConfig


@hookimpl
def edgeagent_container_runtime(ctx: PluginContext) -> ContainerRuntime:
    """The runtime, with podman-py imported: this runs in the lane's own process, when a call is near."""
    runtime = PodmanRuntime(cast(PodmanConfig, ctx.config), pause_root=ctx.state_dir / "pause")
    runtime.prepare()
    return runtime
