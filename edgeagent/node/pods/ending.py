"""How a pod ends: its deadline, the order in which its containers are stopped, and what is given back.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
"""

import asyncio
from collections.abc import Sequence

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.network import PodSandbox
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.runtime import LABEL_CONTAINER, ContainerRecord
from edgeagent.node.pods import containers as decisions
from edgeagent.node.pods.plan import Seen, Slot, slots, stop_next
from edgeagent.node.pods.podstate import PAUSE, PodState
from edgeagent.node.pods.status import Problem
from edgeagent.node.pods.steps import LEAST_GRACE_SECONDS, Steps
from edgeagent.node.pods.termination import remove_all_messages
from edgeagent.node.store.pods import PodRecord

DEADLINE_EXCEEDED = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


STRAY = "stray "
"""Before a container's name: the step that removes what is there of it and has no place in the spec."""


class Stray(msgspec.Struct, frozen=True):
    """Runs without a place in the pod: those to be stopped, and those to be removed.

    ``slot`` is the place they had, where a hook of theirs is to be run.
    """

    slot: Slot | None
    stop: Sequence[ContainerRecord]
    remove: Sequence[ContainerRecord]


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
        now = self._means.clock.now()
        if not record.active_since:  # written before it was noted
            self._state.update(pod, active_since=now)
        left = self._state.record(pod).active_since + deadline - now
        if left > 0:
            return left
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
            labels=record.network.labels if record.network is not None else {},
        )
        return Pod(api_version="v1", metadata=meta, spec=record.spec)

    def as_before(self, pod: Pod) -> Pod:
        """The pod as it was admitted last, as far as that is known, in place of what it is to be now."""
        before = self.pod_of(self._means.record(self._state.uid))
        if before is None:
            return pod
        # The status is about what is desired now, and labels are in force at once, whatever the spec.
        metadata = msgspec.structs.replace(
            before.metadata, generation=pod.metadata.generation, labels=pod.metadata.labels
        )
        return msgspec.structs.replace(before, metadata=metadata)

    async def stop_all(self, pod: Pod | None, grace: float) -> None:
        """Stop every container in the pod's order, all within ``grace`` seconds; raises the first error.

        Where those before have used that up, the next ones still get a moment.
        """
        state, deadline = self._state, self._means.clock.monotonic() + grace
        places = list(slots(pod.spec)) if pod is not None else []
        left, moment = grace, LEAST_GRACE_SECONDS if grace else 0
        while True:
            running = _running(self._means.containers(state.uid))
            if not running:
                return
            group = self._group(running, places)
            stops = await asyncio.gather(
                *(self._stop(pod, slot, container, left) for slot, container in group), return_exceptions=True
            )
            if errors := [stop for stop in stops if isinstance(stop, BaseException)]:
                raise errors[0]
            left = max(moment, deadline - self._means.clock.monotonic())

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

    def strays(self, pod: Pod, places: Sequence[Slot]) -> dict[str, Stray]:
        """By name: containers that the spec no longer has, and old runs that were left behind."""
        everything = self._means.containers(self._state.uid)
        leaving = self._state.record(pod).leaving
        known = {slot.name for slot in places}
        found = {}
        for name in sorted({container.labels.get(LABEL_CONTAINER, "") for container in everything} - {PAUSE}):
            runs = decisions.runs_of(name, everything)
            if name not in known:
                slot = Slot(leaving[name], "main", "Never") if name in leaving else None
                found[name] = Stray(slot, _running(runs), runs)
            elif _running(runs[1:]) or runs[2:]:  # never two of one container, whatever became of the count
                found[name] = Stray(None, _running(runs[1:]), runs[2:])
        return found

    async def remove_stray(self, pod: Pod, name: str, stray: Stray) -> None:
        """Stop and remove it; where that fails, note until when it waits to be tried again."""
        state = self._state
        try:
            for run in stray.stop:
                await self._steps.stop(pod, stray.slot, run, "", pod.spec.termination_grace_period_seconds)
            for run in stray.remove:
                await self._steps.remove(run)
        except EdgeAgentError as error:
            problem = Problem(getattr(error, "reason", "") or "RuntimeError", str(error))
            state.wait_longer(STRAY + name, problem, error)
        else:
            state.retries.pop(STRAY + name, None)

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


def leaving(record: PodRecord, spec: PodSpec, there: Sequence[ContainerRecord]) -> dict[str, Container]:
    """Containers that ``spec`` no longer has, of which something runs, and which have a preStop hook."""
    before = {slot.name: slot.container for slot in slots(record.spec)} if record.spec is not None else {}
    wanted = {slot.name for slot in slots(spec)}
    running = {container.labels.get(LABEL_CONTAINER, "") for container in _running(there)}
    return {
        name: container
        for name, container in {**record.leaving, **before}.items()
        if name in running - wanted and container.lifecycle is not None and container.lifecycle.pre_stop
    }


def _running(runs: Sequence[ContainerRecord]) -> list[ContainerRecord]:
    return [run for run in runs if run.state == "running"]


def sandbox_of(record: PodRecord) -> PodSandbox:
    """The pod's identity, for a network plugin."""
    return PodSandbox(uid=record.uid, namespace=record.namespace, name=record.name)
