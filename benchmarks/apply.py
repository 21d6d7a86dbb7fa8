"""From `apply` at the hub to a running container, against Podman alone doing the same."""

import asyncio
import contextlib
import json
import os
import signal
import time
from typing import Any

import msgspec
import podman as podman_py

from benchmarks.measure import children, median
from benchmarks.report import Report
from benchmarks.scene import NODE, progress, scene
from edgeagent.cli.hubclient import HubClient
from edgeagent.cli.operatorfile import read_operator_file
from tests.support.cluster import AgentProcess, Cluster, sleeper
from tests.support.podman import PodmanService

RUNS = 10
COLD_RUNS = 5


def run() -> Report:
    """Measure, one after the other in turn, so that the machine's moods meet all alike."""
    report = Report("apply")
    with scene() as (cluster, node, podman):
        times = asyncio.run(_measure(cluster, node, podman))
    for name in ("apply_to_running_at_hub", "apply_to_running_at_hub_cold", "apply_to_container_started"):
        report.figures[f"{name}_s"] = median(times[name])
    report.baseline["podman_run_d_s"] = median(times["podman_run"])
    report.baseline["rest_create_start_s"] = median(times["rest"])
    report.ratio("running_at_hub_to_rest", "apply_to_running_at_hub_s", "rest_create_start_s")
    report.ratio("running_at_hub_to_podman_run", "apply_to_running_at_hub_s", "podman_run_d_s")
    report.ratio("cold_running_at_hub_to_rest", "apply_to_running_at_hub_cold_s", "rest_create_start_s")
    report.limit("running_at_hub_to_rest", 1.3)
    report.notes.append(
        "running_at_hub: from sending the apply call until an operator's watch shows the pod Running. "
        "cold: the runtime's worker process had ended and is started by the apply. Medians"
    )
    return report


async def _measure(cluster: Cluster, node: AgentProcess, podman: PodmanService) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {
        key: []
        for key in (
            "apply_to_running_at_hub",
            "apply_to_running_at_hub_cold",
            "apply_to_container_started",
            "podman_run",
            "rest",
        )
    }
    client = podman_py.PodmanClient(base_url=podman.url)
    operator = read_operator_file(cluster.hub_dir / "operator.json")
    async with HubClient(operator) as hub:
        await _one(hub, "warm-up")
        progress(f"{RUNS} rounds with a warm worker")
        for index in range(RUNS):
            wall, elapsed = await _one(hub, f"warm-{index}")
            times["apply_to_running_at_hub"].append(elapsed)
            times["apply_to_container_started"].append(
                await asyncio.to_thread(_started, podman, f"warm-{index}") - wall
            )
            times["podman_run"].append(await asyncio.to_thread(_podman_run, podman))
            times["rest"].append(await asyncio.to_thread(_rest, client, f"rest-{index}"))
        progress(f"{COLD_RUNS} rounds with a cold worker")
        for index in range(COLD_RUNS):
            for child in children(node.process.pid):
                os.kill(child, signal.SIGKILL)
            times["apply_to_running_at_hub_cold"].append((await _one(hub, f"cold-{index}"))[1])
    client.close()  # type: ignore[no-untyped-call]
    return times


async def _one(hub: HubClient, name: str) -> tuple[float, float]:
    """Apply one pod; the wall time it was sent, and the seconds until a watch shows it Running."""
    seen = asyncio.Event()
    watching = asyncio.Event()
    task = asyncio.create_task(_watch(hub, name, watching, seen))
    await watching.wait()
    wall, began = time.time(), time.perf_counter()
    await hub.apply([msgspec.Raw(json.dumps(sleeper(name, NODE)).encode())])
    await asyncio.wait_for(seen.wait(), 60)
    elapsed = time.perf_counter() - began
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return wall, elapsed


async def _watch(hub: HubClient, name: str, watching: asyncio.Event, seen: asyncio.Event) -> None:
    async with hub.watch("Pod", namespace="default", name=name) as events:
        watching.set()
        async for event in events:
            found: dict[str, Any] = json.loads(bytes(event.object))
            if found.get("status", {}).get("phase") == "Running":
                seen.set()
                return


def _started(podman: PodmanService, name: str) -> float:
    identity = podman.run("ps", "-q", "--filter", f"label=io.edgeagent.pod.name={name}").stdout.strip()
    return int(podman.run("inspect", "--format", "{{.State.StartedAt.UnixMicro}}", identity).stdout) / 1e6


def _podman_run(podman: PodmanService) -> float:
    began = time.perf_counter()
    podman.run("run", "-d", "--network", "host", "localhost/busybox:1", "sleep", "3600")
    return time.perf_counter() - began


def _rest(client: podman_py.PodmanClient, name: str) -> float:
    spec = {
        "image": "localhost/busybox:1",
        "name": name,
        "command": ["sleep", "3600"],
        "netns": {"nsmode": "host"},
    }
    began = time.perf_counter()
    made = client.api.post(
        "/containers/create", data=json.dumps(spec), headers={"Content-Type": "application/json"}
    )
    made.raise_for_status()
    client.api.post(f"/containers/{made.json()['Id']}/start").raise_for_status()
    return time.perf_counter() - began
