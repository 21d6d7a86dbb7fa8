"""Reading the eviction signals: two lines of /proc and one statvfs(2) for each file system.

``memory.available`` is the kernel's own MemAvailable, not kubelet's capacity less working set: it knows what
can be reclaimed, costs one small file, and is there without the memory controller, which boards often boot
without.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from edgeagent.node.pressure.thresholds import Reading, Readings, Signal, is_of_images
from edgeagent.node.usage.kernelfiles import read_small
from edgeagent.node.usage.machine import meminfo


class SignalReader:
    """Reads all signals at once. ``root``: where /proc is found. ``nodefs`` and ``imagefs``: folders on the
    file systems with the agent's state and with the runtime's images; None while the latter is not known.
    """

    def __init__(self, *, root: Path, nodefs: Path, imagefs: Path | None = None) -> None:
        self._root = root
        self._proc = root / "proc"
        self._nodefs = nodefs
        self.imagefs = imagefs

    def read(self) -> Readings:
        """Every signal that this machine has, now."""
        readings: dict[Signal, Reading] = {}
        if memory := _memory(meminfo(self._root)):
            readings["memory.available"] = memory
        if pids := self._pids():
            readings["pid.available"] = pids
        self._add_disk(readings, self._nodefs, "nodefs.available", "nodefs.inodesFree")
        if self.imagefs is not None:
            self._add_disk(readings, self.imagefs, "imagefs.available", "imagefs.inodesFree")
        return readings

    def device_of(self, signal: Signal) -> int | None:
        """The device (``st_dev``) that a disk's signal is about; None where images lie on the node's own."""
        if self.imagefs is None:
            return None
        try:
            nodefs, imagefs = os.stat(self._nodefs).st_dev, os.stat(self.imagefs).st_dev
        except OSError:
            return None
        if nodefs == imagefs:
            return None
        return imagefs if is_of_images(signal) else nodefs

    def _pids(self) -> Reading | None:
        limits = [
            int(text) for name in ("pid_max", "threads-max")
            if (text := read_small(self._proc / "sys/kernel" / name).strip()).isdigit()
        ]  # fmt: skip
        _, _, tasks = read_small(self._proc / "loadavg").partition("/")
        count = tasks.partition(" ")[0]
        if not limits or not count.isdigit():
            return None
        return Reading(available=max(0, min(limits) - int(count)), capacity=min(limits))

    @staticmethod
    def _add_disk(readings: dict[Signal, Reading], folder: Path, space: Signal, inodes: Signal) -> None:
        try:
            found = os.statvfs(folder)
        except OSError:
            return
        if found.f_blocks:
            # f_bavail: what root alone could use is not counted, as in df(1) and in kubelet.
            readings[space] = Reading(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
        if found.f_files:  # 0 on file systems that make inodes as they need them
            readings[inodes] = Reading(found.f_ffree, found.f_files)


def _memory(found: Mapping[str, int]) -> Reading | None:
    if "MemTotal" not in found or "MemAvailable" not in found:
        return None
    return Reading(found["MemAvailable"], found["MemTotal"])
