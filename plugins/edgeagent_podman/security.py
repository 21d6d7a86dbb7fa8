"""What a container may do, in Podman's words. Pure.

Podman's meaning of each field is in ``pkg/specgen/generate/security_linux.go`` of its source.
"""

import msgspec

from edgeagent.api.runtime import ContainerSecurity

ALL = "ALL"


class SecurityOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of SpecGenerator that say what a container may do; unset ones are Podman's default.

    A read-only root gets no tmpfs on ``/tmp``, ``/run`` and ``/var/tmp``: Podman adds those only where
    ``read_write_tmpfs`` asks for them, and Kubernetes does not.
    """

    user: str = ""
    groups: list[str] = []
    privileged: bool = False
    cap_add: list[str] = []
    cap_drop: list[str] = []
    no_new_privileges: bool = False
    read_only_filesystem: bool = False
    seccomp_profile_path: str = ""
    apparmor_profile: str = ""
    selinux_opts: list[str] = []
    unmask: list[str] = []


def to_options(security: ContainerSecurity) -> SecurityOptions:
    """``security`` as Podman takes it.

    Podman gives a user the groups of the image's ``/etc/group`` unless a group is named after a colon,
    and takes an empty one after it for the user's own: ``1000:`` keeps those groups out.
    """
    user = security.user
    add, drop = capabilities(security.add_capabilities, security.drop_capabilities)
    return SecurityOptions(
        user=f"{user}:" if security.strict_groups and user and ":" not in user else user,
        groups=[str(group) for group in security.supplemental_groups],
        privileged=security.privileged,
        cap_add=add,
        cap_drop=drop,
        no_new_privileges=security.no_new_privileges,
        read_only_filesystem=security.read_only_root,
        seccomp_profile_path=security.seccomp_profile,
        apparmor_profile=security.apparmor_profile,
        selinux_opts=[f"{part}:{value}" for part, value in security.selinux_options.items() if value],
        # Not "ALL": on cgroup v2 that lets the container write to its own cgroup as well.
        unmask=["/proc/*"] if security.unmasked_proc else [],
    )


def capabilities(add: list[str], drop: list[str]) -> tuple[list[str], list[str]]:
    """What to add and what to drop, with ``CAP_`` before each name but ``ALL``.

    As with other runtimes under Kubernetes, what is dropped by name goes, whatever was added, and dropping
    ``ALL`` leaves what is added by name. Podman refuses such pairs.
    """
    dropped = sorted({_full_name(name) for name in drop})
    added = {_full_name(name) for name in add}.difference(dropped)
    if ALL in dropped:
        return sorted(added), [ALL]
    return sorted(added), dropped


def _full_name(name: str) -> str:
    upper = name.upper()
    return upper if upper == ALL or upper.startswith("CAP_") else f"CAP_{upper}"
