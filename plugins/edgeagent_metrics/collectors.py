"""NodeMetrics: what this plugin itself knows, collector by collector, each able to fail by itself."""

import logging
import re
import time
from collections.abc import Callable, Mapping

from edgeagent.api.metrics import MetricFamily
from edgeagent.api.usage import NodeUsage
from edgeagent_metrics.config import MetricsConfig
from edgeagent_metrics.containers import containers, kubelet
from edgeagent_metrics.machine import machine
from edgeagent_metrics.node import cpu, disks, heat, memory, network, system
from edgeagent_metrics.node.files import Files
from edgeagent_metrics.page import Page

log = logging.getLogger(__name__)

Collect = Callable[[Files, Page], None]
_OF_USAGE = {"containers": containers, "kubelet": kubelet}


class NodeMetrics:
    """``edgeagent.api.metrics.Collectors``. ``root``: where files begin; ``now``: the time of day."""

    def __init__(
        self, config: MetricsConfig, *, root: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self._files = Files(root)
        self._collect = {
            name: collect
            for name, collect in _of_the_machine(config, now).items()
            if name not in config.collectors_off
        }
        self._of_usage = {
            name: collect for name, collect in _OF_USAGE.items() if name not in config.collectors_off
        }
        self._failing: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """The collectors that are on."""
        return [*self._of_usage, *self._collect]

    def collect(self, usage: NodeUsage) -> list[MetricFamily]:
        """All of them; what one could not read is missing, and ``node_scrape_collector_success`` says so."""
        page = Page()
        for name, of_usage in self._of_usage.items():
            self._run(page, name, lambda into, run=of_usage: run(usage, into))  # type: ignore[misc]
        for name, collect in self._collect.items():
            self._run(page, name, lambda into, run=collect: run(self._files, into))  # type: ignore[misc]
        return page.families()

    def _run(self, page: Page, name: str, collect: Callable[[Page], None]) -> None:
        began = time.perf_counter()
        problem = ""
        try:
            collect(page)
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem and self._failing.get(name) != problem:
            log.warning("the collector %s failed: %s", name, problem)
        self._failing[name] = problem
        labels = {"collector": name}
        page.gauge(
            "node_scrape_collector_duration_seconds",
            "node_exporter: Duration of a collector scrape.",
            time.perf_counter() - began,
            labels,
        )
        page.gauge(
            "node_scrape_collector_success",
            "node_exporter: Whether a collector succeeded.",
            float(not problem),
            labels,
        )


def _of_the_machine(config: MetricsConfig, now: Callable[[], float]) -> Mapping[str, Collect]:
    devices = re.compile(config.network_devices_ignored)
    return {
        "conntrack": network.conntrack,
        "cpu": cpu.cpu,
        "cpufreq": cpu.cpufreq,
        "diskstats": disks.diskstats(re.compile(config.disk_devices_ignored)),
        "filefd": system.filefd,
        "filesystem": disks.filesystem(
            re.compile(config.mount_points_ignored), re.compile(config.filesystem_types_ignored)
        ),
        "hwmon": heat.hwmon,
        "loadavg": system.loadavg,
        "machine": machine,
        "meminfo": memory.meminfo,
        "netclass": network.netclass(devices),
        "netdev": network.netdev(devices),
        "os": system.os_release,
        "pressure": memory.pressure,
        "stat": cpu.stat,
        "thermal_zone": heat.thermal_zone,
        "time": system.time(now),
        "uname": system.uname,
        "vmstat": memory.vmstat,
    }
