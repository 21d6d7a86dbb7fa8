"""What the whole machine uses, from ``/proc/stat``, ``/proc/meminfo`` and ``/proc/vmstat``.

Memory is counted as kubelet counts its root cgroup, which on version 2 has no files of its own: usage is what
is not free, and the working set leaves inactive file pages out.
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals
"""

from collections.abc import Mapping
from pathlib import Path

from edgeagent.api.usage import CpuUsage, MachineUsage, MemoryUsage
from edgeagent.node.usage.kernelfiles import read_small, table, whole

USER_HZ = 100
"""What the kernel counts /proc/stat in, on every machine of today, whatever its own clock is."""
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ = range(7)


def machine_usage(root: Path) -> MachineUsage:
    """What is used now. ``root`` is where the file system begins."""
    return MachineUsage(cpu=_cpu(read_small(root / "proc/stat")), memory=_memory(root))


def _cpu(text: str) -> CpuUsage | None:
    """The first line of proc_stat(5), without what the hypervisor took; guests are in ``user`` already."""
    name, *fields = text.partition("\n")[0].split()[:8] or [""]
    ticks = [whole(field) for field in fields]
    counted = [tick for tick in ticks if tick is not None]
    if name != "cpu" or len(counted) != len(ticks) or len(counted) <= _SOFTIRQ:
        return None
    user = counted[_USER] + counted[_NICE]
    system = counted[_SYSTEM] + counted[_IRQ] + counted[_SOFTIRQ]
    return CpuUsage(usage=(user + system) / USER_HZ, user=user / USER_HZ, system=system / USER_HZ)


def meminfo(root: Path) -> Mapping[str, int]:
    """``/proc/meminfo`` in bytes, by the kernel's names."""
    found = {}
    for line in read_small(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        amount = whole(value.strip().removesuffix("kB"))
        if amount is not None:
            found[name] = amount * 1024
    return found


def _memory(root: Path) -> MemoryUsage | None:
    found = meminfo(root)
    if "MemTotal" not in found or "MemFree" not in found:
        return None
    usage = max(0, found["MemTotal"] - found["MemFree"])
    faults = table(root / "proc", "vmstat")
    return MemoryUsage(
        usage=usage,
        working_set=max(0, usage - found.get("Inactive(file)", 0)),
        rss=found.get("AnonPages"),
        cache=found.get("Cached"),
        swap=max(0, found.get("SwapTotal", 0) - found.get("SwapFree", 0)),
        limit=found["MemTotal"],
        oom_kills=faults.get("oom_kill"),
        page_faults=faults.get("pgfault"),
        major_page_faults=faults.get("pgmajfault"),
    )
