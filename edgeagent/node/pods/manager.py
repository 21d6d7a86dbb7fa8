"""All pods of the node: one worker each, what the runtime was last seen to hold, and who must look again."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.network import PodSandbox
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.runtime import (
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    LABEL_STATIC,
    ContainerRecord,
)
from edgeagent.node.events import EventRecorder
from edgeagent.node.histogram import Histogram
from edgeagent.node.network.localpods import Remembered
from edgeagent.node.plugins.facades import AdmissionFacade, RuntimeFacade, UnsealerFacade
from edgeagent.node.pods.admission import Admissions
from edgeagent.node.pods.ending import sandbox_of
from edgeagent.node.pods.exits import Exits
from edgeagent.node.pods.lookup import lookup_for
from edgeagent.node.pods.means import Limits, Means, NodeFacts, PodNetwork
from edgeagent.node.pods.news import PodNews
from edgeagent.node.pods.sandbox import Sandboxes
from edgeagent.node.pods.volumes import Volumes
from edgeagent.node.pods.wanted import WantedObjects, refers_to
from edgeagent.node.pods.worker import PodWorker
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.store.desired import Change, DesiredState
from edgeagent.node.store.pods import PodRecord, PodRecords

log = logging.getLogger(__name__)

STEPS_AT_ONCE = 16
"""How many quick calls on the runtime may be under way; the others wait, so that no lane is flooded."""
PULLS_AT_ONCE = 2
STOPS_AT_ONCE = 8
EXECS_AT_ONCE = 4
HOOKS_AT_ONCE = 8
"""Pulls and commands take their time, and must leave room in the lane for everybody else."""
LIST_RETRY_SECONDS = 2.0
PASS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The bounds by which the looks of workers at their pods are counted."""
LIST_RETRY_CEILING_SECONDS = 60.0


class Reports(msgspec.Struct, frozen=True):
    """Where a pod's status goes."""

    status: Callable[[Pod, PodStatus], None]
    gone: Callable[[PodRecord], None]


