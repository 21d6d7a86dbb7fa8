"""What a container's cgroup counts, in the units of ``edgeagent.api.usage``.

As cadvisor and kubelet count it, so that figures compare: a version 1 controller where the container has one,
else version 2.
"""

from collections.abc import Callable

from edgeagent.api.usage import CpuUsage, DeviceUsage, MemoryUsage, PidsUsage
from edgeagent.node.usage.cgroups import CgroupFolders
from edgeagent.node.usage.kernelfiles import number, read_small, table, whole

_NANO = 1e9
_MICRO = 1e6
_UNLIMITED = 2**62
"""Version 1 writes a huge number where there is no limit; no machine has so much."""
MAX_DEVICES = 64


def cpu_usage(folders: CgroupFolders) -> CpuUsage | None:
    """CPU time and throttling; None where CPU time is not counted for the container."""
    if (account := folders.by_controller.get("cpuacct")) is not None:
        total = number(account, "cpuacct.usage")
        if total is None:
            return None
        user, system = number(account, "cpuacct.usage_user"), number(account, "cpuacct.usage_sys")
        quota = table(folders.by_controller.get("cpu"), "cpu.stat")
        return CpuUsage(
            usage=total / _NANO,
            user=_scaled(user, _NANO),
            system=_scaled(system, _NANO),
            periods=quota.get("nr_periods"),
            throttled_periods=quota.get("nr_throttled"),
            throttled=_scaled(quota.get("throttled_time"), _NANO),
        )
    found = table(folders.unified, "cpu.stat")
    total = found.get("usage_usec")
    if total is None:
        return None
    return CpuUsage(
        usage=total / _MICRO,
        user=_scaled(found.get("user_usec"), _MICRO),
        system=_scaled(found.get("system_usec"), _MICRO),
        periods=found.get("nr_periods"),
        throttled_periods=found.get("nr_throttled"),
        throttled=_scaled(found.get("throttled_usec"), _MICRO),
    )


def memory_usage(folders: CgroupFolders) -> MemoryUsage | None:
    """Memory; None where it is not counted for the container."""
    if (folder := folders.by_controller.get("memory")) is not None:
        usage = number(folder, "memory.usage_in_bytes")
        if usage is None:
            return None
        found = table(folder, "memory.stat")
        return MemoryUsage(
            usage=usage,
            working_set=max(0, usage - (found.get("total_inactive_file") or 0)),
            rss=found.get("total_rss"),
            cache=found.get("total_cache"),
            swap=found.get("total_swap"),
            limit=_limit(found.get("hierarchical_memory_limit")),
            failures=number(folder, "memory.failcnt"),
            oom_kills=table(folder, "memory.oom_control").get("oom_kill"),
            page_faults=found.get("total_pgfault"),
            major_page_faults=found.get("total_pgmajfault"),
        )
    folder = folders.unified
    usage = number(folder, "memory.current")
    if usage is None:
        return None
    found, events = table(folder, "memory.stat"), table(folder, "memory.events")
    return MemoryUsage(
        usage=usage,
        working_set=max(0, usage - (found.get("inactive_file") or 0)),
        rss=found.get("anon"),
        cache=found.get("file"),
        swap=number(folder, "memory.swap.current"),
        limit=number(folder, "memory.max"),
        failures=events.get("max"),
        oom_kills=events.get("oom_kill"),
        page_faults=found.get("pgfault"),
        major_page_faults=found.get("pgmajfault"),
    )


def pids_usage(folders: CgroupFolders) -> PidsUsage | None:
    """Processes and threads; None where they are not counted for the container."""
    folder = folders.by_controller.get("pids", folders.unified)
    current = number(folder, "pids.current")
    return None if current is None else PidsUsage(current=current, limit=number(folder, "pids.max"))


def io_usage(folders: CgroupFolders, name_of: Callable[[str], str]) -> list[DeviceUsage]:
    """Reads and writes that reached a device, by device. ``name_of`` says what ``8:0`` is called."""
    devices: dict[str, dict[str, int]] = {}
    if (folder := folders.by_controller.get("blkio")) is not None:
        for file, kinds in _V1_IO:
            for device, kind, amount in _v1_lines(folder, file):
                if (field := kinds.get(kind)) is not None:
                    devices.setdefault(device, {})[field] = amount
    elif folders.unified is not None:
        for line in read_small(f"{folders.unified}/io.stat").splitlines():
            device, *pairs = line.split()
            for name, _, text in (pair.partition("=") for pair in pairs):
                if (field := _V2_IO.get(name)) is not None and (value := whole(text)) is not None:
                    devices.setdefault(device, {})[field] = value
    return [
        DeviceUsage(device=name_of(device), **amounts)
        for device, amounts in sorted(devices.items())[:MAX_DEVICES]
        if any(amounts.values())
    ]


_V1_IO = (
    ("blkio.throttle.io_service_bytes", {"Read": "read_bytes", "Write": "written_bytes"}),
    ("blkio.throttle.io_serviced", {"Read": "reads", "Write": "writes"}),
)
_V2_IO = {"rbytes": "read_bytes", "wbytes": "written_bytes", "rios": "reads", "wios": "writes"}


def _v1_lines(folder: str, name: str) -> list[tuple[str, str, int]]:
    """``8:0 Read 4096`` a line; with those below where the kernel counts them (since 4.4)."""
    text = read_small(f"{folder}/{name}_recursive") or read_small(f"{folder}/{name}")
    found = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        kind, _, amount = rest.partition(" ")
        if ":" in device and (value := whole(amount)) is not None:
            found.append((device, kind, value))
    return found


def _scaled(amount: int | None, unit: float) -> float | None:
    return None if amount is None else amount / unit


def _limit(amount: int | None) -> int | None:
    return None if amount is None or amount >= _UNLIMITED else amount
