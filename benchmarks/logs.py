"""What following logs costs: a line from the file to the spool, and a node of ten pods that say nothing.

The way of a line is that of the agent: the plugin's source with its rules, and the core's spool. Beside it
``tail -F | gzip`` reads the same file. MB/s per core is bytes of the log by CPU seconds, of all processes.
"""

import os
import resource
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import cpu_seconds, median, memory
from benchmarks.report import Report
from benchmarks.scene import apply_sleepers, progress, scene, wait_idle
from tests.support.cluster import AgentProcess, Cluster
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.waiting import wait_for

SECONDS = float(os.environ.get("BENCH_SECONDS", "120"))
LINES = int(os.environ.get("BENCH_LINES", "400000"))
ROUNDS = 3
RESTARTS = 2
KINDS = ("plain", "json")
ON, OFF = "[plugins.logs]\nenabled = true", "[plugins.logs]\nenabled = false"
SINK = """
[plugins.logs.journal]
agent = ""
[[plugins.logs.sinks]]
type = "elasticsearch"
name = "es"
url = "{url}"
"""

FOLLOW = """
import sys, zlib
from pathlib import Path
from edgeagent.api.logs import LogOrigin, LogTarget
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.logchunks import pack
from edgeagent_logs.config import JournalConfig, LogsConfig, RateConfig
from edgeagent_logs.source import NodeLogs

log, folder, lines = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
spool = Spool(folder / "telemetry.db", {"logs": 32 << 20, "metrics": 1 << 20}, boot_id="bench", now=0.0)
rate = RateConfig(lines_per_second=1_000_000, bytes_per_second=1_000_000_000, burst_seconds=3600)
source = NodeLogs(LogsConfig(rate=rate, journal=JournalConfig(agent="")))
source.resume({})
source.reconcile([LogTarget(origin=LogOrigin(container_id="c1"), path=str(log))])
read = 0
while read < lines:
    chunk = source.read(5.0)
    count = len(chunk.batch.records)
    if not count:
        sys.exit(f"{read} lines came")
    read += count
    spool.append("logs", pack(chunk.batch), count, 0.0, source="logs", positions=chunk.positions)
spool.close()
source.close()
"""


def run() -> Report:
    """Measure LINES lines (BENCH_LINES, 400,000) of two kinds, and BENCH_SECONDS (120) of silence."""
    report = Report("logs")
    with (
        ElasticsearchReceiver() as receiver,
        scene(all_plugins=True, extra=f"{ON}\n{SINK.format(url=receiver.url)}") as (cluster, node, podman),
    ):
        for kind in KINDS:
            _throughput(report, kind, cluster.directory)
        apply_sleepers(cluster, podman, host_network=False)
        _added_memory(report, cluster, node)
        progress(f"watching for {SECONDS:.0f} s")
        before = cpu_seconds(node.process.pid)
        threading.Event().wait(SECONDS)
        used = (cpu_seconds(node.process.pid) - before) * 60 / SECONDS
        report.figures["idle_cpu_seconds_a_minute"] = used
    report.limit("idle_cpu_seconds_a_minute", 0.03)
    report.notes.append(
        f"{LINES} lines of 60 to 120 characters beside the runtime's prefix. The agent's way includes a"
        " severity, JSON where there is some, joining, compression and the spool's transactions; gzip's is"
        " compression alone. CPU of both grows with what else the machine does"
    )
    return report


def _throughput(report: Report, kind: str, directory: Path) -> None:
    """MB/s per core of each way, the median of ROUNDS, one after the other."""
    log = directory / f"{kind}.log"
    log.write_bytes(b"".join(_line(kind, number) for number in range(LINES)))
    megabytes = log.stat().st_size / 1e6
    found: dict[str, list[float]] = {"edgeagent": [], "tail_gzip": []}
    for number in range(ROUNDS):
        progress(f"reading {megabytes:.0f} MB of {kind} lines, {number + 1} of {ROUNDS}")
        folder = directory / f"{kind}-{number}"
        folder.mkdir()
        argv = [sys.executable, "-c", FOLLOW, str(log), str(folder), str(LINES)]
        found["edgeagent"].append(megabytes / _cpu_of(argv))
        found["tail_gzip"].append(megabytes / _cpu_of_tail(log))
    report.figures[f"{kind}_mb_a_second_a_core"] = median(found["edgeagent"])
    report.baseline[f"{kind}_tail_gzip_mb_a_second_a_core"] = median(found["tail_gzip"])
    report.ratio(f"{kind}_to_tail_gzip", f"{kind}_mb_a_second_a_core", f"{kind}_tail_gzip_mb_a_second_a_core")


def _line(kind: str, number: int) -> bytes:
    at = datetime.fromtimestamp(1_700_000_000 + number // 1000, UTC)
    prefix = f"{at:%Y-%m-%dT%H:%M:%S}.{number % 1000:03d}000000+00:00 stdout F "
    if kind == "json":
        text = (
            f'{{"ts":{1_700_000_000 + number / 1000:.3f},"level":"info","msg":"request {number} served",'
            f'"path":"/api/v1/things/{number * 7919 % 100_003}","status":200,"ms":{number % 97}}}'
        )
    else:
        text = (
            f"INFO  [worker-{number % 8}] request {number} /api/v1/things/{number * 7919 % 100_003} "
            f"served in {number % 97} ms"
        )
    return f"{prefix}{text}\n".encode()


def _cpu_of(argv: list[str]) -> float:
    before = _children_cpu()
    subprocess.run(argv, check=True, timeout=600)
    return _children_cpu() - before


def _cpu_of_tail(log: Path) -> float:
    """``tail -F`` ends once a process that it is told of has, when it has read all there is."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    before = _children_cpu()
    with subprocess.Popen(
        ["tail", "-n", "+1", "-F", f"--pid={gone.pid}", str(log)], stdout=subprocess.PIPE
    ) as tail:
        subprocess.run(["gzip", "-c"], stdin=tail.stdout, stdout=subprocess.DEVNULL, check=True, timeout=600)
    return _children_cpu() - before


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _added_memory(report: Report, cluster: Cluster, node: AgentProcess) -> None:
    """PSS with the plugin, which follows ten logs, and without it: the medians of a few restarts each."""
    found: dict[str, list[float]] = {OFF: [], ON: []}
    for _ in range(RESTARTS):
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
    report.figures["added_pss_mb"] = median(found[ON]) - median(found[OFF])
