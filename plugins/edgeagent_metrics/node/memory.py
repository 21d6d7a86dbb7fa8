"""Memory: node_exporter's ``meminfo``, ``vmstat`` and ``pressure``."""

import errno
import re

from edgeagent_metrics.node.files import Files, whole
from edgeagent_metrics.page import NO_LABELS, Page

_PLACE = re.compile(r"\((.*)\)")
_VMSTAT = re.compile(r"^((?:oom_kill|pgpg|pswp|pg\w*fault)\w*) ([0-9]{1,20})$", re.MULTILINE)
_PRESSURE = (
    ("cpu", "some", "cpu_waiting", "Total time in seconds that processes have waited for CPU time"),
    ("io", "some", "io_waiting", "Total time in seconds that processes have waited due to IO congestion"),
    (
        "io",
        "full",
        "io_stalled",
        "Total time in seconds no process could make progress due to IO congestion",
    ),
    ("memory", "some", "memory_waiting", "Total time in seconds that processes have waited for memory"),
    (
        "memory",
        "full",
        "memory_stalled",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    (
        "irq",
        "full",
        "irq_stalled",
        "Total time in seconds no process could make progress due to IRQ congestion",
    ),
)


def meminfo(files: Files, page: Page) -> None:
    """``node_memory_*`` from /proc/meminfo (proc_meminfo(5)): each line, in bytes where it has a unit."""
    for line in files.read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        amount, _, unit = rest.strip().partition(" ")
        value = whole(amount)
        if value is None:
            continue
        field = _PLACE.sub(r"_\1", name)
        if unit == "kB":
            field, value = f"{field}_bytes", value * 1024
        page.gauge(f"node_memory_{field}", f"Memory information field {field}.", value)


def vmstat(files: Files, page: Page) -> None:
    """``node_vmstat_*`` from /proc/vmstat: faults, paging, swapping, and processes killed for memory."""
    for name, text in _VMSTAT.findall(files.read("/proc/vmstat")):
        help = f"/proc/vmstat information field {name}."
        page.add(f"node_vmstat_{name}", "unknown", help, int(text), NO_LABELS)


def pressure(files: Files, page: Page) -> None:
    """``node_pressure_*`` from /proc/pressure; nothing on a kernel without it.

    https://docs.kernel.org/accounting/psi.html
    """
    texts = {resource: _stalls(files, resource) for resource in ("cpu", "io", "memory", "irq")}
    for resource, kind, metric, help in _PRESSURE:
        if (microseconds := texts[resource].get(kind)) is not None:
            page.counter(f"node_pressure_{metric}_seconds_total", help, microseconds / 1e6)


def _stalls(files: Files, resource: str) -> dict[str, int]:
    """By ``some`` and ``full``, the total in microseconds."""
    try:
        text = files.read(f"/proc/pressure/{resource}")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            return {}
        raise
    found = {}
    for line in text.splitlines():
        total = whole(line.rpartition("total=")[2])
        if total is not None:
            found[line.partition(" ")[0]] = total
    return found
