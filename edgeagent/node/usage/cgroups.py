"""Where the cgroup of a container is, from that of its main process; versions 1, 2 and both at once.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgeagent.node.usage.kernelfiles import read_small

USED = frozenset({"blkio", "cpu", "cpuacct", "memory", "pids"})
"""The controllers of version 1 that count something; a container has as many that do not."""


class CgroupFolders(msgspec.Struct, frozen=True):
    """The folders of one container: of version 1 ``by_controller``, of version 2 ``unified``.

    Only those that are the container's own: what it shares with others says nothing of it.
    """

    by_controller: Mapping[str, str] = msgspec.field(default_factory=dict)
    unified: str | None = None

    @property
    def found(self) -> bool:
        """Whether the process is in a cgroup of the container at all."""
        return bool(self.by_controller) or self.unified is not None


def container_cgroup(root: Path, pid: int, container_id: str) -> CgroupFolders:
    """The cgroup of the container with main process ``pid``. ``root`` is where the file system begins.

    Empty where the process has ended, or is another's by now: its cgroups do not name ``container_id``.
    """
    mounted = f"{root}/sys/fs/cgroup"
    version_2 = mounted if os.path.exists(f"{mounted}/cgroup.controllers") else f"{mounted}/unified"
    by_controller: dict[str, str] = {}
    unified = None
    for line in read_small(f"{root}/proc/{pid}/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not container_id or container_id not in path:
            continue  # others are in it too, or the process is another's
        used = USED.intersection(controllers.split(","))
        if (controllers and not used) or not path.startswith("/") or "/../" in f"{path}/":
            continue
        inside = _container_part(path, container_id).lstrip("/")
        if not controllers:
            unified = f"{version_2}/{inside}"
        for controller in used:
            by_controller[controller] = f"{mounted}/{controllers}/{inside}"
    return CgroupFolders(by_controller, unified)


def _container_part(path: str, container_id: str) -> str:
    """The cgroup of the whole container, where the process is in one below it (an init system's scope)."""
    head, _, tail = path.rpartition(container_id)
    return head + container_id + tail.partition("/")[0]
