"""One pod's worker: compares what is wanted with what is there, takes the next steps, and sleeps.

Level-triggered: whatever woke it, it looks at everything anew. Killed at any instruction, its successor
finds in the runtime's labels and the pod's record all that it needs to go on.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.network import Attachment, PodSandbox
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.runtime import (
    LABEL_CONTAINER,
    LABEL_SPEC_HASH,
    ContainerRecord,
)
from edgeagent.node.pods import containers as decisions
from edgeagent.node.pods.config import container_config, record_of
from edgeagent.node.pods.environment import resolve_environment
from edgeagent.node.pods.images import pull, pull_policy, require_present
from edgeagent.node.pods.means import Means
from edgeagent.node.pods.status import Observation, Problem, final_phase, pod_status
from edgeagent.node.store.pods import ContainerHistory, PodRecord

log = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 10.0
RETRY_CEILING_SECONDS = 300.0
MAX_IMMEDIATE_PASSES = 20
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff"})


@dataclass(slots=True)
class _Retry:
    """Why a container waits, and when to try it again."""

    problem: Problem
    until: float
    failures: int


@dataclass(slots=True)
class _State:
    retries: dict[str, _Retry] = field(default_factory=dict)
    refused: Problem | None = None
    trouble: Problem | None = None
    """What went wrong around the containers: an end not told, a left-over not removed."""
    finished: set[str] = field(default_factory=set)
    failures: int = 0
    attachment: Attachment | None = None
    admitted: Pod | None = None
    status: PodStatus = field(default_factory=PodStatus)
    announced: dict[str, float] = field(default_factory=dict)
    """By container, the end of the back-off that an event has told of."""


class PodWorker:
    """Runs for as long as there is anything of the pod: in desired state, in the runtime, or in a record."""

    def __init__(self, uid: str, means: Means) -> None:
        self.uid = uid
        self._means = means
        self._news = asyncio.Event()
        self._state = _State()

    @property
    def status(self) -> PodStatus:
        """The last status reported."""
        return self._state.status

    def wake(self) -> None:
        """Look again."""
        self._news.set()

    async def run(self) -> None:
        """Until the pod is gone for good."""
        while True:
            self._news.clear()
            try:
                delay = await self._pass()
            except EdgeAgentError as error:
                self._means.trouble(error)
                delay = self._later(error)
                log.warning("pod %s: %s; trying again in %.0f s", self.uid, error, delay)
                self._state.trouble = Problem(getattr(error, "reason", "") or "RuntimeError", str(error))
                if (pod := self._means.wanted(self.uid)) is not None:
                    self._report(self._state.admitted or pod)
            if delay is not None and delay < 0:
                return
            await self._sleep(delay)

    async def _sleep(self, delay: float | None) -> None:
        if delay is None:
            await self._news.wait()
            return
        sleeper = asyncio.ensure_future(self._means.clock.sleep(delay))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({sleeper, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            news.cancel()

    async def _pass(self) -> float | None:
        """Take all steps that can be taken now; seconds until the next, None: when woken, -1: it is gone."""
        problem = await self._collect_ends()
        pod = self._means.wanted(self.uid)
        if pod is None:
            await self._tear_down()
            return -1.0
        if self._means.in_the_way(pod):
            self._state.refused = Problem(
                "PreviousPodTerminating", "a pod of the same name is still being stopped"
            )
            self._report(pod)
            return None
        try:
            async with self._means.asks:
                pod = self._state.admitted = await self._means.admit(pod)
                self._note_admitted(pod)
                await self._attach(pod)
        except PermanentError as error:
            self._refuse(pod, error.reason or "Refused", str(error))
            return None
        except TemporaryError as error:
            self._refuse(pod, error.reason or "Waiting", str(error))
            return self._later(error)
        self._state.refused = None
        problem = await self._remove_strays(pod) or problem
        delay = await self._settle(pod)
        record = self._record(pod)
        over = self._state.finished.issuperset(container.name for container in pod.spec.containers)
        if over and not record.phase and (phase := final_phase(pod, record.containers)):
            self._means.keep(msgspec.structs.replace(record, phase=phase))
        if problem is not None:
            raise problem
        self._state.trouble, self._state.failures = None, 0
        self._report(pod)
        return delay

    def _later(self, error: EdgeAgentError) -> float:
        """How long to wait after one more failure of a whole pass."""
        window = min(RETRY_CEILING_SECONDS, 2.0 ** min(self._state.failures, 10))
        self._state.failures += 1
        return max(getattr(error, "delay", None) or 0.0, window)

    def _note_admitted(self, pod: Pod) -> None:
        """What taking the pod down will need, as it is really run."""
        grace, host_network = pod.spec.termination_grace_period_seconds, pod.spec.host_network
        record = self._record(pod)
        self._means.keep(msgspec.structs.replace(record, grace_seconds=grace, host_network=host_network))

    def _refuse(self, pod: Pod, reason: str, message: str) -> None:
        problem = Problem(reason, message)
        if problem != self._state.refused:
            self._event(pod, "Warning", reason, message)
        self._state.refused = problem
        self._report(pod)

    async def _attach(self, pod: Pod) -> None:
        """The seam for pod networks: a pod that does not use the host's network gets one from the plugin."""
        if pod.spec.host_network or self._state.attachment is not None:
            return
        if self._means.network is None:
            raise PermanentError(
                "no network plugin is loaded, so spec.hostNetwork must be true", reason="NetworkUnavailable"
            )
        self._state.attachment = await self._means.network.attach(_sandbox(self._record(pod)))

    async def _settle(self, pod: Pod) -> float | None:
        """Bring every container to where it should be; the seconds until a back-off or retry ends."""
        delays = []
        self._state.finished.clear()
        for container in pod.spec.containers:
            for _ in range(MAX_IMMEDIATE_PASSES):
                delay = await self._settle_container(pod, container)
                if delay != 0:
                    break
            if delay is not None:
                delays.append(delay)
        return min(delays, default=None)

    async def _settle_container(self, pod: Pod, container: Container) -> float | None:
        """One step: 0 to be called again at once, None when nothing is left to do, else seconds to wait."""
        now = self._means.clock.now()
        name = container.name
        retry = self._state.retries.get(name)
        if retry is not None and (wait := retry.until - self._means.clock.monotonic()) > 0:
            return wait
        runs = decisions.runs_of(name, self._means.containers(self.uid))
        current = runs[0] if runs else None
        history = self._history(pod, name)
        noted = decisions.note_seen(current, history, now)
        if noted != history:
            self._remember(pod, name, noted)
            history = noted
            self._report(pod)
        wanted = decisions.spec_hash(container, pod.spec)
        if self._record(pod).phase and (current is None or decisions.has_ended(current, history)):
            return None
        decision = decisions.decide(current, history, wanted, pod.spec.restart_policy, now)
        try:
            match decision:
                case decisions.Leave(finished=finished):
                    self._state.retries.pop(name, None)
                    if finished:
                        self._state.finished.add(name)
                    return None
                case decisions.WaitUntil(time=time):
                    self._state.retries.pop(name, None)
                    self._event_back_off(pod, name, history)
                    self._report(pod)
                    return max(0.05, time - now)
                case decisions.Replace() if not self._means.confirmed():
                    return None
                case decisions.Replace() if current is not None:
                    await self._replace(pod, container, current)
                case decisions.Start() if current is not None:
                    await self._start(pod, container, current)
                case decisions.Create(attempt=attempt):
                    await self._create(pod, container, attempt, wanted, runs)
        except EdgeAgentError as error:
            return self._failed(pod, name, error)
        return 0

    async def _create(
        self, pod: Pod, container: Container, attempt: int, wanted: str, runs: list[ContainerRecord]
    ) -> None:
        history = self._history(pod, container.name)
        changed = bool(runs) and runs[0].labels.get(LABEL_SPEC_HASH) != wanted
        async with self._means.asks:
            environment = await resolve_environment(
                container,
                self._means.find_config_map(pod.metadata.namespace),
                self._means.find_secret(pod.metadata.namespace),
            )
        policy = pull_policy(container)
        if policy == "Always" and history.pulled_hash != wanted:
            await self._pull(pod, container)
        elif policy == "Never":
            await require_present(self._means.runtime, container)
        config = container_config(
            pod,
            container,
            attempt=attempt,
            wanted=wanted,
            environment=environment,
            attachment=self._state.attachment,
        )
        try:
            async with self._means.steps:
                made = await self._means.runtime.create_container(config)
        except PermanentError as error:
            if error.reason != "ImageNotPresent" or policy == "Never":
                raise
            await self._pull(pod, container)
            async with self._means.steps:
                made = await self._means.runtime.create_container(config)
        self._means.observed(made)
        self._event(pod, "Normal", "Created", f"Created container {container.name}", container.name)
        history = msgspec.structs.replace(
            self._history(pod, container.name),
            restart_count=attempt,
            pulled_hash=wanted,
            crashes=0 if changed else history.crashes,
        )
        self._remember(pod, container.name, history)
        await self._start(pod, container, made)
        # The run before this one stays for `logs --previous`; what is older goes.
        with contextlib.suppress(EdgeAgentError):  # _remove_strays comes back to it
            for old in runs[1:]:
                await self._remove(old)

    async def _pull(self, pod: Pod, container: Container) -> None:
        self._event(pod, "Normal", "Pulling", f"Pulling image {container.image}", container.name)
        self._report(pod)  # it may take hours
        async with self._means.pulls:
            await pull(self._means.runtime, container)
        self._event(pod, "Normal", "Pulled", f"Pulled image {container.image}", container.name)

    async def _start(self, pod: Pod, container: Container, current: ContainerRecord) -> None:
        try:
            async with self._means.steps:
                started = await self._means.runtime.start_container(current.id)
        except PermanentError as error:
            history = decisions.note_start_error(
                current, str(error), self._history(pod, container.name), self._means.clock.now()
            )
            self._state.retries.pop(container.name, None)
            self._remember(pod, container.name, history)
            self._event(pod, "Warning", "Failed", f"Error: {error}", container.name)
            return
        self._state.retries.pop(container.name, None)
        history = msgspec.structs.replace(self._history(pod, container.name), started_id=started.id)
        self._means.observed(started)
        self._report(pod)
        self._remember(pod, container.name, history)
        self._event(pod, "Normal", "Started", f"Started container {container.name}", container.name)

    async def _replace(self, pod: Pod, container: Container, current: ContainerRecord) -> None:
        message = f"Container {container.name} definition changed, will be restarted"
        self._event(pod, "Normal", "Killing", message, container.name)
        if current.state == "created":  # it never ran: nothing has ended
            await self._remove(current)
            return
        ended = await self._stop(current, pod.spec.termination_grace_period_seconds)
        noted = decisions.note_stopped(ended, self._history(pod, container.name), self._means.clock.now())
        self._remember(pod, container.name, noted)

    async def _stop(self, current: ContainerRecord, grace: int) -> ContainerRecord:
        async with self._means.stops:
            ended = await self._means.runtime.stop_container(current.id, grace)
        ended = msgspec.structs.replace(ended, labels=current.labels)
        self._means.observed(ended)
        return ended

    async def _remove(self, container: ContainerRecord) -> None:
        async with self._means.steps:
            await self._means.runtime.remove_container(container.id)
        self._means.vanished(container)

    async def _remove_strays(self, pod: Pod) -> EdgeAgentError | None:
        """Containers whose name the spec no longer has, and old runs that were left behind.

        What cannot be removed holds back nothing; the last error is returned.
        """
        problem = None
        names = [container.name for container in pod.spec.containers]
        everything = self._means.containers(self.uid)
        strays = [c for c in everything if c.labels.get(LABEL_CONTAINER) not in names]
        for stray in strays:
            try:
                if stray.state == "running":
                    await self._stop(stray, pod.spec.termination_grace_period_seconds)
                await self._remove(stray)
            except EdgeAgentError as error:
                problem = error
        for name in names:
            runs = decisions.runs_of(name, everything)
            for old in runs[1:]:
                if old.state == "running":  # never two of one container, whatever became of the count
                    await self._stop(old, pod.spec.termination_grace_period_seconds)
            for old in runs[2:]:
                try:
                    await self._remove(old)
                except EdgeAgentError as error:
                    self._means.trouble(error)
                    problem = error
        return problem

    async def _tear_down(self) -> None:
        """Stop and remove everything of the pod, give back its network, forget it."""
        record = self._means.record(self.uid)
        mine = self._means.containers(self.uid)
        if record is None and mine and (record := record_of(mine[0])) is not None:
            # The store was lost since: the hub must still learn that the pod is gone.
            self._means.keep(record)
        grace = record.grace_seconds if record is not None else 30
        about = _about_record(record)
        running = [c for c in mine if c.state == "running"]
        if running and about is not None:
            self._means.events.record(about, "Normal", "Killing", "Stopping the pod: it was deleted")
        stops = await asyncio.gather(*(self._stop(c, grace) for c in running), return_exceptions=True)
        if errors := [stop for stop in stops if isinstance(stop, BaseException)]:
            raise errors[0]
        for container in self._means.containers(self.uid):
            await self._remove(container)
        if record is not None and not record.host_network and self._means.network is not None:
            async with self._means.asks:
                await self._means.network.detach(_sandbox(record))
        self._means.gone(self.uid)

    async def _collect_ends(self) -> EdgeAgentError | None:
        """Ask for the exit codes of what has ended; the last error where one could not be had."""
        problem = None
        ended = self._means.ended(self.uid)
        for container_id in list(ended):
            known = {container.id: container for container in self._means.containers(self.uid)}
            if container_id in known:
                try:
                    async with self._means.steps:
                        over = await self._means.runtime.wait_container(container_id)
                except EdgeAgentError as error:
                    problem = error
                    continue
                self._means.observed(msgspec.structs.replace(over, labels=known[container_id].labels))
            ended.discard(container_id)
        return problem

    def _failed(self, pod: Pod, name: str, error: EdgeAgentError) -> float:
        """Note why a container cannot go on, and for how long it waits."""
        old = self._state.retries.get(name)
        failures = old.failures + 1 if old else 1
        delay = min(RETRY_CEILING_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(failures - 1, 10))
        if isinstance(error, TemporaryError) and error.reason != "ErrImagePull":
            self._means.trouble(error)
            delay = min(delay, 1.0 * 2 ** min(failures, 8))
        delay = max(getattr(error, "delay", None) or 0.0, delay)
        reason = getattr(error, "reason", "") or "CreateContainerError"
        self._event(pod, "Warning", "Failed", f"{reason}: {error}", name)
        if reason == "ErrImagePull" and failures > 1:
            reason = "ImagePullBackOff"
        self._state.retries[name] = _Retry(
            Problem(reason, str(error)), self._means.clock.monotonic() + delay, failures
        )
        self._report(pod)
        return delay

    def retry_now(self, *, changed: bool) -> None:
        """Desired state is new: what waits for a part of it may go on, or be refused no longer.

        A pull is waited for unless this very pod has ``changed``: the registry heard of nothing.
        """
        retries = self._state.retries.values()
        waiting = [r for r in retries if changed or r.problem.reason not in PULL_REASONS]
        for retry in waiting:
            retry.until = 0.0
        if waiting or self._state.refused is not None:
            self.wake()

    def _record(self, pod: Pod) -> PodRecord:
        record = self._means.record(self.uid)
        if record is None:
            record = PodRecord(
                uid=self.uid,
                namespace=pod.metadata.namespace,
                name=pod.metadata.name,
                start_time=self._means.clock.now(),
                grace_seconds=pod.spec.termination_grace_period_seconds,
                host_network=pod.spec.host_network,
            )
        if record.gone:  # the same pod is desired once more: what the node itself took away was no loss
            afresh = {
                name: msgspec.structs.replace(history, started_id="", crashes=0, restart_at=0.0)
                for name, history in record.containers.items()
            }
            record = msgspec.structs.replace(record, gone=False, containers=afresh)
        self._means.keep(record)
        return record

    def _history(self, pod: Pod, name: str) -> ContainerHistory:
        return self._record(pod).containers.get(name, ContainerHistory())

    def _remember(self, pod: Pod, name: str, history: ContainerHistory) -> None:
        record = self._record(pod)
        self._means.keep(msgspec.structs.replace(record, containers={**record.containers, name: history}))

    def _report(self, pod: Pod) -> None:
        state = self._state
        observation = Observation(
            pod=pod,
            record=self._record(pod),
            containers=self._means.containers(self.uid),
            waiting={name: retry.problem for name, retry in state.retries.items()},
            refused=state.refused,
            trouble=state.trouble,
            host_ip=self._means.host_ip(),
            pod_ips=state.attachment.ips if state.attachment else (),
        )
        status = pod_status(observation, state.status, self._means.clock.now())
        if status != state.status:
            state.status = status
            self._means.report(pod, status)

    def _event(self, pod: Pod, type_: str, reason: str, message: str, container: str = "") -> None:
        about = ObjectReference(
            kind="Pod",
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            uid=self.uid,
            field_path=f"spec.containers{{{container}}}" if container else "",
        )
        self._means.events.record(about, "Warning" if type_ == "Warning" else "Normal", reason, message)

    def _event_back_off(self, pod: Pod, name: str, history: ContainerHistory) -> None:
        if self._state.announced.get(name) != history.restart_at:
            self._state.announced[name] = history.restart_at
            self._event(pod, "Warning", "BackOff", f"Back-off restarting failed container {name}", name)


def _sandbox(record: PodRecord) -> PodSandbox:
    return PodSandbox(uid=record.uid, namespace=record.namespace, name=record.name)


def _about_record(record: PodRecord | None) -> ObjectReference | None:
    if record is None:
        return None
    return ObjectReference(kind="Pod", namespace=record.namespace, name=record.name, uid=record.uid)
