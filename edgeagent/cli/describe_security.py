"""The security context of a pod or container, as far as it is set."""

from collections.abc import Iterator

import msgspec

from edgeagent.api.objects.security import PodSecurityContext, SecurityContext
from edgeagent.api.objects.support import fields_of
from edgeagent.cli.page import Page


def describe_security(page: Page, level: int, context: PodSecurityContext | SecurityContext | None) -> None:
    """The seccomp profile in kubectl's rows, then every other field that is set, by its Kubernetes name."""
    if context is None:
        return
    if (profile := context.seccomp_profile) is not None:
        page.row(level, "SeccompProfile:", profile.type)
        if profile.type == "Localhost":
            # A pod's is on its own level, a container's one below, as in kubectl.
            page.row(level + (level > 0), "LocalhostProfile:", profile.localhost_profile)
    rest = list(_set_fields(context))
    if rest:
        page.row(level, "Security Context:")
    for name, value in rest:
        page.row(level + 1, f"{name}:", value)


def _set_fields(context: PodSecurityContext | SecurityContext) -> Iterator[tuple[str, str]]:
    for field in fields_of(type(context)):
        value = getattr(context, field.name)
        if field.name != "seccomp_profile" and value not in (None, "", []):
            yield field.encoded, _told(msgspec.to_builtins(value))


def _told(value: object) -> str:
    """``true``, ``1000``, ``add=NET_ADMIN, drop=ALL``: one line, whatever ``value`` is made of."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return ", ".join(f"{key}={_told(one)}" for key, one in value.items())
        case list() if any(isinstance(one, dict) for one in value):
            return "; ".join(map(_told, value))
        case list():
            return ",".join(map(_told, value))
    return str(value)