class PodManager:
    """Owns the workers and the picture of the runtime. ``problem`` says why no pod can be acted on, if so."""

    def __init__(
        self,
        *,
        clock: Clock,
        today: Callable[[], float],
        runtime: RuntimeFacade,
        network: PodNetwork | None,
        admissions: list[AdmissionFacade],
        unsealer: UnsealerFacade | None,
        desired: DesiredState,
        records: PodRecords,
        events: EventRecorder,
        exits: Exits,
        reports: Reports,
        host_ip: Callable[[], str],
        on_problem: Callable[[], None],
        on_resync: Callable[[], None],
        on_started: Callable[[], None],
        resync_seconds: float,
        rng: random.Random,
        node: NodeFacts,
        volumes: Volumes,
        sandboxes: Sandboxes,
        folder: Path,
        gate: Gate,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._desired = WantedObjects(desired)
        self._volumes = volumes
        self._records = records
        self._reports = reports
        self._on_problem = on_problem
        self._on_resync = on_resync
        self._resync_seconds = resync_seconds
        self._exits = exits
        self._containers: dict[str, dict[str, ContainerRecord]] = {}
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listed = False
        self._trouble = asyncio.Event()
        self._ending = False
        self._touched: set[str] | None = None
        self._ended: dict[str, set[str]] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self.news = PodNews()
        self.problem: tuple[str, str] | None = None
        self._admissions = Admissions(
            admissions,
            wanted=self._desired,
            kept=records.admitted,
            events=events,
            containers=self.containers_of,
            unsafe_sysctls=node.unsafe_sysctls,
        )
        self.passes = Histogram(PASS_SECONDS)
        self._means = Means(
            clock=clock,
            today=today,
            rng=rng,
            node=node,
            runtime=runtime,
            network=network,
            volumes=volumes,
            sandboxes=sandboxes,
            folder=folder,
            events=events,
            gate=gate,
            limits=Limits(
                steps=asyncio.Semaphore(STEPS_AT_ONCE),
                pulls=asyncio.Semaphore(PULLS_AT_ONCE),
                stops=asyncio.Semaphore(STOPS_AT_ONCE),
                execs=asyncio.Semaphore(EXECS_AT_ONCE),
                hooks=asyncio.Semaphore(HOOKS_AT_ONCE),
                asks=asyncio.Semaphore(STEPS_AT_ONCE),
            ),
            wanted=self._desired.pod,
            static=self._desired.is_static,
            admissions=self._admissions,
            lookup=lambda pod: lookup_for(pod, self._desired, unsealer),
            containers=self.containers_of,
            observed=self._observe,
            vanished=self._vanish,
            ended=lambda uid: self._ended.get(uid, set()),
            exit_of=self._exit_of,
            confirmed=lambda: desired.confirmed,  # a static pod is always as its file says
            record=records.by_uid.get,
            keep=self._keep,
            report=self._report,
            gone=self._gone,
            trouble=self._troubled,
            passes=self.passes,
            started=on_started,
            in_the_way=self._in_the_way,
            host_ip=host_ip,
        )

    async def run(self) -> None:
        """Adopt what runs, run what should, and look at everything anew now and then; until cancelled."""
        for record in self._records.by_uid.values():
            if record.gone:
                self._reports.gone(record)
        try:
            await self._list()
            if self._means.network is not None:
                self._means.network.adopt(self._running())
            while True:
                self._wake_all()
                self._on_resync()
                due = self._clock.monotonic() + self._resync_seconds
                while await self._troubled_before(due):
                    if await self._list():
                        for worker in self._workers.values():
                            worker.retry_now(changed=False)
                            worker.wake()
                await self._list()
        finally:
            self._ending = True
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
            self._exits.close()

    def _running(self) -> list[PodSandbox]:
        """The pods with networks of their own that run already."""
        records = self._records.by_uid.values()
        return [sandbox_of(one) for one in records if not one.host_network and self._runs(one.uid)]

    def _runs(self, uid: str) -> bool:
        return any(container.state == "running" for container in self.containers_of(uid))

    def _troubled(self, error: EdgeAgentError) -> None:
        """A worker could not take a step; whether that is the runtime's fault is to be found out."""
        if isinstance(error, TemporaryError):
            self._trouble.set()

    async def _troubled_before(self, due: float) -> bool:
        """Wait for trouble, or until ``due``, and say which it was."""
        waiters = [
            asyncio.ensure_future(self._trouble.wait()),
            asyncio.ensure_future(self._clock.sleep(max(0.0, due - self._clock.monotonic()))),
        ]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
        return self._trouble.is_set()

    async def _list(self) -> bool:
        """Take over the runtime's own list of containers, for as long as it takes to get one.

        Says whether it had to be asked more than once.
        """
        failed = False
        pause = LIST_RETRY_SECONDS
        while True:
            # What workers do while the list is under way is newer than the list.
            self._touched = touched = set[str]()
            try:
                found = await self._runtime.list_containers()
            except EdgeAgentError as error:
                failed = True
                self._say((getattr(error, "reason", "") or "RuntimeNotReady", str(error)))
                delay = error.delay if isinstance(error, TemporaryError) else None
                await self._clock.sleep(max(delay or 0.0, pause))
                pause = min(2 * pause, LIST_RETRY_CEILING_SECONDS)
            else:
                break
        self._touched = None
        self._say(None)
        present = {container.id for container in found} | touched
        for known in [c for containers in self._containers.values() for c in containers.values()]:
            if known.id not in present:
                self._vanish(known)
        for container in found:
            if container.id not in touched:
                self._observe(container)
        self._listed = True
        self._trouble.clear()
        return failed

    def _say(self, problem: tuple[str, str] | None) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem is not None:
                log.warning("no pod can be acted on: %s", problem[1])
            self._on_problem()

    def changed(self, change: Change) -> None:
        """Desired state has a new generation."""
        self._follow(change)

    def static_changed(self, objects: Mapping[str, KubernetesObject]) -> None:
        """The node's own folder holds just these objects, by uid; pods missing from them are taken down."""
        self._follow(self._desired.set_static(objects))

    def _follow(self, change: Change) -> None:
        self._desired.index()
        moved = change.added | change.changed | change.removed
        for uid, worker in self._workers.items():
            worker.retry_now(changed=uid in change.changed)
            if (pod := self._desired.pod(uid)) is not None and refers_to(pod, self._desired.names(moved)):
                worker.refresh()
        if self._listed:
            self._wake_all(moved)

    def surroundings_changed(self) -> None:
        """Files that pods have of the node are to be others: where names are asked for, above all."""
        for worker in self._workers.values():
            worker.refresh()

    def _wake_all(self, which: Collection[str] | None = None) -> None:
        """A worker for every pod there is any trace of, or for those of ``which``.

        Nothing is taken for deleted without an index, nor for the sake of one out of an old snapshot.
        """
        for uid in self._desired.pods().keys() | self._traces():
            if which is None or uid in which or uid not in self._workers:
                self._wake(uid)

    def _traces(self) -> set[str]:
        """The pods that are desired no longer, of which something is left."""
        traces = {uid: self._is_static(uid) for uid in self._containers}
        for uid, record in self._records.by_uid.items():
            if not record.gone:
                traces[uid] = record.static
        return {uid for uid, static in traces.items() if self._desired.may_remove(uid, static=static)}

    def _is_static(self, uid: str) -> bool:
        return any(LABEL_STATIC in container.labels for container in self._containers[uid].values())

    def _wake(self, uid: str) -> None:
        if self._ending:
            return
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()
            return
        worker = PodWorker(uid, self._means)
        self._workers[uid] = worker
        task = asyncio.get_running_loop().create_task(worker.run(), name=f"pod {uid}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._worker_ended(uid, done))

    def _worker_ended(self, uid: str, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(uid, None)
        self._workers.pop(uid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug in one pod's handling must neither stop the others nor be retried in a tight loop.
            log.error("the worker of pod %s ended by a bug", uid, exc_info=error)
            asyncio.get_running_loop().call_later(30, self._wake, uid)
            return
        if not task.cancelled():
            for worker in self._workers.values():
                worker.wake()
            if self.wanted(uid) is not None:
                self._wake(uid)

    def wanted(self, uid: str) -> Pod | None:
        """The pod as desired state has it, or None."""
        return self._desired.pod(uid)

    def pods(self) -> Mapping[str, Pod]:
        """All desired pods, by uid."""
        return self._desired.pods()

    def admitted(self, uid: str) -> Pod | None:
        """A desired pod as the admission plugins let it run, once they have been asked."""
        pod = self.wanted(uid)
        return self._admissions.known(pod) if pod is not None else None

    def is_static(self, uid: str) -> bool:
        """Whether the pod comes from the node's own folder."""
        return self._desired.is_static(uid)

    async def evict(self, uid: str, message: str, grace: float | None) -> None:
        """End a pod that the node cannot bear (``Failed``, reason ``Evicted``), and wait for its end."""
        if (worker := self._workers.get(uid)) is not None:
            worker.evict(message, grace)
            await worker.over()

    def pressure_changed(self) -> None:
        """What the gate says is new: pods that wait for it may start, or come back."""
        for worker in self._workers.values():
            worker.wake()

    def containers_of(self, uid: str) -> list[ContainerRecord]:
        """What the runtime was last seen to hold of a pod."""
        return list(self._containers.get(uid, {}).values())

    def containers(self) -> list[ContainerRecord] | None:
        """What the runtime was last seen to hold, of all pods; None before it was ever asked."""
        if not self._listed:
            return None
        return [one for of_pod in self._containers.values() for one in of_pod.values()]

    def statuses(self) -> list[tuple[Pod, PodStatus]]:
        """Every desired pod with its status, by namespace and name.

        ``Unknown`` until it was looked at, but for a new one.
        """
        pairs = [(found, self._status_of(uid)) for uid, found in self._desired.pods().items()]
        return sorted(pairs, key=lambda pair: (pair[0].metadata.namespace, pair[0].metadata.name))

    def phase(self, uid: str) -> str:
        """The phase of a pod as its worker sees it, ``Unknown`` before it was looked at."""
        return self._status_of(uid).phase

    def remembered(self) -> list[Remembered]:
        """The pods that are desired no longer, and of which something runs still."""
        return [
            Remembered(record, deleted=self._desired.may_remove(uid, static=record.static))
            for uid, record in self._records.by_uid.items()
            if self.wanted(uid) is None and self._runs(uid)
        ]

    def _status_of(self, uid: str) -> PodStatus:
        worker = self._workers.get(uid)
        return worker.status if worker is not None and worker.status.phase else PodStatus(phase="Unknown")

    def _observe(self, container: ContainerRecord) -> None:
        uid = container.labels.get(LABEL_POD_UID, "")
        if self._touched is not None:
            self._touched.add(container.id)
        self._containers.setdefault(uid, {})[container.id] = container
        self.news.tell(uid)
        if container.state != "running":
            self._exits.forget(container.id)
            self._tell_end(container.id)
        elif not self._exits.watch(container.id, container.pid, lambda key: self._exited(uid, key)):
            self._exited(uid, container.id)

    def _vanish(self, container: ContainerRecord) -> None:
        uid = container.labels.get(LABEL_POD_UID, "")
        if self._touched is not None:
            self._touched.add(container.id)
        self._exits.forget(container.id)
        self._tell_end(container.id)
        self._ended.get(uid, set()).discard(container.id)
        containers = self._containers.get(uid, {})
        containers.pop(container.id, None)
        self.news.tell(uid)
        if not containers:
            self._containers.pop(uid, None)
            self._ended.pop(uid, None)

    def _exited(self, uid: str, container_id: str) -> None:
        self._ended.setdefault(uid, set()).add(container_id)
        self._tell_end(container_id)
        if uid in self._workers or self.wanted(uid) is not None:
            self._runtime.warm()
            self._wake(uid)

    async def _exit_of(self, uid: str, container_id: str) -> None:
        known = self._containers.get(uid, {}).get(container_id)
        is_running = known is not None and known.state == "running"
        if is_running and container_id not in self._ended.get(uid, set()):
            await self._awaited.setdefault(container_id, asyncio.Event()).wait()

    def _tell_end(self, container_id: str) -> None:
        if (awaited := self._awaited.pop(container_id, None)) is not None:
            awaited.set()

    def _keep(self, record: PodRecord) -> None:
        try:
            self._records.put(record)
        except EdgeAgentError as error:
            # Held in memory; after a crash the runtime's labels tell nearly as much.
            log.warning(
                "the record of pod %s/%s could not be written: %s", record.namespace, record.name, error
            )

    def _report(self, pod: Pod, status: PodStatus) -> None:
        self._reports.status(pod, status)
        self.news.tell(pod.metadata.uid)

    def _gone(self, uid: str) -> None:
        record = self._records.by_uid.get(uid)
        self._admissions.forget(uid)
        self.news.tell(uid)
        if record is not None:
            record = msgspec.structs.replace(record, gone=True)
            self._keep(record)
            self._reports.gone(record)

    def forget(self, uid: str) -> None:
        """The hub knows that the pod is gone: its record can go too, unless the pod has come back."""
        if (record := self._records.by_uid.get(uid)) is None or not record.gone:
            return
        try:
            self._records.remove(uid)
        except EdgeAgentError as error:
            log.warning("the record of pod %s stays for now: %s", uid, error)

    def _in_the_way(self, pod: Pod) -> bool:
        """Whether another pod of the same name still has containers: identity is the uid, names must wait."""
        key = (pod.metadata.namespace, pod.metadata.name)
        others = {
            uid
            for uid, record in self._records.by_uid.items()
            if (record.namespace, record.name) == key and not record.gone
        }
        for uid, containers in self._containers.items():
            labels = next(iter(containers.values())).labels
            if (labels.get(LABEL_POD_NAMESPACE), labels.get(LABEL_POD_NAME)) == key:
                others.add(uid)
        return not others <= self._desired.pods().keys()

    def with_status(self, pod: Pod, status: PodStatus) -> Pod:
        """The pod as a reader sees it."""
        return msgspec.structs.replace(pod, status=status)

    def find(self, namespace: str, name: str) -> Pod | None:
        """The desired pod of that name, with its status."""
        for pod, status in self.statuses():
            if (pod.metadata.namespace, pod.metadata.name) == (namespace, name):
                return self.with_status(pod, status)
        return None
