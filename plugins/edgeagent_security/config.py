"""``[plugins.security]``: what pods may do, and where their images may come from."""

from typing import Annotated, Literal

import msgspec

from edgeagent.api.plugin import PluginConfig
from edgeagent_security.podsecurity.level import Level

_HOST = r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?"
_SEGMENT = r"[a-z0-9*]([a-z0-9._*-]*[a-z0-9*])?"
Repositories = Annotated[str, msgspec.Meta(pattern=rf"^{_HOST}(/{_SEGMENT})*$", max_length=255)]
"""``registry.example.com``, ``registry.example.com/team`` or ``*.example.com/app-*``: see ``imagepolicy``."""
NamespaceName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class ImagesConfig(PluginConfig, frozen=True):
    """``[plugins.security.images]``.

    ``allowed``: where images may come from; empty for anywhere. ``require_digest``: every image is named by
    its digest. ``require_signatures``: images from there must be covered, in ``policy_file`` (the file that
    Podman itself goes by), by a requirement of a signature.
    """

    allowed: list[Repositories] = []
    require_digest: bool = False
    require_signatures: list[Repositories] = []
    policy_file: Annotated[str, msgspec.Meta(pattern=r"^/[^\0]*$")] = "/etc/containers/policy.json"


class SecurityConfig(PluginConfig, frozen=True):
    """``default_level`` is enforced where a namespace's labels name none.

    Pods in ``exempt_namespaces`` are not held against the Pod Security Standards; the rules of images hold
    for them too. ``static_pods``: whether pods of the node's own folder are judged at all.
    """

    default_level: Level = "baseline"
    exempt_namespaces: list[NamespaceName] = []
    static_pods: Literal["exempt", "enforce"] = "exempt"
    images: ImagesConfig = ImagesConfig()
