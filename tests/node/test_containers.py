"""Decisions about one container: Kubernetes' restart policies and back-off, as pure functions."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.container import RestartPolicy
from edgeagent.api.runtime import LABEL_ATTEMPT, LABEL_CONTAINER, LABEL_SPEC_HASH, ContainerRecord
from edgeagent.node.pods import containers as decisions
from edgeagent.node.pods.containers import Create, Leave, Start, WaitUntil
from edgeagent.node.store.pods import ContainerHistory

NOW = 1_800_000_000.0


def run_of(attempt: int, state: str, **more: object) -> ContainerRecord:
    labels = {LABEL_CONTAINER: "main", LABEL_ATTEMPT: str(attempt), LABEL_SPEC_HASH: "h"}
    record = ContainerRecord(id=f"c{attempt}", name="n", image="i", labels=labels, state="created")
    return msgspec.structs.replace(record, state=state, **more)


def crash(
    history: ContainerHistory, attempt: int, started: float, ended: float, code: int = 1
) -> ContainerHistory:
    run = run_of(attempt, "exited", exit_code=code, started_at=started, finished_at=ended)
    if history.started_id != run.id:
        history = msgspec.structs.replace(history, started_id=run.id, started_at=started)
    return decisions.note_end(run, history, ended, today=ended)


def test_the_documented_back_off() -> None:
    """10 s, 20 s, 40 s, … capped at five minutes, after a first restart at once."""
    history, now, delays = ContainerHistory(), NOW, []
    for attempt in range(9):
        history = crash(history, attempt, now, now + 1)
        now += 1
        delays.append(max(0.0, history.restart_at - now))
        now += delays[-1]
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_ten_minutes_of_running_begin_a_new_series() -> None:
    history = ContainerHistory()
    for attempt in range(5):
        history = crash(history, attempt, NOW, NOW + 1)
    history = crash(history, 5, NOW, NOW + 601)
    assert history.restart_at == 0


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True),
        ("Never", 0, False), ("Never", 1, False),
    ],
)  # fmt: skip
def test_restart_policies(policy: RestartPolicy, code: int, again: bool) -> None:
    history = crash(ContainerHistory(), 0, NOW, NOW + 1, code)
    current = run_of(0, "exited", exit_code=code)
    decision = decisions.decide(current, history, "h", policy, NOW + 2)
    assert decision == (Create(1) if again else Leave(finished=True))


def test_a_run_lost_to_a_reboot_is_over_and_one_never_started_is_not() -> None:
    lost = ContainerHistory(started_id="c0")
    assert decisions.has_ended(run_of(0, "created"), lost)
    assert decisions.decide(run_of(0, "created"), ContainerHistory(), "h", "Always", NOW) == Start()
    noted = decisions.note_end(run_of(0, "created"), lost, NOW, today=NOW)
    assert noted.last is not None
    assert (noted.last.exit_code, noted.last.reason) == (255, "ContainerStatusUnknown")
    assert decisions.decide(run_of(0, "created"), noted, "h", "Always", NOW) == Create(1)
    assert decisions.decide(run_of(0, "created"), noted, "h", "Never", NOW) == Leave(finished=True)


def test_an_end_is_noted_once() -> None:
    history = crash(ContainerHistory(), 0, NOW, NOW + 1)
    assert crash(history, 0, NOW, NOW + 1) is history


def test_a_changed_spec_waits_for_no_back_off() -> None:
    history = ContainerHistory()
    for attempt in range(5):
        history = crash(history, attempt, NOW, NOW + 1)
    assert decisions.decide(run_of(4, "exited"), history, "h", "Always", NOW + 1) == WaitUntil(
        history.restart_at
    )
    assert decisions.decide(run_of(4, "exited"), history, "other", "Always", NOW + 1) == Create(5)


def test_a_run_removed_from_outside_is_made_again_and_counted() -> None:
    history = ContainerHistory(restart_count=2, started_id="gone")
    assert decisions.decide(None, history, "h", "Always", NOW) == Create(3)
    assert decisions.decide(None, ContainerHistory(), "h", "Always", NOW) == Create(0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["exit0", "exit1", "reboot", "forget", "wait"]), st.floats(0, 2000)),
        max_size=30,
    ),
    st.sampled_from(["Always", "OnFailure", "Never"]),
)
def test_any_history(steps: list[tuple[str, float]], policy: RestartPolicy) -> None:
    """Runs are numbered upwards without a gap, back-off never exceeds its ceiling, an ended pod stays so."""
    now, history = NOW, ContainerHistory()
    current: ContainerRecord | None = None
    attempts: list[int] = []
    for step, seconds in steps:
        now += seconds
        if current is not None and current.state == "running":
            if step.startswith("exit"):
                current = msgspec.structs.replace(
                    current, state="exited", exit_code=int(step[-1]), finished_at=now, pid=0
                )
            elif step == "reboot":
                current = msgspec.structs.replace(current, state="created", pid=0)
        if step == "forget" and current is not None and current.state == "running":
            # The records are lost: the labels must be enough to number the next run.
            history = ContainerHistory(started_id=current.id)
        for _ in range(5):
            if current is not None:
                history = decisions.note_end(current, history, now, today=now)
            decision = decisions.decide(current, history, "h", policy, now)
            match decision:
                case Create(attempt=attempt):
                    assert not attempts or attempt == attempts[-1] + 1
                    attempts.append(attempt)
                    current = run_of(attempt, "created")
                    history = msgspec.structs.replace(history, restart_count=attempt)
                case Start():
                    assert current is not None
                    current = msgspec.structs.replace(current, state="running", started_at=now)
                    history = msgspec.structs.replace(history, started_id=current.id, started_at=now)
                case WaitUntil(time=time):
                    assert now < time <= now + 300
                    break
                case Leave(finished=finished):
                    assert not (finished and policy == "Always")
                    break
        else:
            raise AssertionError("no end of steps")
    if policy == "Never":
        assert len(attempts) <= 1
