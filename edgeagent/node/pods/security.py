"""What a container may do, from its security context and its pod's.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.security import (
    AppArmorProfile,
    Capabilities,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
)
from edgeagent.api.runtime import ContainerSecurity, Image

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls"""

_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def needs_image(pod: Pod, container: Container) -> bool:
    """Whether ``container_security`` has to know what user the image names."""
    own, shared = _contexts(pod, container)
    if own.run_as_user is not None or shared.run_as_user is not None:
        return False
    return _non_root(own, shared) or own.run_as_group is not None or shared.run_as_group is not None


def container_security(
    pod: Pod, container: Container, image: Image | None, profiles: Path
) -> ContainerSecurity:
    """The security context in force: the container's fields before the pod's.

    ``image`` may be None where ``needs_image`` says so, ``profiles`` is the folder of the seccomp profiles.
    PermanentError (reason ``CreateContainerConfigError``) where the container would run as root and must
    not, or where its seccomp profile is not there; TemporaryError where the image is needed and missing.
    """
    own, shared = _contexts(pod, container)
    capabilities = own.capabilities or Capabilities()
    add, drop = _names(capabilities.add), _names(capabilities.drop)
    privileged = own.privileged is True
    groups = shared.supplemental_groups
    return ContainerSecurity(
        user=_user(pod, container, image),
        supplemental_groups=groups if shared.fs_group is None else [shared.fs_group, *groups],
        strict_groups=shared.supplemental_groups_policy == "Strict",
        privileged=privileged,
        add_capabilities=add,
        drop_capabilities=drop,
        no_new_privileges=own.allow_privilege_escalation is False and not privileged,
        read_only_root=own.read_only_root_filesystem is True,
        seccomp_profile=(
            "unconfined" if privileged else _seccomp(own.seccomp_profile or shared.seccomp_profile, profiles)
        ),
        apparmor_profile=_app_armor(own.app_armor_profile or shared.app_armor_profile),
        selinux_options=_selinux(own.se_linux_options or shared.se_linux_options),
        unmasked_proc=own.proc_mount == "Unmasked",
    )


def _contexts(pod: Pod, container: Container) -> tuple[SecurityContext, PodSecurityContext]:
    return container.security_context or SecurityContext(), pod.spec.security_context or PodSecurityContext()


def _non_root(own: SecurityContext, shared: PodSecurityContext) -> bool:
    return bool(shared.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root)


def _user(pod: Pod, container: Container, image: Image | None) -> str:
    """``uid``, ``uid:gid`` or empty. A group without a user goes with the image's user, as under kubelet."""
    own, shared = _contexts(pod, container)
    uid = shared.run_as_user if own.run_as_user is None else own.run_as_user
    gid = shared.run_as_group if own.run_as_group is None else own.run_as_group
    non_root, where = _non_root(own, shared), _where(pod, container)
    if uid is not None:
        if non_root and uid == 0:
            raise _error(f"container's runAsUser breaks non-root policy {where}")
        return str(uid) if gid is None else f"{uid}:{gid}"
    if not non_root and gid is None:
        return ""
    if image is None:
        raise TemporaryError(f"{container.image} is not on this node", reason="ErrImagePull")
    named = image.user.partition(":")[0] or "0"
    if non_root:
        if not (named.isascii() and named.isdecimal()):
            raise _error(
                f"container has runAsNonRoot and image has non-numeric user ({named[:80]}),"
                f" cannot verify user is non-root {where}"
            )
        if not named.strip("0"):
            raise _error(f"container has runAsNonRoot and image will run as root {where}")
    return "" if gid is None else f"{named}:{gid}"


def _where(pod: Pod, container: Container) -> str:
    meta = pod.metadata
    return f'(pod: "{meta.name}_{meta.namespace}({meta.uid})", container: {container.name})'


def _names(capabilities: list[str]) -> list[str]:
    return [name.upper().removeprefix("CAP_") for name in capabilities]


def _seccomp(profile: SeccompProfile | None, profiles: Path) -> str:
    """Unset is the runtime's default too, as for a kubelet with ``--seccomp-default``."""
    if profile is None or profile.type == "RuntimeDefault":
        return ""
    if profile.type == "Unconfined":
        return "unconfined"
    try:
        folder = profiles.resolve()
        path = (folder / profile.localhost_profile).resolve()
        if not path.is_relative_to(folder):
            raise _error(f"seccomp profile {profile.localhost_profile[:80]!r} is not below {profiles}")
        found = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, a NUL in it, a loop of links
        found = False
    if not found:
        raise _error(f"seccomp profile {profile.localhost_profile[:80]!r} not found in {profiles}")
    return str(path)


def _app_armor(profile: AppArmorProfile | None) -> str:
    if profile is None or profile.type == "RuntimeDefault":
        return ""
    return "unconfined" if profile.type == "Unconfined" else profile.localhost_profile


def _selinux(options: SELinuxOptions | None) -> dict[str, str]:
    if options is None:
        return {}
    parts = {"user": options.user, "role": options.role, "type": options.type, "level": options.level}
    return {name: value for name, value in parts.items() if value}


def pod_sysctls(pod: Pod, *, allowed_unsafe: Sequence[str]) -> dict[str, str]:
    """The pod's sysctls by name, with dots.

    ``allowed_unsafe``: names, or beginnings of names with ``*`` after them, that are allowed beside the safe
    ones. PermanentError (reason ``SysctlForbidden``) names the first that is not allowed, or is not the pod's
    own: no namespace has it, or the pod shares that namespace with the node.
    """
    context = pod.spec.security_context or PodSecurityContext()
    shared = {"net": pod.spec.host_network, "ipc": pod.spec.host_ipc}
    found: dict[str, str] = {}
    for index, sysctl in enumerate(context.sysctls):
        name = _dotted(sysctl.name)
        namespace = _namespace(name)
        if namespace is None or not (name in SAFE_SYSCTLS or _is_allowed(name, allowed_unsafe)):
            raise _forbidden(index, f'"{name[:80]}" not allowlisted')
        if shared[namespace]:
            raise _forbidden(index, f'"{name[:80]}" not allowed with host {namespace} enabled')
        found[name] = sysctl.value
    return found


def _dotted(name: str) -> str:
    """As in sysctl(8), the first separator tells whether dots or slashes separate."""
    first = next((char for char in name if char in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def _namespace(name: str) -> Literal["net", "ipc"] | None:
    if name.startswith("net."):
        return "net"
    return "ipc" if name == "kernel.sem" or name.startswith(_IPC_SYSCTLS) else None


def _is_allowed(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in map(_dotted, patterns)
    )


def _error(message: str) -> PermanentError:
    return PermanentError(message, reason="CreateContainerConfigError")


def _forbidden(index: int, message: str) -> PermanentError:
    field = f"spec.securityContext.sysctls[{index}].name"
    return PermanentError(f"{field}: forbidden sysctl: {message}", reason="SysctlForbidden")
