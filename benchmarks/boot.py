"""A cold boot with no network: from starting the agent until 10 stored pods run, against `podman start`."""

import contextlib
import sqlite3
import time

from benchmarks.measure import agent_containers, median
from benchmarks.report import Report
from benchmarks.scene import PODS, apply_sleepers, progress, scene
from tests.support.cluster import AgentProcess
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

RUNS = 5


def run() -> Report:
    """Measure. The broker is stopped for good before the first boot."""
    report = Report("boot")
    boots: list[float] = []
    firsts: list[float] = []
    baseline: list[float] = []
    with scene() as (cluster, node, podman):
        apply_sleepers(cluster, podman)
        plain = [
            podman.run("create", "--network", "host", "localhost/busybox:1", "sleep", "3600").stdout.strip()
            for _ in range(PODS)
        ]
        cluster.broker.terminate()
        progress(f"{RUNS} boots")
        for _ in range(RUNS):
            baseline.append(_podman_start(podman, plain))
            first, last = _boot(node, podman)
            firsts.append(first)
            boots.append(last)
    report.figures["agent_start_to_10_pods_running_s"] = median(boots)
    report.figures["agent_start_to_first_pod_running_s"] = median(firsts)
    report.baseline["podman_start_10_s"] = median(baseline)
    report.ratio("boot_to_podman_start", "agent_start_to_10_pods_running_s", "podman_start_10_s")
    report.limit("boot_to_podman_start", 1.5)
    report.notes.append(
        "before each boot every container is killed while no agent runs; running is Podman's own start time "
        "of each container. Medians of whole processes, the interpreter's start included"
    )
    return report


def _boot(node: AgentProcess, podman: PodmanService) -> tuple[float, float]:
    node.process.terminate()
    running = agent_containers(podman)
    if running:
        podman.run("kill", *running)
    wait_for(lambda: not agent_containers(podman), 30, "all containers to be dead")
    # What tells the agent that the machine, not the containers, went down.
    with contextlib.closing(sqlite3.connect(node.directory / "state" / "agent.db")) as store, store:
        store.execute("UPDATE meta SET value = 'the boot before' WHERE key = 'boot_id'")
    began = time.time()
    node.process.start()
    wait_for(lambda: len(agent_containers(podman)) == PODS, 60, "all pods to run", interval=0.25)
    times = _started(podman)
    return min(times) - began, max(times) - began


def _started(podman: PodmanService) -> list[float]:
    """When each running container of the agent was started, to the microsecond."""
    done = podman.run("inspect", "--format", "{{.State.StartedAt.UnixMicro}}", *agent_containers(podman))
    return [int(line) / 1e6 for line in done.stdout.split()]


def _podman_start(podman: PodmanService, ids: list[str]) -> float:
    podman.run("kill", *ids, check=False)
    wait_for(
        lambda: not podman.run("ps", "-q", "--filter", f"id={ids[0]}").stdout.strip(),
        30,
        "the plain ones to end",
    )
    began = time.perf_counter()
    podman.run("start", *ids)
    return time.perf_counter() - began
