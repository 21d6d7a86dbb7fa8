"""Disks: node_exporter's ``diskstats`` and ``filesystem``."""

import os
import re
from collections.abc import Callable

from edgeagent_metrics.node.files import Files
from edgeagent_metrics.page import Page

SECTOR_BYTES = 512
"""Whatever a device's own are (https://docs.kernel.org/block/stat.html)."""
MOST_FILE_SYSTEMS = 100
_COUNT, _SECTORS, _MILLISECONDS = 1.0, float(SECTOR_BYTES), 1e-3
_DISK = (
    ("counter", "reads_completed_total", _COUNT, "The total number of reads completed successfully."),
    ("counter", "reads_merged_total", _COUNT, "The total number of reads merged."),
    ("counter", "read_bytes_total", _SECTORS, "The total number of bytes read successfully."),
    (
        "counter",
        "read_time_seconds_total",
        _MILLISECONDS,
        "The total number of seconds spent by all reads.",
    ),
    ("counter", "writes_completed_total", _COUNT, "The total number of writes completed successfully."),
    ("counter", "writes_merged_total", _COUNT, "The number of writes merged."),
    ("counter", "written_bytes_total", _SECTORS, "The total number of bytes written successfully."),
    (
        "counter",
        "write_time_seconds_total",
        _MILLISECONDS,
        "This is the total number of seconds spent by all writes.",
    ),
    ("gauge", "io_now", _COUNT, "The number of I/Os currently in progress."),
    ("counter", "io_time_seconds_total", _MILLISECONDS, "Total seconds spent doing I/Os."),
    (
        "counter",
        "io_time_weighted_seconds_total",
        _MILLISECONDS,
        "The weighted # of seconds spent doing I/Os.",
    ),
    ("counter", "discards_completed_total", _COUNT, "The total number of discards completed successfully."),
    ("counter", "discards_merged_total", _COUNT, "The total number of discards merged."),
    ("counter", "discarded_sectors_total", _COUNT, "The total number of sectors discarded successfully."),
    (
        "counter",
        "discard_time_seconds_total",
        _MILLISECONDS,
        "This is the total number of seconds spent by all discards.",
    ),
    (
        "counter",
        "flush_requests_total",
        _COUNT,
        "The total number of flush requests completed successfully",
    ),
    (
        "counter",
        "flush_requests_time_seconds_total",
        _MILLISECONDS,
        "This is the total number of seconds spent by all flush requests.",
    ),
)


def diskstats(ignored: re.Pattern[str]) -> Callable[[Files, Page], None]:
    """``node_disk_*`` from /proc/diskstats, of devices whose name does not match ``ignored``."""

    def collect(files: Files, page: Page) -> None:
        for line in files.read("/proc/diskstats").splitlines():
            _, _, device, *fields = line.split()
            if ignored.search(device):
                continue
            labels = {"device": device}
            for (kind, name, unit, help), field in zip(_DISK, fields, strict=False):
                add = page.counter if kind == "counter" else page.gauge
                value = int(field)
                add(f"node_disk_{name}", help, value if unit == _COUNT else value * unit, labels)

    return collect


def filesystem(
    mount_points_ignored: re.Pattern[str], types_ignored: re.Pattern[str]
) -> Callable[[Files, Page], None]:
    """``node_filesystem_*`` of what is mounted on the host, save what matches one of the two."""

    def collect(files: Files, page: Page) -> None:
        seen: set[tuple[str, str, str]] = set()
        for line in (files.optional("/proc/1/mounts") or files.read("/proc/self/mounts")).splitlines():
            device, mount_point, kind, options, *_ = line.split(" ")
            if types_ignored.search(kind):
                continue
            device, mount_point = _plain(device), _plain(mount_point)
            if mount_points_ignored.search(mount_point):
                continue
            if (device, mount_point, kind) not in seen and len(seen) < MOST_FILE_SYSTEMS:
                seen.add((device, mount_point, kind))
                labels = {"device": device, "fstype": kind, "mountpoint": mount_point}
                _one(page, files.root + mount_point, labels, "ro" in options.split(","))

    return collect


def _one(page: Page, path: str, labels: dict[str, str], read_only: bool) -> None:
    try:
        found: os.statvfs_result | None = os.statvfs(path)
    except OSError:
        found = None
    page.gauge(
        "node_filesystem_device_error",
        "Whether an error occurred while getting statistics for the given device.",
        float(found is None),
        labels,
    )
    if found is None:
        return
    size = found.f_frsize
    for name, value, help in (
        ("size_bytes", found.f_blocks * size, "Filesystem size in bytes."),
        ("free_bytes", found.f_bfree * size, "Filesystem free space in bytes."),
        ("avail_bytes", found.f_bavail * size, "Filesystem space available to non-root users in bytes."),
        ("files", found.f_files, "Filesystem total file nodes."),
        ("files_free", found.f_ffree, "Filesystem total free file nodes."),
        ("readonly", int(read_only), "Filesystem read-only status."),
    ):
        page.gauge(f"node_filesystem_{name}", help, value, labels)


def _plain(field: str) -> str:
    """Spaces and the like are octal in the table of mounts (proc_pid_mounts(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field) if "\\" in field else field
