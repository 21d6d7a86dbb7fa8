"""What a scrape costs the agent of a node with 10 pods, beside Debian's node_exporter on the same machine.

All plugins are on, and the pods have networks of their own. Both are asked as Prometheus asks: for
OpenMetrics, with gzip. CPU is what the whole process took over SCRAPES of them, kernel included.
"""

import gzip
import http.client
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import cpu_seconds, median, memory
from benchmarks.report import Report
from benchmarks.scene import apply_sleepers, progress, scene, wait_idle
from tests.support.cluster import AgentProcess, Cluster
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for

SCRAPES = int(os.environ.get("BENCH_SCRAPES", "100"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "120"))
ROUNDS = 2
HEADERS = {
    "Accept": (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    ),
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
ON, OFF = "[plugins.metrics]\nenabled = true", "[plugins.metrics]\nenabled = false"


@dataclass(frozen=True)
class Page:
    """One answer: bytes on the wire, bytes of text, and samples."""

    wire: int
    text: int
    samples: int


def run() -> Report:
    """Measure SCRAPES scrapes (BENCH_SCRAPES, 100), and BENCH_SECONDS (120) without any."""
    report = Report("scrape")
    port = free_port()
    with scene(all_plugins=True, extra=f'{ON}\nlisten = "127.0.0.1:{port}"\n') as (cluster, node, podman):
        apply_sleepers(cluster, podman, host_network=False)
        _added_memory(report, cluster, node)
        progress(f"watching for {SECONDS:.0f} s")
        before = cpu_seconds(node.process.pid)
        threading.Event().wait(SECONDS)
        used = (cpu_seconds(node.process.pid) - before) * 60 / SECONDS
        report.figures["idle_cpu_seconds_a_minute"] = used
        _scrapes(report.figures, "agent", node.process.pid, port)
        wait_idle(node)
        after = memory(node.process.pid)["pss"]
        report.figures["added_pss_after_scrapes_mb"] = after - report.baseline["pss_without_the_plugin_mb"]
        with _Exporter(cluster.directory) as exporter:
            _scrapes(report.baseline, "node_exporter", exporter.process.pid, exporter.port)
            report.baseline["node_exporter_pss_mb"] = memory(exporter.process.pid)["pss"]
    report.ratio("cpu_to_node_exporter", "agent_scrape_cpu_ms", "node_exporter_scrape_cpu_ms")
    report.ratio("bytes_to_node_exporter", "agent_scrape_wire_kb", "node_exporter_scrape_wire_kb")
    report.limit("agent_scrape_cpu_ms", 15)
    report.limit("idle_cpu_seconds_a_minute", 0.03)
    report.notes.append(
        "the agent's page has the node, ten pods and the agent; node_exporter's has the node alone, with more"
        " of the network's statistics. wire is the body, compressed"
    )
    return report


def _added_memory(report: Report, cluster: Cluster, node: AgentProcess) -> None:
    """PSS with the plugin, which nobody has asked yet, and without it: the medians of a few restarts each."""
    found: dict[str, list[float]] = {OFF: [], ON: []}
    for _ in range(ROUNDS):
        for setting, values in found.items():
            text = node.config.read_text().replace(OFF, ON).replace(ON, setting)
            node.config.write_text(text)
            node.process.terminate()
            node.process.start()
            wait_for(
                lambda: "Ready" in cluster.ctl("get", "nodes").stdout.split(), 30, "the node to be Ready"
            )
            wait_idle(node)
            values.append(memory(node.process.pid)["pss"])
    report.baseline["pss_without_the_plugin_mb"] = median(found[OFF])
    report.figures["added_pss_idle_mb"] = median(found[ON]) - median(found[OFF])


def _scrapes(into: dict[str, float], name: str, pid: int, port: int) -> None:
    progress(f"scraping {name} {SCRAPES} times")
    for _ in range(3):
        page = _scrape(port)
    before = _process_cpu(pid)
    for _ in range(SCRAPES):
        page = _scrape(port)
    into[f"{name}_scrape_cpu_ms"] = (_process_cpu(pid) - before) * 1000 / SCRAPES
    into[f"{name}_scrape_wire_kb"] = page.wire / 1000
    into[f"{name}_scrape_text_kb"] = page.text / 1000
    into[f"{name}_samples"] = page.samples


def _scrape(port: int) -> Page:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers=HEADERS)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the answer was {answer.status}: {body[:200]!r}")
    text = gzip.decompress(body)
    samples = sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))
    return Page(len(body), len(text), samples)


def _process_cpu(pid: int) -> float:
    """Seconds, of threads that have ended too (proc_pid_stat(5)); in hundredths, so over many scrapes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Exporter:
    """A node_exporter as Debian has it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        argv = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{self.port}"]
        self.process = Process(argv, log=directory / "node_exporter.log")

    def __enter__(self) -> "_Exporter":
        self.process.start()
        self.process.wait_until(lambda: port_answers(self.port), what="listening")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
