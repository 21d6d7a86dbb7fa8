"""What the system is and how it is: node_exporter's ``loadavg``, ``uname``, ``os``, ``time``, ``filefd``."""

import os
import time as clock
from collections.abc import Callable

from edgeagent_metrics.node.files import Files, whole
from edgeagent_metrics.page import Page

_OS_LABELS = (
    "build_id", "id", "id_like", "image_id", "image_version", "name", "pretty_name", "variant", "variant_id",
    "version", "version_codename", "version_id",
)  # fmt: skip


def loadavg(files: Files, page: Page) -> None:
    """``node_load*`` from /proc/loadavg."""
    for minutes, text in zip((1, 5, 15), files.read("/proc/loadavg").split(), strict=False):
        page.gauge(f"node_load{minutes}", f"{minutes}m load average.", float(text))


def uname(files: Files, page: Page) -> None:
    """The kernel and the host, in the labels of ``node_uname_info``."""
    found = os.uname()
    page.gauge(
        "node_uname_info",
        "Labeled system information as provided by the uname system call.",
        1,
        {
            "domainname": files.optional("/proc/sys/kernel/domainname").strip() or "(none)",
            "machine": found.machine,
            "nodename": found.nodename,
            "release": found.release,
            "sysname": found.sysname,
            "version": found.version,
        },
    )


def os_release(files: Files, page: Page) -> None:
    """``node_os_info`` and ``node_os_version``, from os-release(5)."""
    text = files.optional("/etc/os-release") or files.read("/usr/lib/os-release")
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip().lower()] = value.strip().strip("\"'")
    labels = {name: found.get(name, "") for name in _OS_LABELS}
    words = ", ".join(_OS_LABELS)
    page.gauge("node_os_info", f"A metric with a constant '1' value labeled by {words}.", 1, labels)
    try:
        version = float(".".join(labels["version_id"].split(".")[:2]))
    except ValueError:
        return
    page.gauge(
        "node_os_version",
        "Metric containing the major.minor part of the OS version.",
        version,
        {name: labels[name] for name in ("id", "id_like", "name")},
    )


def time(now: Callable[[], float]) -> Callable[[Files, Page], None]:
    """``node_time_*``; ``now`` in seconds since the epoch."""

    def collect(_files: Files, page: Page) -> None:
        seconds = now()
        page.gauge("node_time_seconds", "System time in seconds since epoch (1970).", seconds)
        local = clock.localtime(seconds)
        page.gauge(
            "node_time_zone_offset_seconds",
            "System time zone offset in seconds.",
            local.tm_gmtoff or 0,
            {"time_zone": local.tm_zone or ""},
        )

    return collect


def filefd(files: Files, page: Page) -> None:
    """``node_filefd_*`` from /proc/sys/fs/file-nr."""
    allocated, _, maximum, *_ = files.read("/proc/sys/fs/file-nr").split()
    for name, text in (("allocated", allocated), ("maximum", maximum)):
        if (value := whole(text)) is not None:
            page.gauge(f"node_filefd_{name}", f"File descriptor statistics: {name}.", value)
