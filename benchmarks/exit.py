"""From the end of a container's process to the beginning, and the end, of its restart."""

import json
import os
import signal
import time

from benchmarks.measure import agent_containers, children, median
from benchmarks.report import Report
from benchmarks.scene import PODS, apply_sleepers, progress, scene
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for


def run() -> Report:
    """Measure: each of 10 pods is killed once, for a second kill would meet the back-off."""
    report = Report("exit")
    begun: dict[str, list[float]] = {"warm": [], "cold": []}
    running: dict[str, list[float]] = {"warm": [], "cold": []}
    with scene() as (cluster, node, podman):
        for kind in ("warm", "cold"):
            apply_sleepers(cluster, podman, PODS, kind)
            progress(f"killing {PODS} containers, {kind}")
            for identity in [c for c in agent_containers(podman) if _name(podman, c).startswith(kind)]:
                if kind == "cold":
                    for child in children(node.process.pid):
                        os.kill(child, signal.SIGKILL)
                created, started = _kill_and_time(podman, identity)
                begun[kind].append(created)
                running[kind].append(started)
        progress("letting Podman restart its own")
        alone = [_podman_alone(podman) for _ in range(5)]
    for kind in ("warm", "cold"):
        report.figures[f"exit_to_restart_begun_{kind}_ms"] = median(begun[kind]) * 1000
        report.figures[f"exit_to_running_again_{kind}_ms"] = median(running[kind]) * 1000
    report.baseline["podman_restart_always_ms"] = median(alone) * 1000
    report.ratio("running_again_warm_to_podman", "exit_to_running_again_warm_ms", "podman_restart_always_ms")
    report.limit("exit_to_restart_begun_warm_ms", 50)
    report.limit("exit_to_restart_begun_cold_ms", 50)
    report.notes.append(
        "restart begun: Podman's own creation time of the new container; the baseline is Podman's restart "
        "policy `always` for the same container. cold: the runtime's worker process had ended. Medians"
    )
    return report


def _name(podman: PodmanService, identity: str) -> str:
    return podman.run(
        "inspect", "--format", '{{index .Config.Labels "io.edgeagent.pod.name"}}', identity
    ).stdout.strip()


def _kill_and_time(podman: PodmanService, identity: str) -> tuple[float, float]:
    [found] = json.loads(podman.run("inspect", identity).stdout)
    labels = found["Config"]["Labels"]
    uid, attempt = labels["io.edgeagent.pod.uid"], int(labels["io.edgeagent.attempt"])
    killed = time.time()
    os.kill(found["State"]["Pid"], signal.SIGKILL)

    def successor() -> str:
        arguments = [
            "--filter",
            f"label=io.edgeagent.pod.uid={uid}",
            "--filter",
            f"label=io.edgeagent.attempt={attempt + 1}",
        ]
        return podman.run("ps", "-q", "--no-trunc", *arguments).stdout.strip()

    new = wait_for(successor, 30, "the container to be restarted", interval=0.1)
    times = podman.run(
        "inspect", "--format", "{{.Created.UnixMicro}} {{.State.StartedAt.UnixMicro}}", new
    ).stdout.split()
    return int(times[0]) / 1e6 - killed, int(times[1]) / 1e6 - killed


def _podman_alone(podman: PodmanService) -> float:
    """Podman's own restart of a container with ``--restart=always``."""
    arguments = ["run", "-d", "--restart=always", "--network", "host", "localhost/busybox:1", "sleep", "3600"]
    identity = podman.run(*arguments).stdout.strip()
    show = ["inspect", "--format", "{{.State.Pid}} {{.State.StartedAt.UnixMicro}}", identity]
    pid, before = podman.run(*show).stdout.split()
    killed = time.time()
    os.kill(int(pid), signal.SIGKILL)

    def restarted() -> str:
        now = podman.run(*show).stdout.split()
        return now[1] if now[1] != before and now[0] != "0" else ""

    started = int(wait_for(restarted, 30, "Podman to restart the container", interval=0.1)) / 1e6
    podman.run("rm", "-f", "-t", "0", identity)
    return started - killed
