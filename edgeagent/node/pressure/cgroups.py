"""What a container uses, from the cgroup that its main process is in; versions 1, 2 and both at once.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from dataclasses import dataclass
from pathlib import Path

from edgeagent.node.pressure.signals import read_small


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """``memory``: the working set in bytes, which is usage less inactive file pages, as kubelet counts it.
    ``pids``: processes and threads. None where the kernel does not account for the container alone.
    """

    memory: int | None = None
    pids: int | None = None


def container_usage(root: Path, pid: int, container_id: str) -> CgroupUsage:
    """What the container with main process ``pid`` uses. ``root`` is where the file system begins."""
    folders = _folders(root, pid, container_id)
    return CgroupUsage(
        memory=_working_set(folders.get("memory"), "memory.usage_in_bytes", "total_inactive_file")
        if "memory" in folders
        else _working_set(folders.get(""), "memory.current", "inactive_file"),
        pids=_number(folders.get("pids", folders.get("")), "pids.current"),
    )


def _folders(root: Path, pid: int, container_id: str) -> dict[str, Path]:
    """The cgroup's folder for each controller of version 1, and under ``""`` that of version 2.

    A controller that the container has no cgroup of its own in is left out.
    """
    mounted = root / "sys/fs/cgroup"
    unified = mounted if (mounted / "cgroup.controllers").exists() else mounted / "unified"
    folders = {}
    for line in read_small(root / f"proc/{pid}/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or ".." in path.split("/"):
            continue
        if not container_id or container_id not in path:
            continue  # others are in it too, or the process is another's
        inside = _container_part(path, container_id).lstrip("/")
        for controller in controllers.split(","):
            folders[controller] = (mounted / controllers if controller else unified) / inside
    return folders


def _container_part(path: str, container_id: str) -> str:
    """The cgroup of the whole container, where the process is in one below it (an init system's scope)."""
    head, _, tail = path.rpartition(container_id)
    return head + container_id + tail.partition("/")[0]


def _working_set(folder: Path | None, usage_file: str, inactive: str) -> int | None:
    usage = _number(folder, usage_file)
    if folder is None or usage is None:
        return None
    for line in read_small(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == inactive and value.isdigit():
            return max(0, usage - int(value))
    return usage


def _number(folder: Path | None, name: str) -> int | None:
    text = read_small(folder / name).strip() if folder is not None else ""
    return int(text) if text.isdigit() else None
