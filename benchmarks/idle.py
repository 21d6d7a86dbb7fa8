"""What a node with 10 pods costs while nothing happens: CPU, bytes on the wire, bytes to the disk.

All plugins are on, and the pods have networks of their own.
"""

import os
import threading
from pathlib import Path

from benchmarks.measure import cpu_seconds, wire_bytes, written_bytes
from benchmarks.report import Report
from benchmarks.scene import apply_sleepers, progress, scene, wait_idle
from tests.support.cluster import Cluster
from tests.support.proc import Process
from tests.support.waiting import wait_for

SECONDS = float(os.environ.get("BENCH_SECONDS", "240"))
DAY_MINUTES = 1440


def run() -> Report:
    """Measure over BENCH_SECONDS (default 240: two keep-alives)."""
    report = Report("idle")
    minutes = SECONDS / 60
    with scene(all_plugins=True) as (cluster, node, podman):
        apply_sleepers(cluster, podman, host_network=False)
        wait_idle(node)
        with _subscriber(cluster) as listener:
            wait_for(lambda: wire_bytes(listener.pid, cluster.port), 10, "mosquitto_sub to connect")
            subjects = {"agent": node.process.pid, "mosquitto_sub": listener.pid}
            before = {
                name: (cpu_seconds(pid), wire_bytes(pid, cluster.port), written_bytes(pid))
                for name, pid in subjects.items()
            }
            progress(f"watching for {SECONDS:.0f} s")
            threading.Event().wait(SECONDS)
            for name, pid in subjects.items():
                cpu, wire, disk = before[name]
                into = report.figures if name == "agent" else report.baseline
                into[f"{name}_cpu_seconds_a_minute"] = (cpu_seconds(pid) - cpu) / minutes
                into[f"{name}_wire_kb_a_minute"] = (wire_bytes(pid, cluster.port) - wire) / 1000 / minutes
                if name == "agent":
                    into["agent_disk_mb_a_day"] = (written_bytes(pid) - disk) / 1e6 / minutes * DAY_MINUTES
    report.ratio("wire_to_mosquitto_sub", "agent_wire_kb_a_minute", "mosquitto_sub_wire_kb_a_minute")
    report.limit("agent_cpu_seconds_a_minute", 0.03)
    report.limit("agent_wire_kb_a_minute", 0.2)
    report.limit("agent_disk_mb_a_day", 5)
    report.notes.append(
        "wire counts the bytes of the TCP stream both ways, TLS included, no TCP and IP headers; the "
        "baseline is mosquitto_sub with the same keep-alive and certificates. The slow resync (half-hourly) "
        "is not in the window"
    )
    return report


def _subscriber(cluster: Cluster) -> Process:
    """An idle client of the same broker, in C."""
    operator = cluster.hub_dir
    options = {
        "-V": "5",
        "-h": "127.0.0.1",
        "-p": str(cluster.port),
        "-k": "120",
        "-t": "edge/none",
        "--cafile": str(operator / "ca.crt"),
        "--cert": str(operator / "hub.crt"),
        "--key": str(operator / "hub.key"),
        "-i": "idle-baseline",
    }
    return Process(
        ["mosquitto_sub", *(part for option in options.items() for part in option)],
        log=Path(cluster.directory) / "mosquitto_sub.log",
    )
