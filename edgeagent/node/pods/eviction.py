"""A pod that the node cannot bear: how that is noted, when it comes back, and who waits meanwhile.

docs/adr/0011-evicted-pods-come-back.md
"""

import msgspec

from edgeagent.api.objects.pod import Pod
from edgeagent.node.pods.podstate import PodState
from edgeagent.node.pods.qos import is_critical, qos_class
from edgeagent.node.pressure.comeback import count_eviction

EVICTED = "Evicted"
UNDER_PRESSURE = "NodeUnderPressure"
"""Why a pod that does not run yet is not begun."""


class Eviction:
    """One pod's dealings with node pressure."""

    def __init__(self, state: PodState) -> None:
        self._state = state
        self._means = state.means

    def note(self, pod: Pod, message: str) -> None:
        """From now on the pod is Failed, for this reason; what runs of it is to be stopped."""
        record, now = self._state.record(pod), self._means.clock.now()
        self._state.update(
            pod,
            phase="Failed",
            reason=EVICTED,
            message=message,
            evictions=count_eviction(record.evictions, now - record.evicted_at),
            evicted_at=now,
        )

    def noted(self, pod: Pod) -> bool:
        """Whether the pod is over because it was evicted."""
        return self._state.record(pod).reason == EVICTED

    def seconds_left(self, pod: Pod) -> float | None:
        """How long an evicted pod must still wait before it may come back; None: until the gate says more."""
        gate, now = self._means.gate, self._means.clock.now()
        if not gate.calm:
            return None
        record = self._state.record(pod)
        if record.evicted_at > now:  # the clock was set back: the wait begins anew
            self._state.update(pod, evicted_at=now)
            record = self._state.record(pod)
        return max(0.0, record.evicted_at + gate.wait_before_return(record.evictions) - now)

    def undo(self, pod: Pod) -> None:
        """The pod is to be run again, as new."""
        state = self._state
        afresh = {
            name: msgspec.structs.replace(history, started_id="", again=True, crashes=0, restart_at=0.0)
            for name, history in state.record(pod).containers.items()
        }
        state.update(
            pod,
            phase="",
            reason="",
            message="",
            initialized=False,
            start_time=self._means.today(),
            active_since=self._means.clock.now(),
            containers=afresh,
        )
        state.sandbox = None
        state.retries.clear()

    def held_back(self, pod: Pod) -> bool:
        """Whether the pod must wait because the node is under pressure; its status then says so.

        A pod that was begun goes on: only the start of another one would add to the pressure.
        """
        state = self._state
        critical = self._means.static(state.uid) or is_critical(pod)
        why = "" if self._begun(pod) else self._means.gate.why_shut(qos_class(pod), critical=critical)
        if why:
            state.refuse(pod, UNDER_PRESSURE, why.strip())
        elif state.refused is not None and state.refused.reason == UNDER_PRESSURE:
            # A deadline counts from here.
            state.update(pod, start_time=self._means.today(), active_since=self._means.clock.now())
        return bool(why)

    def _begun(self, pod: Pod) -> bool:
        state = self._state
        histories = state.record(pod).containers.values()
        return (
            state.sandbox is not None
            or bool(self._means.containers(state.uid))
            or any(history.started_id for history in histories)
        )
