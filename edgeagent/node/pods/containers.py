"""Decisions about one container: what to do next, and what its end means. Pure functions.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
"""

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.objects.container import Container, RestartPolicy
from edgeagent.api.objects.pod import ContainerStateTerminated, PodSpec
from edgeagent.api.objects.support import fields_of
from edgeagent.api.runtime import LABEL_ATTEMPT, LABEL_CONTAINER, LABEL_SPEC_HASH, ContainerRecord
from edgeagent.node.store.pods import ContainerHistory
from edgeagent.wire.canonical import canonical_json, digest

BACKOFF_FIRST_SECONDS = 10.0
BACKOFF_CEILING_SECONDS = 300.0
BACKOFF_RESET_SECONDS = 600.0
"""A container that ran this long without ending begins a new series (Kubernetes: ten minutes)."""

LOST_EXIT_CODE = 255
START_ERROR_EXIT_CODE = 128


class Create(msgspec.Struct, frozen=True):
    """Make run number ``attempt``."""

    attempt: int


class Start(msgspec.Struct, frozen=True):
    """Start the run that was made."""


class Replace(msgspec.Struct, frozen=True):
    """Stop the current run: its spec has changed."""


class WaitUntil(msgspec.Struct, frozen=True):
    """Back off until ``time`` (by the clock that is never set), then make the next run."""

    time: float


class Leave(msgspec.Struct, frozen=True):
    """Nothing to do: it runs, or it has ended and stays so (``finished``)."""

    finished: bool


Decision = Create | Start | Replace | WaitUntil | Leave


def spec_hash(container: Container, spec: PodSpec) -> str:
    """What tells whether a container must be replaced: everything of the spec that its creation uses.

    What is not set leaves no trace, so that a newer edgeagent with more fields replaces nothing.
    """
    mounted = {mount.name for mount in container.volume_mounts}
    around = msgspec.structs.replace(
        spec,
        containers=[],
        init_containers=[],
        volumes=[volume for volume in spec.volumes if volume.name in mounted],
        **{name: getattr(_NOTHING, name) for name in _NOT_CONTAINERS},
    )
    parts: list[object] = [container, spec.host_network]
    return digest(canonical_json(parts if around == _NOTHING else [*parts, around]))[:16]


_NOTHING = PodSpec(containers=[])
_NOT_CONTAINERS = (
    "node_name", "restart_policy", "termination_grace_period_seconds", "active_deadline_seconds",
    "host_network", "image_pull_secrets", "priority", "priority_class_name", "service_account_name", "os",
    "host_users",
    *(field.name for field in fields_of(PodSpec) if field.support != "works"),
)  # fmt: skip
"""The fields of a PodSpec that change nothing in a container that has been made."""


