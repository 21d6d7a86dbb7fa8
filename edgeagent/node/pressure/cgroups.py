"""What pressure asks of a container's cgroup: two numbers of those that ``edgeagent.node.usage`` reads."""

from pathlib import Path

import msgspec

from edgeagent.node.usage.cgroups import container_cgroup
from edgeagent.node.usage.counters import memory_usage, pids_usage


class CgroupUsage(msgspec.Struct, frozen=True):
    """``memory``: the working set in bytes, which is usage less inactive file pages, as kubelet counts it.
    ``pids``: processes and threads. None where the kernel does not account for the container alone.
    """

    memory: int | None = None
    pids: int | None = None


def container_usage(root: Path, pid: int, container_id: str) -> CgroupUsage:
    """What the container with main process ``pid`` uses. ``root`` is where the file system begins."""
    folders = container_cgroup(root, pid, container_id)
    memory, pids = memory_usage(folders), pids_usage(folders)
    return CgroupUsage(
        memory=memory.working_set if memory is not None else None,
        pids=pids.current if pids is not None else None,
    )
