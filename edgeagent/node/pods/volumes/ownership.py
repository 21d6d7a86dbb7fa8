"""fsGroup: the group that owns a pod's volumes.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods
"""

import os
import stat
from pathlib import Path

from edgeagent.api.objects.security import PodSecurityContext


def give_to_group(folder: Path, context: PodSecurityContext | None) -> None:
    """Let the pod's ``fsGroup`` own ``folder`` and all below it, read and write it, and inherit it."""
    if context is None or context.fs_group is None:
        return
    group = context.fs_group
    if context.fs_group_change_policy == "OnRootMismatch" and _matches(folder, group):
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            _give(os.path.join(parent, name), group)
    _give(str(folder), group)


def _matches(folder: Path, group: int) -> bool:
    found = folder.stat()
    return found.st_gid == group and found.st_mode & 0o2070 == 0o2070


def _give(path: str, group: int) -> None:
    os.chown(path, -1, group, follow_symlinks=False)
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        os.chmod(path, stat.S_IMODE(mode) | 0o2770)  # noqa: S103 - the group is the pod's own
    elif stat.S_ISREG(mode):
        os.chmod(path, stat.S_IMODE(mode) | 0o660)