def attempt_of(record: ContainerRecord) -> int:
    """Which run of its container this is, from its label; 0 where the label is broken."""
    text = record.labels.get(LABEL_ATTEMPT, "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def runs_of(name: str, records: list[ContainerRecord]) -> list[ContainerRecord]:
    """All runs of one container of a pod, the newest first."""
    runs = [record for record in records if record.labels.get(LABEL_CONTAINER) == name]
    return sorted(runs, key=attempt_of, reverse=True)


def has_ended(current: ContainerRecord, history: ContainerHistory) -> bool:
    """Whether the run is over. A run that was started and is merely ``created`` was lost to a reboot."""
    if current.state == "created":
        return current.started_at > 0 or current.id in (history.started_id, history.ended_id)
    return current.state in ("exited", "unknown")


def decide(
    current: ContainerRecord | None,
    history: ContainerHistory,
    wanted_hash: str,
    policy: RestartPolicy,
    now: float,
) -> Decision:
    """The next step for a container whose newest run is ``current``, once its end has been noted."""
    if current is None:
        if history.last is not None and not restarts(policy, history):
            return Leave(finished=True)
        return _again(history, now)
    changed = current.labels.get(LABEL_SPEC_HASH) != wanted_hash
    if not has_ended(current, history):
        if changed:
            return Replace()
        return Start() if current.state == "created" else Leave(finished=False)
    if changed:
        return Create(max(history.restart_count, attempt_of(current)) + 1)
    if history.last is not None and not restarts(policy, history):
        return Leave(finished=True)
    if _backs_off(history, now):
        return WaitUntil(history.restart_at)
    return Create(max(history.restart_count, attempt_of(current)) + 1)


def _again(history: ContainerHistory, now: float) -> Decision:
    if _backs_off(history, now):
        return WaitUntil(history.restart_at)
    ran_before = history.last is not None or bool(history.started_id)
    return Create(history.restart_count + 1 if ran_before else history.restart_count)


def _backs_off(history: ContainerHistory, now: float) -> bool:
    # A time further away than any back-off was noted by another clock: it is not waited for.
    return now < history.restart_at <= now + BACKOFF_CEILING_SECONDS


def back_off_seconds(history: ContainerHistory) -> float:
    """How long the present back-off is as a whole, 0 for none."""
    if history.crashes < 2:
        return 0.0
    return min(BACKOFF_CEILING_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(history.crashes - 2, 20))


def restarts(policy: RestartPolicy, history: ContainerHistory) -> bool:
    """Whether a container that has ended is run again."""
    failed = history.last is not None and history.last.exit_code != 0
    return history.again or policy == "Always" or (policy == "OnFailure" and failed)


def note_end(
    current: ContainerRecord, history: ContainerHistory, now: float, *, today: float
) -> ContainerHistory:
    """The history with the end of ``current`` in it; noted once, however often it is asked.

    ``now`` is by the clock that back-offs are counted by, ``today`` the date, in seconds since the epoch.
    """
    if history.ended_id == current.id or not has_ended(current, history):
        return history
    return _ended(current.id, terminated_state(current, today), history, now)


def note_seen(
    current: ContainerRecord | None, history: ContainerHistory, now: float, *, today: float
) -> ContainerHistory:
    """The history with all that ``current`` tells: a run unknown to the records, its end, or its loss."""
    if current is None:
        if history.started_id in ("", history.ended_id):
            return history
        return _ended(history.started_id, _lost(history.started_id, 0, today), history, now)
    began = current.state != "created" or current.started_at > 0
    if began and current.id not in (history.started_id, history.ended_id):
        count = max(history.restart_count, attempt_of(current))
        history = msgspec.structs.replace(history, started_id=current.id, started_at=now, restart_count=count)
    return note_end(current, history, now, today=today)


def note_start_error(
    current: ContainerRecord, message: str, history: ContainerHistory, now: float, *, today: float
) -> ContainerHistory:
    """The history of a container whose command could not be executed."""
    state = ContainerStateTerminated(
        exit_code=START_ERROR_EXIT_CODE, reason="StartError", message=message, finished_at=rfc3339(today),
        container_id=current.id,
    )  # fmt: skip
    return _ended(current.id, state, history, now)


def note_stopped(current: ContainerRecord, history: ContainerHistory, *, today: float) -> ContainerHistory:
    """The history after the node itself stopped a run to replace it: no crash, so no back-off."""
    return msgspec.structs.replace(
        history, ended_id=current.id, last=terminated_state(current, today), crashes=0, restart_at=0.0
    )


def _ended(
    run: str, state: ContainerStateTerminated, history: ContainerHistory, now: float
) -> ContainerHistory:
    crashes = history.crashes
    ran_for = now - history.started_at if history.started_id == run and history.started_at else 0.0
    if ran_for >= BACKOFF_RESET_SECONDS:
        crashes = 0
    delay = (
        0.0
        if crashes == 0
        else min(BACKOFF_CEILING_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(crashes - 1, 20))
    )
    return msgspec.structs.replace(
        history, ended_id=run, last=state, crashes=crashes + 1, restart_at=now + delay if delay else 0.0
    )


def terminated_state(current: ContainerRecord, today: float) -> ContainerStateTerminated:
    """The end of a run as Kubernetes shows it. What the runtime dates is dated by the machine's own clock."""
    if current.state != "exited":
        return _lost(current.id, current.started_at, today)
    reason = "OOMKilled" if current.oom_killed else "Completed" if current.exit_code == 0 else "Error"
    return ContainerStateTerminated(
        exit_code=current.exit_code,
        reason=reason,
        message=current.error,
        started_at=rfc3339(current.started_at) if current.started_at else "",
        finished_at=rfc3339(current.finished_at or today),
        container_id=current.id,
    )


def _lost(run: str, started_at: float, today: float) -> ContainerStateTerminated:
    return ContainerStateTerminated(
        exit_code=LOST_EXIT_CODE,
        reason="ContainerStatusUnknown",
        message="the run was lost: the machine restarted, or the container was removed from outside",
        started_at=rfc3339(started_at) if started_at else "",
        finished_at=rfc3339(today),
        container_id=run,
    )
