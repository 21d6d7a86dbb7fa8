"""``[plugins.security]``: nothing to set yet, so that any key is refused by name."""

from edgeagent.api.plugin import PluginConfig


class SecurityConfig(PluginConfig, frozen=True):
    """No options."""
