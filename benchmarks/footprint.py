"""Memory of the agent with 0 and 10 pods, of what runs beside it, and what each import brings.

All plugins are on, and the pods have networks of their own.
"""

import subprocess
import sys

from benchmarks.measure import memory, probe
from benchmarks.report import Report
from benchmarks.scene import apply_sleepers, dns_servers, progress, scene, wait_idle

IMPORTS = {
    "bare": "",
    "asyncio": "import asyncio",
    "asyncio_msgspec": "import asyncio, msgspec",
    "asyncio_msgspec_sqlite": "import asyncio, msgspec, sqlite3",
    "asyncio_msgspec_sqlite_pluggy": "import asyncio, msgspec, sqlite3, pluggy",
    "libraries_of_the_core": "import asyncio, msgspec, sqlite3, pluggy, paho.mqtt.client",
    "edgeagent_agent": "import edgeagent.cli.runner",
    "edgeagent_agent_and_signatures": "import edgeagent.cli.runner, edgeagent.wire.trust",
    "podman_py_for_comparison": "import podman",
}


def run() -> Report:
    """Measure."""
    report = Report("footprint")
    with scene(all_plugins=True) as (cluster, node, podman):
        wait_idle(node)
        for name, value in memory(node.process.pid).items():
            report.figures[f"{name}_0_pods_mb"] = value
        apply_sleepers(cluster, podman, host_network=False)
        wait_idle(node)
        for name, value in memory(node.process.pid).items():
            report.figures[f"{name}_10_pods_mb"] = value
        conmons = _pids_of("conmon", str(podman.directory))
        report.figures["conmon_10_pods_pss_mb"] = sum(memory(pid)["pss"] for pid in conmons)
        report.figures["dns_server_pss_mb"] = sum(memory(pid)["pss"] for pid in dns_servers(node))
        parts = ("pss_10_pods_mb", "conmon_10_pods_pss_mb", "dns_server_pss_mb")
        report.figures["whole_node_10_pods_pss_mb"] = sum(report.figures[part] for part in parts)
        report.figures["podman_service_while_it_runs_pss_mb"] = memory(podman.process.pid)["pss"]
    progress("measuring imports")
    for name, code in IMPORTS.items():
        found = probe(code, sys.executable)
        report.baseline[f"import_{name}_pss_mb"] = found["pss"]
        report.baseline[f"import_{name}_anonymous_mb"] = found["anonymous"]
    report.ratio("agent_10_pods_to_bare_python", "pss_10_pods_mb", "import_bare_pss_mb")
    report.ratio("agent_10_pods_to_its_libraries", "pss_10_pods_mb", "import_libraries_of_the_core_pss_mb")
    report.limit("pss_10_pods_mb", 36)
    report.limit("anonymous_10_pods_mb", 20)
    report.limit("whole_node_10_pods_pss_mb", 60)
    report.notes.append(
        "whole_node is agent + DNS server + one conmon a container; Podman's service is socket-activated in "
        "real life and gone while nothing happens, so it is given apart"
    )
    return report


def _pids_of(name: str, argument: str) -> list[int]:
    done = subprocess.run(["pgrep", "-f", f"{name}.*{argument}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]
