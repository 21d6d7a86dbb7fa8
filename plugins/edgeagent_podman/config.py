"""The section ``[plugins.podman]``."""

from typing import Annotated

import msgspec

from edgeagent.api.plugin import PluginConfig

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class PodmanConfig(PluginConfig, frozen=True):
    """How to reach Podman, how long to wait for it, and what every container gets.

    ``insecure_registries`` names registries (``host`` or ``host:port``) that are spoken to over plain
    HTTP or with a certificate that nobody vouches for. For others, Podman's own ``registries.conf``
    decides.
    """

    socket: Annotated[str, msgspec.Meta(pattern=r"^/")] = "/run/podman/podman.sock"
    request_timeout: Seconds = 30.0
    """For each answer of Podman, save those that take their time by nature."""
    pull_timeout: Seconds = 1800.0
    """For one image pull as a whole."""
    exit_timeout: Seconds = 5.0
    """Between the end of a container's main process and Podman knowing its exit code."""
    log_size_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 50 * 1024 * 1024
    """The hard cap of a container's log file, at which its monitor starts it anew and what was in it is lost.

    The last resort where nobody rotates the logs in time: keep it well above the size they are rotated at.
    """
    insecure_registries: list[str] = []
