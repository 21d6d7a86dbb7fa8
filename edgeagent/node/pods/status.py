"""A pod's status in Kubernetes' own shape, from what is wanted, remembered and observed. Pure functions.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.objects.base import Condition
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import (
    ContainerStateRunning,
    ContainerStateUnion,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodIP,
    PodStatus,
)
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.pods.containers import attempt_of, back_off_seconds, has_ended, runs_of
from edgeagent.node.store.pods import ContainerHistory, PodRecord


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something waits: a CamelCase reason and a message for a person."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a status is computed from. ``waiting`` by container name; ``refused`` concerns the whole pod.

    ``trouble`` is told beside it, and changes no container's state.
    """

    pod: Pod
    record: PodRecord
    containers: Sequence[ContainerRecord]
    waiting: Mapping[str, Problem] = field(default_factory=dict)
    refused: Problem | None = None
    trouble: Problem | None = None
    host_ip: str = ""
    pod_ips: Sequence[str] = ()
    runtime_name: str = "podman"


def pod_status(seen: Observation, previous: PodStatus, now: float) -> PodStatus:
    """The status now; conditions keep their transition times where ``previous`` says the same."""
    statuses = [_container_status(container, seen, now) for container in seen.pod.spec.containers]
    phase = seen.record.phase or _phase(seen.pod, statuses)
    ready = bool(statuses) and all(status.ready for status in statuses)
    ips = list(seen.pod_ips) or ([seen.host_ip] if seen.host_ip and seen.pod.spec.host_network else [])
    said = seen.refused or seen.trouble
    return PodStatus(
        phase=phase,  # type: ignore[arg-type]
        conditions=_conditions(phase, ready, statuses, previous.conditions, now),
        reason=said.reason if said else "",
        message=said.message if said else "",
        host_ip=seen.host_ip,
        pod_ip=ips[0] if ips else "",
        pod_ips=[PodIP(ip=ip) for ip in ips],
        start_time=rfc3339(seen.record.start_time) if seen.record.start_time else "",
        container_statuses=statuses,
        observed_generation=seen.pod.metadata.generation,
    )


def final_phase(pod: Pod, histories: Mapping[str, ContainerHistory]) -> str:
    """``Succeeded`` or ``Failed`` once every container has ended for good, else empty."""
    ends = [histories[c.name].last for c in pod.spec.containers if c.name in histories]
    codes = [end.exit_code for end in ends if end is not None]
    if pod.spec.restart_policy == "Always" or len(codes) < len(pod.spec.containers):
        return ""
    if pod.spec.restart_policy == "OnFailure":
        return "" if any(codes) else "Succeeded"
    return "Failed" if any(codes) else "Succeeded"


def _phase(pod: Pod, statuses: Sequence[ContainerStatus]) -> str:
    """Running once every container has been made and at least one has run; until then Pending."""
    if statuses and all(s.state.running or s.state.terminated or s.last_state.terminated for s in statuses):
        return "Running"
    return "Pending"


def _container_status(container: Container, seen: Observation, now: float) -> ContainerStatus:
    runs = runs_of(container.name, list(seen.containers))
    current = runs[0] if runs else None
    history = _shown(seen.record.containers.get(container.name, ContainerHistory()), seen.runtime_name)
    problem = seen.waiting.get(container.name) or seen.refused
    state = _state(container.name, current, history, problem, seen.pod, now)
    last = ContainerStateUnion()
    if history.last is not None and state.terminated != history.last:
        last = ContainerStateUnion(terminated=history.last)
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=last,
        ready=state.running is not None,
        started=state.running is not None,
        restart_count=max(history.restart_count, attempt_of(current) if current else 0),
        image=container.image,
        image_id=current.image_id if current else "",
        container_id=f"{seen.runtime_name}://{current.id}" if current else "",
    )


def _shown(history: ContainerHistory, runtime_name: str) -> ContainerHistory:
    """The history with the ended run's id as Kubernetes writes it, the runtime's name before it."""
    if history.last is None or not history.last.container_id:
        return history
    last = msgspec.structs.replace(history.last, container_id=f"{runtime_name}://{history.last.container_id}")
    return msgspec.structs.replace(history, last=last)


def _state(
    name: str,
    current: ContainerRecord | None,
    history: ContainerHistory,
    problem: Problem | None,
    pod: Pod,
    now: float,
) -> ContainerStateUnion:
    if current is not None and current.state == "running":
        started = rfc3339(current.started_at) if current.started_at else ""
        return ContainerStateUnion(running=ContainerStateRunning(started_at=started))
    if problem is not None:
        return ContainerStateUnion(
            waiting=ContainerStateWaiting(reason=problem.reason, message=problem.message)
        )
    over = current is None or has_ended(current, history)
    if history.last is not None and over:
        if history.restart_at > now and final_phase(pod, {}) == "" and _will_restart(pod, history):
            meta, delay = pod.metadata, back_off_seconds(history)
            which = f"container={name} pod={meta.name}_{meta.namespace}({meta.uid})"
            message = f"back-off {delay:.0f}s restarting failed {which}"
            return ContainerStateUnion(
                waiting=ContainerStateWaiting(reason="CrashLoopBackOff", message=message)
            )
        return ContainerStateUnion(terminated=history.last)
    return ContainerStateUnion(waiting=ContainerStateWaiting(reason="ContainerCreating"))


def _will_restart(pod: Pod, history: ContainerHistory) -> bool:
    policy = pod.spec.restart_policy
    failed = history.last is not None and history.last.exit_code != 0
    return policy == "Always" or (policy == "OnFailure" and failed)


def _conditions(
    phase: str, ready: bool, statuses: Sequence[ContainerStatus], previous: Sequence[Condition], now: float
) -> list[Condition]:
    unready = [status.name for status in statuses if not status.ready]
    if phase == "Succeeded":
        not_ready = ("PodCompleted", "")
    else:
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    wanted = [
        ("Initialized", True, "", ""),
        ("Ready", ready, *not_ready),
        ("ContainersReady", ready, *not_ready),
        ("PodScheduled", True, "", ""),
    ]
    before = {condition.type: condition for condition in previous}
    conditions = []
    for type_, good, reason, message in wanted:
        status = "True" if good else "False"
        old = before.get(type_)
        since = old.last_transition_time if old is not None and old.status == status else rfc3339(now)
        conditions.append(
            Condition(
                type=type_,
                status=status,
                reason="" if good else reason,
                message="" if good else message,
                last_transition_time=since,
            )
        )
    return conditions
