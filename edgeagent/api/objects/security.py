"""The security contexts of pods and containers.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from typing import Annotated, Literal

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.support import NO_EFFECT, Refused


class Capabilities(KubernetesStruct, frozen=True):
    """Linux capabilities without ``CAP_`` before them; ``ALL`` stands for every one."""

    add: list[str] = []
    drop: list[str] = []


class SELinuxOptions(KubernetesStruct, frozen=True):
    """The parts of an SELinux label; what is empty is the runtime's."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class SeccompProfile(KubernetesStruct, frozen=True):
    """``localhost_profile`` is a path below ``<state_dir>/seccomp``, for type ``Localhost`` only."""

    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]
    localhost_profile: str = ""


class AppArmorProfile(KubernetesStruct, frozen=True):
    """``localhost_profile`` is the name of a loaded profile, for type ``Localhost`` only."""

    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]
    localhost_profile: str = ""


class Sysctl(KubernetesStruct, frozen=True):
    """A kernel parameter of one of the pod's namespaces."""

    name: str
    value: str


class SecurityContext(KubernetesStruct, frozen=True):
    """What one container may do; what is set here goes before the pod's."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    allow_privilege_escalation: bool | None = None
    read_only_root_filesystem: bool | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None
    proc_mount: Literal["", "Default", "Unmasked"] = ""
    windows_options: Refused = None


class PodSecurityContext(KubernetesStruct, frozen=True):
    """What all containers of a pod may do, and who owns its volumes."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] = []
    supplemental_groups_policy: Literal["", "Merge", "Strict"] = ""
    fs_group: int | None = None
    fs_group_change_policy: Annotated[Literal["", "Always", "OnRootMismatch"], NO_EFFECT] = ""
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None
    se_linux_change_policy: Annotated[Literal["", "Recursive", "MountOption"], NO_EFFECT] = ""
    sysctls: list[Sysctl] = []
    windows_options: Refused = None
