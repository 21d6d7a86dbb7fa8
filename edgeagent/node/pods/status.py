"""A pod's status in Kubernetes' own shape, from what is wanted, remembered and observed. Pure functions.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.objects.base import Condition
from edgeagent.api.objects.pod import (
    ContainerStateRunning,
    ContainerStateUnion,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Pod,
    PodIP,
    PodStatus,
)
from edgeagent.api.runtime import LABEL_SPEC_HASH, ContainerRecord
from edgeagent.node.pods.containers import (
    attempt_of,
    back_off_seconds,
    has_ended,
    restarts,
    runs_of,
    spec_hash,
)
from edgeagent.node.pods.plan import Slot, slots
from edgeagent.node.pods.qos import qos_class
from edgeagent.node.store.pods import ContainerHistory, PodRecord


class Problem(msgspec.Struct, frozen=True):
    """Why something waits: a CamelCase reason and a message for a person."""

    reason: str
    message: str


Judge = Callable[[Slot, ContainerRecord | None, ContainerHistory], bool]


class Observation(msgspec.Struct, frozen=True):
    """What a status is computed from. ``waiting`` by container name; ``refused`` concerns the whole pod.

    ``unprepared`` is what no container can be made without; ``trouble`` is told beside it, and changes no
    container's state. ``started`` and ``ready`` judge a running container.
    """

    pod: Pod
    record: PodRecord
    containers: Sequence[ContainerRecord]
    started: Judge
    ready: Judge
    waiting: Mapping[str, Problem] = msgspec.field(default_factory=dict)
    refused: Problem | None = None
    unprepared: Problem | None = None
    trouble: Problem | None = None
    host_ip: str = ""
    pod_ips: Sequence[str] = ()
    runtime_name: str = "podman"


def pod_status(seen: Observation, previous: PodStatus, now: float, *, today: float) -> PodStatus:
    """The status now; conditions keep their transition times where ``previous`` says the same.

    ``now`` is by the clock that back-offs are counted by, ``today`` the date, in seconds since the epoch.
    """
    places = list(slots(seen.pod.spec))
    statuses = {slot.name: _container_status(slot, seen, now) for slot in places}
    inits = [statuses[slot.name] for slot in places if slot.role != "main"]
    mains = [statuses[slot.name] for slot in places if slot.role == "main"]
    serving = [statuses[slot.name] for slot in places if slot.role != "init"]
    phase = seen.record.phase or _phase(mains, initialized=seen.record.initialized)
    ready = bool(serving) and all(status.ready for status in serving)
    said = seen.refused or (
        Problem(seen.record.reason, seen.record.message) if seen.record.reason else seen.trouble
    )
    return PodStatus(
        phase=phase,  # type: ignore[arg-type]
        conditions=_conditions(seen, phase, ready, serving, previous.conditions, today),
        reason=said.reason if said else "",
        message=said.message if said else "",
        host_ip=seen.host_ip,
        host_ips=[HostIP(ip=seen.host_ip)] if seen.host_ip else [],
        pod_ip=seen.pod_ips[0] if seen.pod_ips else "",
        pod_ips=[PodIP(ip=ip) for ip in seen.pod_ips],
        start_time=rfc3339(seen.record.start_time) if seen.record.start_time else "",
        qos_class=qos_class(seen.pod),
        init_container_statuses=inits,
        container_statuses=mains,
        observed_generation=seen.pod.metadata.generation,
    )


def _phase(mains: Sequence[ContainerStatus], *, initialized: bool) -> str:
    """Running once every container has been made and at least one has run; until then Pending."""
    begun = all(s.state.running or s.state.terminated or s.last_state.terminated for s in mains)
    return "Running" if initialized and mains and begun else "Pending"


def _container_status(slot: Slot, seen: Observation, now: float) -> ContainerStatus:
    runs = runs_of(slot.name, list(seen.containers))
    current = runs[0] if runs else None
    past = seen.record.containers.get(slot.name, ContainerHistory())
    history = _shown(past, seen.runtime_name)
    state = _state(slot, current, history, seen, now)
    last = ContainerStateUnion()
    if history.last is not None and state.terminated != history.last:
        last = ContainerStateUnion(terminated=history.last)
    runs_now = state.running is not None
    done = slot.role == "init" and state.terminated is not None and state.terminated.exit_code == 0
    return ContainerStatus(
        name=slot.name,
        state=state,
        last_state=last,
        ready=done or (runs_now and seen.ready(slot, current, past)),
        started=runs_now and seen.started(slot, current, past),
        restart_count=max(history.restart_count, attempt_of(current) if current else 0),
        image=slot.container.image,
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
    slot: Slot, current: ContainerRecord | None, history: ContainerHistory, seen: Observation, now: float
) -> ContainerStateUnion:
    if current is not None and current.state == "running":
        lifecycle = slot.container.lifecycle
        if lifecycle is not None and lifecycle.post_start is not None and history.hooked_id != current.id:
            # Kubernetes: not Running until the postStart hook has ended.
            return _waiting("ContainerCreating", "")
        started = rfc3339(current.started_at) if current.started_at else ""
        return ContainerStateUnion(running=ContainerStateRunning(started_at=started))
    refused = seen.refused if current is None else None  # what was begun goes on as it is
    if (problem := seen.waiting.get(slot.name) or refused) is not None:
        return _waiting(problem.reason, problem.message)
    over = current is None or has_ended(current, history)
    if history.last is not None and over and not (history.again and slot.role == "init"):
        if history.restart_at > now and not seen.record.phase and restarts(slot.policy, history):
            meta, delay = seen.pod.metadata, back_off_seconds(history)
            which = f"container={slot.name} pod={meta.name}_{meta.namespace}({meta.uid})"
            return _waiting("CrashLoopBackOff", f"back-off {delay:.0f}s restarting failed {which}")
        if seen.unprepared is None or not _is_run_again(slot, current, history, seen):
            return ContainerStateUnion(terminated=history.last)
    if seen.pod.spec.init_containers and not seen.record.initialized:
        return _waiting("PodInitializing", seen.unprepared.message if seen.unprepared else "")
    return _waiting("ContainerCreating", seen.unprepared.message if seen.unprepared else "")


def _is_run_again(
    slot: Slot, current: ContainerRecord | None, history: ContainerHistory, seen: Observation
) -> bool:
    """Whether a container that has ended waits to be made once more, changed or not."""
    if seen.record.phase:
        return False
    wanted = spec_hash(slot.container, seen.pod.spec)
    changed = current is not None and current.labels.get(LABEL_SPEC_HASH) != wanted
    return restarts(slot.policy, history) or (changed and slot.role != "init")


def _waiting(reason: str, message: str) -> ContainerStateUnion:
    return ContainerStateUnion(waiting=ContainerStateWaiting(reason=reason, message=message))


def _conditions(
    seen: Observation,
    phase: str,
    ready: bool,
    serving: Sequence[ContainerStatus],
    previous: Sequence[Condition],
    today: float,
) -> list[Condition]:
    unready = " ".join(status.name for status in serving if not status.ready)
    if phase == "Succeeded":
        not_ready = ("PodCompleted", "")
    elif phase == "Failed":
        not_ready = ("PodFailed", "")
    else:
        not_ready = ("ContainersNotReady", f"containers with unready status: [{unready}]")
    places = list(slots(seen.pod.spec))
    inits = " ".join(slot.name for slot in places if slot.role != "main")
    initialized = seen.record.initialized or not inits or phase == "Succeeded"
    incomplete = f"containers with incomplete status: [{inits}]"
    wanted = [
        (
            "Initialized",
            initialized,
            "ContainersNotInitialized",
            incomplete,
        ),
        ("Ready", ready, *not_ready),
        ("ContainersReady", ready, *not_ready),
        ("PodScheduled", True, "", ""),
    ]
    if seen.refused is not None:
        wanted.append(("Accepted", False, seen.refused.reason, seen.refused.message))
    before = {condition.type: condition for condition in previous}
    conditions = []
    for type_, good, reason, message in wanted:
        status = "True" if good else "False"
        old = before.get(type_)
        since = old.last_transition_time if old is not None and old.status == status else rfc3339(today)
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
