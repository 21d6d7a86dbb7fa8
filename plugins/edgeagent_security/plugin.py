"""The hooks. Cryptography is imported when the first Secret is opened, in a child that ends when idle."""

from edgeagent import __version__
from edgeagent.api.admission import Admission
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent.api.secrets import Unsealer
from edgeagent_security.config import SecurityConfig


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """Who this is."""
    return PluginInfo(
        name="security",
        version=__version__,
        summary="Pod Security Standards, rules for images, and sealed Secrets",
        lane=LaneSpec(isolation="process", workers=1, idle_seconds=10.0),
    )


@hookimpl
def edgeagent_config_schema() -> type[PluginConfig]:
    """``[plugins.security]``."""
    return SecurityConfig


@hookimpl
def edgeagent_admission(ctx: PluginContext) -> Admission:
    """The judge of pods, by this node's settings."""
    from edgeagent_security.admission import PodSecurity

    assert isinstance(ctx.config, SecurityConfig)
    return PodSecurity(ctx.config)


@hookimpl
def edgeagent_secrets(ctx: PluginContext) -> Unsealer:
    """The unsealer for this node's key."""
    from edgeagent_security.opener import Opener

    return Opener(ctx.identity_dir / "sealing.key", cluster=ctx.cluster, node=ctx.node_name)
