"""A pod in one line of a table: how many of its containers are ready, its STATUS, its restarts.

The rules are those of kubectl's own printer, save that an evicted pod is always shown as ``Evicted``,
whatever its containers ended with.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import ContainerStateTerminated, ContainerStatus, Pod


@dataclass(frozen=True, slots=True)
class PodSummary:
    """What a table shows of a pod: containers ready and in all, STATUS, restarts and the time of the last."""

    ready: int
    total: int
    status: str
    restarts: int
    last_restart: str


def is_sidecar(container: Container) -> bool:
    """Whether an init container goes on running beside the others."""
    return container.restart_policy == "Always"


def summarise_pod(pod: Pod) -> PodSummary:
    """The READY, STATUS and RESTARTS columns.

    Sidecars count among the containers. While the pod initializes, the restarts are those of all its init
    containers, afterwards those of its sidecars and containers.
    """
    status, spec = pod.status, pod.spec
    sidecars = {container.name for container in spec.init_containers if is_sidecar(container)}
    beside = [one for one in status.init_container_statuses if one.name in sidecars]
    reason = status.reason or status.phase or "Pending"
    ready, initializing = _initialization(status.init_container_statuses, sidecars, len(spec.init_containers))
    counted = status.init_container_statuses
    if initializing:
        reason = initializing
    if not initializing or _holds(pod, "Initialized"):
        counted = [*beside, *status.container_statuses]
        running = sum(one.ready and one.state.running is not None for one in status.container_statuses)
        ready += running
        reason = next(filter(None, map(_reason, status.container_statuses)), reason)
        if reason == "Completed" and running:
            reason = "Running" if _holds(pod, "Ready") else "NotReady"
    if status.phase == "Failed" and status.reason == "Evicted":
        reason = "Evicted"
    if pod.metadata.deletion_timestamp:
        if status.reason == "NodeLost":
            reason = "Unknown"
        elif status.phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    ends = [one.last_state.terminated.finished_at for one in counted if one.last_state.terminated]
    return PodSummary(
        ready=ready,
        total=len(spec.containers) + len(sidecars),
        status=reason,
        restarts=sum(one.restart_count for one in counted),
        last_restart=max(ends, default=""),
    )


def _initialization(statuses: Iterable[ContainerStatus], sidecars: set[str], count: int) -> tuple[int, str]:
    """How many sidecars are ready, and what the first unfinished init container says; empty once all are."""
    ready = 0
    for index, one in enumerate(statuses):
        ended, waiting = one.state.terminated, one.state.waiting
        if ended is not None and ended.exit_code == 0:
            continue
        if one.name in sidecars and one.started:
            ready += one.ready
            continue
        if ended is not None:
            return ready, f"Init:{_end(ended)}"
        if waiting is not None and waiting.reason not in ("", "PodInitializing"):
            return ready, f"Init:{waiting.reason}"
        return ready, f"Init:{index}/{count}"
    return ready, ""


def _reason(container: ContainerStatus) -> str:
    if (waiting := container.state.waiting) is not None and waiting.reason:
        return waiting.reason
    return _end(container.state.terminated) if container.state.terminated is not None else ""


def _end(ended: ContainerStateTerminated) -> str:
    return ended.reason or f"ExitCode:{ended.exit_code}"


def _holds(pod: Pod, condition: str) -> bool:
    return any(one.type == condition and one.status == "True" for one in pod.status.conditions)
