"""The probes of one pod: begun with each run of a container, ended with it, their verdicts remembered."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.pods.plan import Seen, Slot
from edgeagent.node.pods.podstate import PodState
from edgeagent.node.pods.probes import ContainerProbes, Outcome, ProbeFailure
from edgeagent.node.pods.steps import Steps


class Probing:
    """Keeps a ``ContainerProbes`` for each running container that has a probe. ``wake`` wakes the worker."""

    def __init__(self, state: PodState, steps: Steps, wake: Callable[[], None]) -> None:
        self._state = state
        self._steps = steps
        self._wake = wake

    def sync(self, pod: Pod, places: Sequence[Slot], seen: Mapping[str, Seen]) -> None:
        """Begin the probes of runs that began, and end those of runs that ended."""
        state = self._state
        running = {
            known.current.id: (slot, known.current)
            for slot in places
            if (known := seen[slot.name]).current is not None and known.running
        }
        for ended in state.probes.keys() - running.keys():
            state.probes.pop(ended).close()
        for run, (slot, current) in running.items():
            if run not in state.probes and _has_probes(slot.container):
                self._start(pod, slot, current)

    def _start(self, pod: Pod, slot: Slot, current: ContainerRecord) -> None:
        state, name = self._state, slot.name
        history = state.history(pod, name)
        # A run that nothing was noted of counts as new: a delay is kept rather than cut short.
        noted = history.started_id == current.id and history.started_at
        started_at = history.started_at if noted else state.means.clock.now()
        probes = ContainerProbes(
            slot.container,
            lambda: self._steps.target(pod, slot, current),
            clock=state.means.clock,
            rng=state.means.rng,
            started_at=started_at,
            on_change=lambda: self._changed(pod, name, current.id),
            on_remark=lambda kind, outcome: self._remark(pod, name, kind, outcome),
            limit=state.means.limits.execs,
            resumed=current.id not in state.fresh,
            initially_started=history.passed_id == current.id,
            initially_ready=history.ready_id == current.id,
        )
        state.fresh.discard(current.id)
        state.probes[current.id] = probes
        probes.start()

    def _remark(self, pod: Pod, name: str, kind: str, outcome: Outcome) -> None:
        reason, word = ("ProbeWarning", "warning") if outcome.success else ("Unhealthy", "failed")
        self._state.event(pod, "Warning", reason, f"{kind} probe {word}: {outcome.message}", name)

    def _changed(self, pod: Pod, name: str, run: str) -> None:
        """Note a new verdict, for the agent may be restarted, and let the worker act on it."""
        state = self._state
        probes, history = state.probes.get(run), state.history(pod, name)
        if probes is not None and history.started_id == run:
            ready_id = run if probes.ready else ""
            passed_id = run if probes.started else history.passed_id
            state.remember(
                pod, name, msgspec.structs.replace(history, ready_id=ready_id, passed_id=passed_id)
            )
        self._wake()

    def failed(self, run: str) -> ProbeFailure | None:
        """Why the run has to be ended, if it has."""
        probes = self._state.probes.get(run)
        return probes.failed if probes is not None else None

    def close(self) -> None:
        """End all."""
        for probes in self._state.probes.values():
            probes.close()
        self._state.probes.clear()


def _has_probes(container: Container) -> bool:
    return any((container.startup_probe, container.liveness_probe, container.readiness_probe))
