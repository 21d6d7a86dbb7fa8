"""CPU time, frequency and throttling: node_exporter's ``cpu``, ``cpufreq`` and ``stat``."""

import os

from edgeagent_metrics.node.files import Files
from edgeagent_metrics.page import Page

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
GUEST_MODES = ("user", "nice")
_CPUS = "/sys/devices/system/cpu"
_FREQUENCIES = (
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Current CPU thread frequency in hertz."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    (
        "scaling_cur_freq",
        "node_cpu_scaling_frequency_hertz",
        "Current scaled CPU thread frequency in hertz.",
    ),
    (
        "scaling_min_freq",
        "node_cpu_scaling_frequency_min_hertz",
        "Minimum scaled CPU thread frequency in hertz.",
    ),
    (
        "scaling_max_freq",
        "node_cpu_scaling_frequency_max_hertz",
        "Maximum scaled CPU thread frequency in hertz.",
    ),
)
_STAT = {
    "ctxt": ("counter", "node_context_switches_total", "Total number of context switches."),
    "processes": ("counter", "node_forks_total", "Total number of forks."),
    "intr": ("counter", "node_intr_total", "Total number of interrupts serviced."),
    "btime": ("gauge", "node_boot_time_seconds", "Node boot time, in unixtime."),
    "procs_running": ("gauge", "node_procs_running", "Number of processes in runnable state."),
    "procs_blocked": (
        "gauge",
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
    ),
}


def cpu(files: Files, page: Page) -> None:
    """``node_cpu_*`` from /proc/stat (proc_stat(5)), and how often cores were throttled for their heat."""
    ticks = os.sysconf("SC_CLK_TCK")
    numbers = []
    for line in files.read("/proc/stat").splitlines():
        name, *fields = line.split()
        if not name.startswith("cpu") or name == "cpu":
            continue
        number = name[3:]
        numbers.append(number)
        times = [int(field) / ticks for field in fields]
        for mode, value in zip(MODES, times, strict=False):
            page.counter(
                "node_cpu_seconds_total",
                "Seconds the CPUs spent in each mode.",
                value,
                {"cpu": number, "mode": mode},
            )
        for mode, value in zip(GUEST_MODES, times[8:10], strict=False):
            page.counter(
                "node_cpu_guest_seconds_total",
                "Seconds the CPUs spent in guests (VMs) for each mode.",
                value,
                {"cpu": number, "mode": mode},
            )
    _throttling(files, page, numbers)


def _throttling(files: Files, page: Page, cpus: list[str]) -> None:
    """Threads of one core, and cores of one package, count together: each is told of once."""
    seen: set[tuple[str, ...]] = set()
    for number in cpus:
        folder = f"{_CPUS}/cpu{number}"
        core_throttles = files.number(f"{folder}/thermal_throttle/core_throttle_count")
        if core_throttles is None:
            return
        package = files.optional(f"{folder}/topology/physical_package_id").strip()
        core = files.optional(f"{folder}/topology/core_id").strip()
        if (package, core) not in seen:
            page.counter(
                "node_cpu_core_throttles_total",
                "Number of times this CPU core has been throttled.",
                core_throttles,
                {"core": core, "package": package},
            )
        throttles = files.number(f"{folder}/thermal_throttle/package_throttle_count")
        if throttles is not None and (package,) not in seen:
            page.counter(
                "node_cpu_package_throttles_total",
                "Number of times this CPU package has been throttled.",
                throttles,
                {"package": package},
            )
        seen |= {(package, core), (package,)}


def cpufreq(files: Files, page: Page) -> None:
    """``node_cpu_frequency_*`` and ``node_cpu_scaling_*`` from sysfs, in hertz."""
    for name in files.names(_CPUS):
        if not name.startswith("cpu") or not name[3:].isdigit():
            continue
        folder, labels = f"{_CPUS}/{name}/cpufreq", {"cpu": name[3:]}
        governor = files.optional(f"{folder}/scaling_governor").strip()
        if not governor:
            continue
        for file, metric, help in _FREQUENCIES:
            if (kilohertz := files.number(f"{folder}/{file}")) is not None:
                page.gauge(metric, help, kilohertz * 1000, labels)
        for one in files.optional(f"{folder}/scaling_available_governors").split():
            page.gauge(
                "node_cpu_scaling_governor",
                "Current enabled CPU frequency governor.",
                float(one == governor),
                {**labels, "governor": one},
            )


def stat(files: Files, page: Page) -> None:
    """Switches, forks, interrupts, processes and the time of the boot, from /proc/stat."""
    for line in files.read("/proc/stat").splitlines():
        name, _, rest = line.partition(" ")
        if (known := _STAT.get(name)) is not None:
            kind, metric, help = known
            add = page.counter if kind == "counter" else page.gauge
            add(metric, help, int(rest.partition(" ")[0]))
