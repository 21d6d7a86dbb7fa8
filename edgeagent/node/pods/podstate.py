"""What a pod's worker knows between two looks: waits, probes, what was prepared; and the pod's record.

Nothing in it is needed to go on after a crash but the record, which the store keeps.
"""

import msgspec

from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.network import Attachment
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.runtime import LABEL_SPEC_HASH, ContainerRecord
from edgeagent.node.network.localpods import pod_on_network
from edgeagent.node.pods.containers import runs_of, spec_hash
from edgeagent.node.pods.lookup import PodFacts
from edgeagent.node.pods.means import Means
from edgeagent.node.pods.plan import Seen, Slot
from edgeagent.node.pods.probes import ContainerProbes
from edgeagent.node.pods.sandbox import Sandbox
from edgeagent.node.pods.status import Observation, Problem, pod_status
from edgeagent.node.store.pods import ContainerHistory, PodRecord

RETRY_FIRST_SECONDS = 10.0
RETRY_CEILING_SECONDS = 300.0
PAUSE = "POD"
"""The name, which no container can have, of the one that holds a pod's process namespace."""


class Retry(msgspec.Struct):
    """Why a container waits, and until when (monotonic) before it is tried again."""

    problem: Problem
    until: float
    failures: int


class PodState:
    """One pod's state. ``pod`` is the pod as it was admitted last, if it was."""

    def __init__(self, uid: str, means: Means) -> None:
        self.uid = uid
        self.means = means
        self.pod: Pod | None = None
        self.status = PodStatus(phase="Pending" if self._is_new() else "")
        self.retries: dict[str, Retry] = {}
        self.refused: Problem | None = None
        self.unprepared: Problem | None = None
        """Why no container can be made: a volume that lacks its ConfigMap, say."""
        self.trouble: Problem | None = None
        """What went wrong around the containers: an end not told, a left-over not removed."""
        self.attachment: Attachment | None = None
        self.sandbox: Sandbox | None = None
        self.pause: ContainerRecord | None = None
        self.probes: dict[str, ContainerProbes] = {}
        """By the id of the run that is probed."""
        self.fresh: set[str] = set()
        """Ids of runs that were started by this very process."""
        self.announced: dict[str, float] = {}
        """By container, the end of the back-off that an event has told of."""

    def _is_new(self) -> bool:
        """Whether nothing of the pod can have run: then it is Pending even before it was looked at.

        https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase
        """
        record = self.means.record(self.uid)
        return (record is None or record.gone) and not self.means.containers(self.uid)

    def record(self, pod: Pod) -> PodRecord:
        """The pod's record, begun if there is none."""
        record = self.means.record(self.uid)
        if record is None:
            mains = [container.name for container in pod.spec.containers]
            containers = self.means.containers(self.uid)
            record = PodRecord(
                uid=self.uid,
                namespace=pod.metadata.namespace,
                name=pod.metadata.name,
                start_time=self.means.today(),
                active_since=self.means.clock.now(),
                grace_seconds=pod.spec.termination_grace_period_seconds,
                host_network=pod.spec.host_network,
                static=self.means.static(self.uid),
                # The record was lost: what runs, or ran, tells that the init containers are done.
                initialized=any(runs_of(name, containers) for name in mains),
            )
        if record.gone:
            record = self._afresh(record)
        if record.restarted:
            record = self._restarted(record, pod)
        self.means.keep(record)
        return record

    def _afresh(self, record: PodRecord) -> PodRecord:
        """The record of a pod that was gone and is desired once more: it begins as a new one would.

        Its containers' runs are counted on, for the hub may know it as the pod that it was.
        """
        counted = {
            name: ContainerHistory(restart_count=history.restart_count, pulled_hash=history.pulled_hash)
            for name, history in record.containers.items()
        }
        return PodRecord(
            uid=record.uid,
            namespace=record.namespace,
            name=record.name,
            start_time=self.means.today(),
            active_since=self.means.clock.now(),
            grace_seconds=record.grace_seconds,
            host_network=record.host_network,
            static=self.means.static(self.uid),
            containers=counted,
        )

    def _restarted(self, record: PodRecord, pod: Pod) -> PodRecord:
        """The record of a pod that a reboot of the machine ended: its init containers run anew."""
        histories = dict(record.containers)
        if not record.phase:
            for container in pod.spec.init_containers:
                history = histories.get(container.name, ContainerHistory())
                histories[container.name] = msgspec.structs.replace(history, again=True)
        return msgspec.structs.replace(
            record,
            restarted=False,
            initialized=False,
            # How long the machine was off its clock may not know: the deadline begins anew.
            active_since=self.means.clock.now(),
            containers=histories,
        )

    def update(self, pod: Pod, **changes: object) -> None:
        """Change the pod's record."""
        self.means.keep(msgspec.structs.replace(self.record(pod), **changes))

    def history(self, pod: Pod, name: str) -> ContainerHistory:
        """One container's past."""
        return self.record(pod).containers.get(name, ContainerHistory())

    def remember(self, pod: Pod, name: str, history: ContainerHistory) -> None:
        """Keep a container's past."""
        record = self.record(pod)
        if record.containers.get(name) != history:
            self.means.keep(msgspec.structs.replace(record, containers={**record.containers, name: history}))

    def seen(self, pod: Pod, slot: Slot) -> Seen:
        """What is known of a container now."""
        runs = runs_of(slot.name, self.means.containers(self.uid))
        current = runs[0] if runs else None
        history = self.history(pod, slot.name)
        running = current is not None and current.state == "running"
        outdated = current is not None and current.labels.get(LABEL_SPEC_HASH) != spec_hash(
            slot.container, pod.spec
        )
        return Seen(current, history, running and self.started(slot, current, history), outdated)

    def started(self, slot: Slot, current: ContainerRecord | None, history: ContainerHistory) -> bool:
        """Whether a running container's postStart hook and startup probe are behind it."""
        if current is None:
            return False
        lifecycle, probes = slot.container.lifecycle, self.probes.get(current.id)
        if lifecycle is not None and lifecycle.post_start is not None and history.hooked_id != current.id:
            return False
        if slot.container.startup_probe is None:
            return True
        return probes.started if probes is not None else history.passed_id == current.id

    def ready(self, slot: Slot, current: ContainerRecord | None, history: ContainerHistory) -> bool:
        """Whether a running container is ready to serve."""
        if current is None or not self.started(slot, current, history):
            return False
        probes = self.probes.get(current.id)
        if slot.container.readiness_probe is None:
            return True
        return probes.ready if probes is not None else history.ready_id == current.id

    def facts(self, pod: Pod) -> PodFacts:
        """The pod and what is known of it here."""
        return PodFacts(
            pod=pod,
            node_name=self.means.node.name,
            host_ip=self.means.host_ip(),
            pod_ips=self.ips(pod),
            allocatable=self.means.node.allocatable,
        )

    def ips(self, pod: Pod) -> list[str]:
        """The pod's addresses, the primary one first."""
        if self.attachment is not None:
            return list(self.attachment.ips)
        host_ip = self.means.host_ip()
        return [host_ip] if host_ip and pod.spec.host_network else []

    def failed(self, pod: Pod, name: str, error: EdgeAgentError) -> None:
        """Note why a container cannot go on, and for how long it waits."""
        reason = getattr(error, "reason", "") or "CreateContainerError"
        self.event(pod, "Warning", "Failed", f"{reason}: {error}", name)
        if reason == "ErrImagePull" and name in self.retries:
            reason = "ImagePullBackOff"
        self.wait_longer(name, Problem(reason, str(error)), error)
        self.report(pod)

    def wait_longer(self, name: str, problem: Problem, error: EdgeAgentError) -> float:
        """Begin the wait after one more failure of the container ``name`` (empty: of the pod as a whole).

        Returns its seconds.
        """
        old = self.retries.get(name)
        failures = old.failures + 1 if old else 1
        delay = min(RETRY_CEILING_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(failures - 1, 10))
        if isinstance(error, TemporaryError) and error.reason != "ErrImagePull":
            self.means.trouble(error)
            delay = min(delay, 1.0 * 2 ** min(failures, 8))
        delay = max(getattr(error, "delay", None) or 0.0, delay)
        self.retries[name] = Retry(problem, self.means.clock.monotonic() + delay, failures)
        return delay

    def left_to_wait(self, name: str) -> float:
        """Seconds until what failed under this name may be tried again, 0 or less for now."""
        retry = self.retries.get(name)
        return retry.until - self.means.clock.monotonic() if retry is not None else 0.0

    def event(self, pod: Pod, type_: str, reason: str, message: str, container: str = "") -> None:
        """Tell of something that happened to the pod, or to one of its containers."""
        kind = (
            "initContainers" if any(c.name == container for c in pod.spec.init_containers) else "containers"
        )
        about = ObjectReference(
            kind="Pod",
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            uid=self.uid,
            field_path=f"spec.{kind}{{{container}}}" if container else "",
        )
        self.means.events.record(about, "Warning" if type_ == "Warning" else "Normal", reason, message)

    def event_back_off(self, pod: Pod, name: str, history: ContainerHistory) -> None:
        """Tell of a back-off, once."""
        if self.announced.get(name) != history.restart_at:
            self.announced[name] = history.restart_at
            self.event(pod, "Warning", "BackOff", f"Back-off restarting failed container {name}", name)

    def refuse(self, pod: Pod, reason: str, message: str) -> None:
        """Say why nothing of the pod is run."""
        problem = Problem(reason, message)
        if problem != self.refused:
            self.event(pod, "Warning", reason, message)
        self.refused = problem
        self.report(pod)

    def report(self, pod: Pod) -> None:
        """Compute the pod's status, and tell it where it has changed."""
        record = self.record(pod)
        observation = Observation(
            pod=pod,
            record=record,
            containers=self.means.containers(self.uid),
            started=self.started,
            ready=self.ready,
            waiting={name: retry.problem for name, retry in self.retries.items()},
            refused=self.refused,
            unprepared=self.unprepared,
            trouble=self.trouble,
            host_ip=self.means.host_ip(),
            pod_ips=self.ips(pod),
        )
        status = pod_status(observation, self.status, self.means.clock.now(), today=self.means.today())
        if (network := pod_on_network(pod, status)) != record.network:
            self.means.keep(msgspec.structs.replace(record, network=network))
        if status != self.status:
            self.status = status
            self.means.report(pod, status)
