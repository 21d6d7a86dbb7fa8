"""The ``process_*`` metrics that every Prometheus client library has, of this very process.

https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics
"""

import os
import resource
from pathlib import Path

from edgeagent.api.metrics import MetricFamily
from edgeagent.node.telemetry.families import counter, gauge

_UTIME, _STIME, _START, _VSIZE, _RSS = 11, 12, 19, 20, 21
"""Places in ``/proc/self/stat`` after the name, which may have spaces in it (proc_pid_stat(5))."""


def process_families(proc: Path = Path("/proc")) -> list[MetricFamily]:
    """Nothing where ``proc`` does not answer."""
    try:
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        booted = int((proc / "stat").read_text().partition("\nbtime ")[2].partition("\n")[0])
        descriptors = len(os.listdir(proc / "self/fd"))
    except (OSError, ValueError):
        return []
    ticks = os.sysconf("SC_CLK_TCK")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [
        counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            (int(fields[_UTIME]) + int(fields[_STIME])) / ticks,
        ),
        gauge("process_open_fds", "Number of open file descriptors.", descriptors),
        gauge("process_max_fds", "Maximum number of open file descriptors.", most),
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", int(fields[_VSIZE])),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            int(fields[_RSS]) * resource.getpagesize(),
        ),
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            booted + int(fields[_START]) / ticks,
        ),
    ]
