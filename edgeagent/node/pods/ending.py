"""How a pod ends: its deadline, the order in which its containers are stopped, and what is given back.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
"""

import asyncio
from collections.abc import Container as Holds
from collections.abc import Sequence

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.network import PodSandbox
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.runtime import LABEL_CONTAINER, ContainerRecord
from edgeagent.node.pods import containers as decisions
from edgeagent.node.pods.plan import Seen, Slot, slots, stop_next
from edgeagent.node.pods.podstate import PAUSE, PodState
from edgeagent.node.pods.steps import Steps
from edgeagent.node.pods.termination import remove_all_messages
from edgeagent.node.store.pods import PodRecord

DEADLINE_EXCEEDED = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


class Ending:
    """Ends one pod. ``grace``: seconds that take the place of the pod's own, where somebody is in a hurry."""

    def __init__(self, state: PodState, steps: Steps) -> None:
        self._state = state
        self._means = state.means
        self._steps = steps
        self.over = asyncio.Event()
        """Set once all that the pod held was given back."""
        self.grace: float | None = None

    def grace_for(self, pod: Pod) -> float:
        """Seconds between the request to stop and the kill."""
        return pod.spec.termination_grace_period_seconds if self.grace is None else self.grace

    def check_deadline(self, pod: Pod) -> float | None:
        """End the pod where its ``activeDeadlineSeconds`` are over; else the seconds that are left."""
        deadline, record = pod.spec.active_deadline_seconds, self._state.record(pod)
        if deadline is None or record.phase:
            return None
        left = record.start_time + deadline - self._means.clock.now()
        if left > 0:
            # Waited for in pieces: the clock of the day may be set meanwhile.
            return min(left, 3600.0)
        self._state.event(pod, "Warning", DEADLINE_EXCEEDED, DEADLINE_MESSAGE)
        self._state.update(pod, phase="Failed", reason=DEADLINE_EXCEEDED, message=DEADLINE_MESSAGE)
        return None

    def pod_of(self, record: PodRecord | None) -> Pod | None:
        """The pod that is to be stopped and is desired no longer, as far as it is remembered."""
        if self._state.pod is not None or record is None or record.spec is None:
            return self._state.pod
        meta = ObjectMeta(
            name=record.name,
            namespace=record.namespace,
            uid=record.uid,
            creation_timestamp=rfc3339(record.start_time),
        )
        return Pod(api_version="v1", metadata=meta, spec=record.spec)

    async def stop_all(self, pod: Pod | None, grace: float) -> None:
        """Stop every container in the pod's order, all within ``grace`` seconds; raises the first error."""
        state, deadline = self._state, self._means.clock.monotonic() + grace
        places = list(slots(pod.spec)) if pod is not None else []
        while True:
            running = [c for c in self._means.containers(state.uid) if c.state == "running"]
            if not running:
                return
            group = self._group(running, places)
            left = max(0.0, deadline - self._means.clock.monotonic())
            stops = await asyncio.gather(
                *(self._stop(pod, slot, container, left) for slot, container in group), return_exceptions=True
            )
            if errors := [stop for stop in stops if isinstance(stop, BaseException)]:
                raise errors[0]

    def _group(
        self, running: Sequence[ContainerRecord], places: Sequence[Slot]
    ) -> list[tuple[Slot | None, ContainerRecord]]:
        """Which of the running containers are stopped next, all at once; the pause container comes last."""
        by_name = {container.labels.get(LABEL_CONTAINER, ""): container for container in running}
        seen = {slot.name: Seen(by_name.get(slot.name)) for slot in places}
        group: list[tuple[Slot | None, ContainerRecord]] = [
            (slot, by_name[slot.name]) for slot in stop_next(places, seen)
        ]
        known = {slot.name for slot in places}
        strays = [c for c in running if c.labels.get(LABEL_CONTAINER) not in known]
        others = [c for c in strays if c.labels.get(LABEL_CONTAINER) != PAUSE]
        group += [(None, container) for container in others]
        return group or [(None, container) for container in strays]

    async def _stop(
        self, pod: Pod | None, slot: Slot | None, container: ContainerRecord, grace: float
    ) -> None:
        await self._steps.stop(pod, slot, container, "", grace)

    async def remove_strays(
        self, pod: Pod, places: Sequence[Slot], busy: Holds[str]
    ) -> EdgeAgentError | None:
        """Containers whose name the spec no longer has, and old runs that were left behind.

        What cannot be removed holds back nothing; the last error is returned. Those of ``busy`` containers
        are left to the step that is under way.
        """
        problem = None
        names = [slot.name for slot in places]
        grace = pod.spec.termination_grace_period_seconds
        everything = self._means.containers(self._state.uid)
        for stray in everything:
            if stray.labels.get(LABEL_CONTAINER) in (*names, PAUSE):
                continue
            try:
                if stray.state == "running":
                    await self._steps.stop(pod, None, stray, "", grace)
                await self._steps.remove(stray)
            except EdgeAgentError as error:
                problem = error
        for name in names:
            if name in busy:
                continue
            runs = decisions.runs_of(name, everything)
            for old in runs[1:]:
                if old.state == "running":  # never two of one container, whatever became of the count
                    await self._steps.stop(pod, None, old, "", grace)
            for old in runs[2:]:
                try:
                    await self._steps.remove(old)
                except EdgeAgentError as error:
                    self._means.trouble(error)
                    problem = error
        return problem

    async def give_back(self, record: PodRecord | None) -> None:
        """Network, volumes, files: all that the node held for the pod beside its containers."""
        if self.over.is_set():
            return
        uid = self._state.uid
        if record is not None and not record.host_network and self._means.network is not None:
            async with self._means.limits.asks:
                await self._means.network.detach(sandbox_of(record))
        self._state.attachment = None
        remove_all_messages(self._means.folder, uid)
        await self._means.volumes.tear_down(uid)
        await self._means.sandboxes.tear_down(uid)
        self.over.set()


def needs_spec_to_stop(spec: PodSpec) -> bool:
    """Whether containers are stopped in an order, or with hooks, that only the spec tells."""
    return any(
        slot.role == "sidecar"
        or (slot.container.lifecycle is not None and slot.container.lifecycle.pre_stop is not None)
        for slot in slots(spec)
    )


def sandbox_of(record: PodRecord) -> PodSandbox:
    """The pod's identity, for a network plugin."""
    return PodSandbox(uid=record.uid, namespace=record.namespace, name=record.name)
