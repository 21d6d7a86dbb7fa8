"""fsGroup: the group that owns a pod's volumes.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#set-the-security-context-for-a-pod
"""

import os
import stat
from pathlib import Path

from edgeagent.api.objects.security import PodSecurityContext


def give_to_group(folder: Path, context: PodSecurityContext | None) -> None:
    """Let the pod's ``fsGroup`` own a new, empty ``folder``, write to it, and own what is made in it.

    As with kubelet an emptyDir is given once, whatever ``fsGroupChangePolicy`` says: that is about volumes
    that outlive their pod.
    """
    if context is None or context.fs_group is None:
        return
    os.chown(folder, -1, context.fs_group)
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o2770)
