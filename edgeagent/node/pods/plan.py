"""Which containers of a pod are to run now, which are to be stopped, and whether the pod is over. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/init-containers/
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from edgeagent.api.objects.container import Container, RestartPolicy
from edgeagent.api.objects.pod import PodSpec
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.pods.containers import has_ended, restarts
from edgeagent.node.store.pods import ContainerHistory

Role = Literal["init", "sidecar", "main"]


class Slot(msgspec.Struct, frozen=True):
    """A container's place in its pod, and the restart policy that follows from it."""

    container: Container
    role: Role
    policy: RestartPolicy

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name


class Seen(msgspec.Struct, frozen=True):
    """What is known of one container: its newest run, its past, and whether that run has ``started``.

    ``outdated``: the run is not what the spec wants now.
    Started means that it runs, and that its postStart hook and startup probe, if any, are behind it.
    """

    current: ContainerRecord | None = None
    history: ContainerHistory = msgspec.field(default_factory=ContainerHistory)
    started: bool = False
    outdated: bool = False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.current is not None and self.current.state == "running"

    @property
    def ended(self) -> bool:
        """Whether its last run is over, and how it ended is known."""
        over = self.current is None or has_ended(self.current, self.history)
        return over and self.history.last is not None


class Plan(msgspec.Struct, frozen=True):
    """``active``: to be brought up and kept, in this order. ``stop``: to be stopped now, all at once.

    ``initialized``: no init container holds the others back any more. ``phase`` is empty until the pod is
    over for good.
    """

    active: Sequence[Slot]
    stop: Sequence[Slot]
    initialized: bool
    phase: Literal["", "Succeeded", "Failed"] = ""


def slots(spec: PodSpec) -> Iterator[Slot]:
    """All containers of a pod: init containers and sidecars first, each in the order of the spec."""
    for container in spec.init_containers:
        if container.restart_policy == "Always":
            yield Slot(container, "sidecar", "Always")
        else:
            yield Slot(container, "init", "Never" if spec.restart_policy == "Never" else "OnFailure")
    for container in spec.containers:
        yield Slot(container, "main", container.restart_policy or spec.restart_policy)


def make_plan(places: Sequence[Slot], seen: Mapping[str, Seen], *, initialized: bool) -> Plan:
    """The plan for a pod that is not over yet. ``seen`` has an entry for every slot."""
    mains = [slot for slot in places if slot.role == "main"]
    sidecars = [slot for slot in places if slot.role == "sidecar"]
    if not initialized:
        active, failed = _initializing(places, seen)
        if failed:
            return Plan([], stop_next(places, seen), False, "" if _any_running(places, seen) else "Failed")
        if active is not None:
            return Plan(active, [], False)
    if not all(_over(slot, seen[slot.name]) for slot in mains):
        return Plan([*sidecars, *mains], [], True)
    if _any_running(places, seen):
        return Plan([], stop_next(places, seen), True)
    lasts = [seen[slot.name].history.last for slot in mains]
    good = all(last is not None and last.exit_code == 0 for last in lasts)
    return Plan([], [], True, "Succeeded" if good else "Failed")


def _initializing(places: Sequence[Slot], seen: Mapping[str, Seen]) -> tuple[list[Slot] | None, bool]:
    """What is to run while init containers are under way, None once all are done; and whether one failed."""
    active = []
    for slot in places:
        if slot.role == "main":
            break
        known = seen[slot.name]
        if slot.role == "sidecar":
            active.append(slot)
            if not known.started:
                return active, False
        elif not _over(slot, known):
            return [*active, slot], False
        elif known.history.last is not None and known.history.last.exit_code != 0:
            return None, True
    return None, False


def _over(slot: Slot, known: Seen) -> bool:
    return known.ended and not known.outdated and not restarts(slot.policy, known.history)


def _any_running(places: Sequence[Slot], seen: Mapping[str, Seen]) -> bool:
    return any(seen[slot.name].running for slot in places)


def stop_next(places: Sequence[Slot], seen: Mapping[str, Seen]) -> list[Slot]:
    """What is stopped first of what still runs: all but sidecars together, then sidecars from the last on."""
    others = [slot for slot in places if slot.role != "sidecar" and seen[slot.name].running]
    if others:
        return others
    running = [slot for slot in places if slot.role == "sidecar" and seen[slot.name].running]
    return running[-1:]
