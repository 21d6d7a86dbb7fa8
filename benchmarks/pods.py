"""Many pods applied at once on one node, against `podman run -d` in a loop, and what each costs the agent."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from benchmarks.measure import agent_containers, cpu_seconds, memory
from benchmarks.report import Report
from benchmarks.scene import NODE, PODS, apply_sleepers, progress, scene, wait_idle
from edgeagent.cli.hubclient import HubClient
from edgeagent.cli.operatorfile import read_operator_file
from edgeagent.wire.hubapi import WatchEvent
from tests.support.cluster import Cluster, sleeper
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

COUNT = int(os.environ.get("BENCH_PODS", "100"))
SECONDS = 600.0


def run() -> Report:
    """Measure with BENCH_PODS pods (default 100; more than 10), on a node that holds no others."""
    report = Report("pods")
    with scene() as (cluster, node, podman):
        first = _podman_runs(podman)
        pid = node.process.pid
        apply_sleepers(cluster, podman)
        wait_idle(node)
        few = memory(pid)
        cluster.ctl("delete", "pod", *(f"idle-{index}" for index in range(PODS)))
        wait_for(lambda: not agent_containers(podman, running=False), 60, "the few pods to be gone")
        progress(f"applying {COUNT} pods at once")
        cpu = cpu_seconds(pid)
        sent, elapsed = asyncio.run(_all_running(cluster))
        started = _last_start(podman) - sent
        wait_idle(node)
        cpu = cpu_seconds(pid) - cpu
        many = memory(pid)
        node.process.terminate()
        podman.kill_all_containers()
        second = _podman_runs(podman)
    report.figures["apply_to_all_running_at_hub_s"] = elapsed
    report.figures["apply_to_last_container_started_s"] = started
    report.figures["agent_cpu_a_pod_ms"] = cpu / COUNT * 1000
    report.figures[f"pss_{PODS}_pods_mb"] = few["pss"]
    report.figures[f"pss_{COUNT}_pods_mb"] = many["pss"]
    for name in ("pss", "anonymous"):
        report.figures[f"{name}_a_pod_kb"] = (many[name] - few[name]) * 1000 / (COUNT - PODS)
    report.baseline["podman_run_d_loop_s"] = (first + second) / 2
    report.ratio("all_running_to_podman_run", "apply_to_all_running_at_hub_s", "podman_run_d_loop_s")
    for name in ("pss", "anonymous"):
        report.limit(f"{name}_a_pod_kb", 40)
    report.notes += [
        f"{COUNT} pods of one container each, in one apply call, until an operator's watch has shown all of "
        "them Running; the baseline starts as many of the same container one after the other: the mean "
        "of a loop before and one after, on a Podman that holds no other containers",
        f"a pod's share of memory is the agent's alone, without workers: with {COUNT} pods less with {PODS}. "
        "PSS also moves, up to below nothing, with how many other processes share the interpreter's pages: "
        "on a machine that does anything else, anonymous is the figure to look at",
    ]
    return report


def _podman_runs(podman: PodmanService) -> float:
    """Seconds for ``podman run -d`` of COUNT containers, one after the other; they are removed again."""
    progress(f"podman run -d, {COUNT} times")
    began = time.perf_counter()
    for _ in range(COUNT):
        podman.run("run", "-d", "--network", "host", "localhost/busybox:1", "sleep", "3600")
    elapsed = time.perf_counter() - began
    podman.run("rm", "--force", "--all", "--time", "0", timeout=SECONDS)
    return elapsed


async def _all_running(cluster: Cluster) -> tuple[float, float]:
    """Apply COUNT pods; the wall time it was sent, and the seconds until a watch has shown all Running."""
    names = [f"many-{index}" for index in range(COUNT)]
    objects = [msgspec.Raw(json.dumps(sleeper(name, NODE)).encode()) for name in names]
    async with (
        HubClient(read_operator_file(cluster.hub_dir / "operator.json")) as hub,
        hub.watch("Pod", namespace="default") as events,
    ):
        wall, began = time.time(), time.perf_counter()
        seen = asyncio.create_task(_see_running(events, names))
        await hub.apply(objects)
        await asyncio.wait_for(seen, SECONDS)
        return wall, time.perf_counter() - began


async def _see_running(events: AsyncIterator[WatchEvent], names: Sequence[str]) -> None:
    missing = set(names)
    async for event in events:
        found: dict[str, Any] = json.loads(bytes(event.object))
        if found.get("status", {}).get("phase") == "Running":
            missing.discard(found["metadata"]["name"])
            if not missing:
                return
    raise AssertionError(f"the watch ended before {len(missing)} pods were Running")


def _last_start(podman: PodmanService) -> float:
    done = podman.run("inspect", "--format", "{{.State.StartedAt.UnixMicro}}", *agent_containers(podman))
    return max(int(line) for line in done.stdout.split()) / 1e6
