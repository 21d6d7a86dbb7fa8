"""The rules for security contexts.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

import re

from edgeagent.api.objects.security import (
    AppArmorProfile,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    Sysctl,
)
from edgeagent.api.objects.validate import (
    MAX_INT32,
    require,
    validate_range,
    validate_relative_path,
    validate_unique,
)

_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*", re.ASCII)
_MAX_SYSCTL = 253
_MAX_PROFILE = 4095


def validate_security_context(context: SecurityContext, path: str) -> None:
    """The security context of a container."""
    _validate_common(context, path)
    if context.allow_privilege_escalation is False:
        where = f"{path}.allowPrivilegeEscalation"
        require(context.privileged is not True, where, "may not be false where privileged is true")
        added = context.capabilities.add if context.capabilities is not None else []
        names = {name.upper().removeprefix("CAP_") for name in added}
        require("SYS_ADMIN" not in names, where, "may not be false where CAP_SYS_ADMIN is added")


def validate_pod_security_context(context: PodSecurityContext, path: str) -> None:
    """The security context of a pod."""
    _validate_common(context, path)
    validate_range(context.fs_group, 0, MAX_INT32, f"{path}.fsGroup")
    for index, group in enumerate(context.supplemental_groups):
        validate_range(group, 0, MAX_INT32, f"{path}.supplementalGroups[{index}]")
    _validate_sysctls(context.sysctls, f"{path}.sysctls")


def _validate_common(context: SecurityContext | PodSecurityContext, path: str) -> None:
    validate_range(context.run_as_user, 0, MAX_INT32, f"{path}.runAsUser")
    validate_range(context.run_as_group, 0, MAX_INT32, f"{path}.runAsGroup")
    if context.seccomp_profile is not None:
        where = f"{path}.seccompProfile.localhostProfile"
        _validate_profile(context.seccomp_profile, where)
        validate_relative_path(context.seccomp_profile.localhost_profile, where)
    if context.app_armor_profile is not None:
        where = f"{path}.appArmorProfile.localhostProfile"
        _validate_profile(context.app_armor_profile, where)
        name = context.app_armor_profile.localhost_profile
        require(name == name.strip(), where, "must not be padded with whitespace")


def _validate_profile(profile: SeccompProfile | AppArmorProfile, path: str) -> None:
    if profile.type == "Localhost":
        require(bool(profile.localhost_profile), path, "must be set where type is Localhost")
        require(len(profile.localhost_profile) <= _MAX_PROFILE, path, f"must be at most {_MAX_PROFILE} long")
    else:
        require(not profile.localhost_profile, path, "may only be set where type is Localhost")


def _validate_sysctls(sysctls: list[Sysctl], path: str) -> None:
    for index, sysctl in enumerate(sysctls):
        require(
            len(sysctl.name) <= _MAX_SYSCTL and _SYSCTL.fullmatch(sysctl.name) is not None,
            f"{path}[{index}].name",
            f"{sysctl.name[:80]!r} is not the name of a sysctl",
        )
    validate_unique([sysctl.name for sysctl in sysctls], path, "name")
