"""A node's pods in memory: the real manager, store, records and events on a fake runtime and a still clock.

What stands in for the plugin host hands each call to the fake on the loop, though its caller was cancelled.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, cast

import msgspec

from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.network import Attachment, PodSandbox
from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.config import SealedSecret, Secret
from edgeagent.api.objects.container import Container, EnvFromSource
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.pod import ContainerStatus, Pod, PodSpec, PodStatus
from edgeagent.api.runtime import LABEL_CONTAINER, LABEL_POD_UID, ContainerRecord
from edgeagent.node.events import EventRecorder
from edgeagent.node.plugins.contract import ADMISSION, NETWORK, RUNTIME, SECRETS
from edgeagent.node.plugins.facades import AdmissionFacade, RuntimeFacade, UnsealerFacade
from edgeagent.node.plugins.hosted import HostedPlugin
from edgeagent.node.pods.manager import PodManager, Reports
from edgeagent.node.pods.means import NodeFacts
from edgeagent.node.pods.sandbox import Sandboxes
from edgeagent.node.pods.volumes import Volumes
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.pressure.thresholds import ConditionType
from edgeagent.node.steadyclock import steady_clock
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.pods import PodRecord, PodRecords
from edgeagent.testing.clock import ManualClock
from edgeagent.testing.runtime import FakeExits, FakeRuntime
from tests.node.fakeadmission import FakeAdmission
from tests.node.indexes import ANCHOR, NODE, signed_index
from tests.node.inlinethreads import InlineThreads
from tests.node.podnetwork import MemoryNetwork
from tests.node.standin import StandIn

RESYNC = 1800.0
TRANSITION = 300.0
HOST_IP = "192.0.2.7"
T = TypeVar("T")


def run(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run a test's scenario on a loop of its own."""

    async def main() -> T:
        asyncio.get_running_loop().set_default_executor(InlineThreads())
        return await scenario()

    return asyncio.run(main())


def container(name: str = "main", image: str = "image:1", **more: object) -> Container:
    """A container whose image is looked for on the node first."""
    made = Container(name=name, image=image, image_pull_policy="IfNotPresent")
    return msgspec.structs.replace(made, **more)


def pod(
    name: str,
    *containers: Container,
    uid: str = "",
    policy: Literal["Always", "OnFailure", "Never"] = "Always",
    host_network: bool = True,
    generation: int = 1,
    grace: int = 30,
) -> Pod:
    """A pod of these containers, of one called ``main`` where none is given."""
    meta = ObjectMeta(name=name, namespace="default", uid=uid or f"uid-{name}", generation=generation)
    spec = PodSpec(
        containers=list(containers) or [container()], node_name=NODE, host_network=host_network,
        restart_policy=policy, termination_grace_period_seconds=grace,
    )  # fmt: skip
    return Pod(api_version="v1", metadata=meta, spec=spec)


def with_spec(made: Pod, **fields: object) -> Pod:
    """The pod with more in its spec."""
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, **fields))


def sealed_secret(name: str) -> SealedSecret:
    """A secret as it travels. Its content is what the fake unsealer makes of it."""
    meta = ObjectMeta(name=name, namespace="default", uid=f"uid-secret-{name}")
    return SealedSecret(api_version="edgeagent/v1", metadata=meta, sealed=b"sealed")


def from_secret(name: str) -> list[EnvFromSource]:
    """``envFrom`` of one secret."""
    return decode_json(b'[{"secretRef":{"name":"%b"}}]' % name.encode(), list[EnvFromSource])


class FakeNetwork:
    """Implements ``Network``; ``log`` has every call, ``failures`` what the next ones raise."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.failures: list[Exception] = []

    def attach(self, sandbox: PodSandbox) -> Attachment:
        """A namespace named after the pod."""
        self.log.append(("attach", sandbox.uid))
        if self.failures:
            raise self.failures.pop(0)
        return Attachment(namespace_path=f"/run/netns/{sandbox.uid}", ips=["10.1.0.9", "fd00::9"])

    def detach(self, sandbox: PodSandbox) -> None:
        """Given back."""
        self.log.append(("detach", sandbox.uid))
        if self.failures:
            raise self.failures.pop(0)


class FakeUnsealer:
    """Implements ``Unsealer``."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def unseal(self, sealed: SealedSecret) -> Secret:
        """A secret with one key, ``TOKEN``."""
        if self.failures:
            raise self.failures.pop(0)
        return Secret(api_version="v1", metadata=sealed.metadata, data={"TOKEN": b"t0ken"})


class CheckedRuntime(FakeRuntime):
    """A fake that will not have two running containers of one pod and name.

    As Podman, it removes no container whose process namespace another one has joined, ended or not.
    """

    def remove_container(self, container_id: str) -> None:
        """Remove, if nothing depends on it."""
        joined = [
            config.name
            for other, config in self.configs.items()
            if other in self.containers and config.pid_namespace == f"container:{container_id}"
        ]
        if joined:
            raise TemporaryError(f"has dependent containers: {joined}", reason="RuntimeError")
        super().remove_container(container_id)

    def start_container(self, container_id: str) -> ContainerRecord:
        """Start, and look around."""
        started = super().start_container(container_id)
        keys = Counter((c.labels[LABEL_POD_UID], c.labels[LABEL_CONTAINER]) for c in self.running())
        assert all(count == 1 for count in keys.values()), f"two at once: {keys}"
        return started


class FakeMounter:
    """Implements ``Mounter`` without mounting: a folder stands for what would be mounted there."""

    def __init__(self) -> None:
        self.mounted: list[Path] = []

    async def mount_tmpfs(self, target: Path, options: str, *, swap: bool = True) -> None:
        """Noted."""
        del options, swap
        self.mounted.append(target)

    async def bind(self, source: str, target: Path) -> None:
        """Noted."""
        del source
        self.mounted.append(target)

    async def unmount(self, target: Path) -> None:
        """Noted no longer."""
        self.mounted.remove(target)

    async def mounts_below(self, folder: Path) -> list[Path]:
        """What was noted, the last first."""
        return [point for point in reversed(self.mounted) if point == folder or folder in point.parents]

    async def run(self, argv: Sequence[str]) -> None:
        """In place of programs: what ``unshare`` would leave."""
        self.mounted += [Path(word.partition("=")[2]) for word in argv if word.startswith("--ipc=")]


class PodWorld:
    """The world of one node, from its first boot on. Use as an asynchronous context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        network: FakeNetwork | None = None,
        admission: FakeAdmission | None = None,
        unsealer: FakeUnsealer | None = None,
        latency: Callable[[], int] = lambda: 1,
    ) -> None:
        self._directory = directory
        self._databases = 0
        self.plugin = StandIn({}, latency)
        self.clock = ManualClock(busy=self.plugin.busy)
        self.runtime = CheckedRuntime(self.clock.now)
        self.runtime.on_end = self._ended
        self.network, self.admission, self.unsealer = network, admission, unsealer
        self.plugin._targets.update(
            {RUNTIME: self.runtime, NETWORK: network, ADMISSION: admission, SECRETS: unsealer}
        )
        self.mounter = FakeMounter()
        self.node = NodeFacts(name=NODE, allocatable={"cpu": 4.0, "memory": 2.0**30})
        self.host_ip = HOST_IP
        self.tell = True
        """Whether ends are told by themselves, as pidfds tell them."""
        self.boot = "boot-1"
        self.generation = 0
        self.objects: list[KubernetesObject] = []
        self.reports: list[tuple[str, PodStatus]] = []
        self.gone: list[str] = []
        self.started: list[None] = []
        self.resyncs: list[None] = []
        self.problems: list[tuple[str, str] | None] = []
        self._task: asyncio.Task[None] | None = None
        self.open()

    async def __aenter__(self) -> Self:
        """The agent starts."""
        self.start()
        await self.clock.settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The agent is stopped, and has left no task behind."""
        await self.crash()
        self.database.close()
        if error is None:
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert left == [], left

    def open(self) -> None:
        """Read the store as a starting agent does."""
        now = self.clock.now()
        self.database = Database(self._directory / f"agent{self._databases}.db", now=now)
        self.steady = steady_clock(self.database, self.clock, boot_id=self.boot)
        self.desired = DesiredState(self.database, now=now)
        self.records = PodRecords(self.database)
        self.outbox = Outbox(self.database)
        self.events = EventRecorder(
            node=NODE, outbox=self.outbox, clock=self.clock, rng=random.Random(1), on_append=lambda: None
        )

    def start(self) -> None:
        """The agent's manager begins to run."""
        plugin = cast(HostedPlugin, self.plugin)
        self.exits = FakeExits()
        self.gate = Gate(TRANSITION)
        disk, memory = self._directory / "pods", self._directory / "run"
        mounter = self.mounter
        self.manager = PodManager(
            clock=self.steady,
            today=self.clock.now,
            runtime=RuntimeFacade(plugin),
            network=MemoryNetwork(plugin) if self.network is not None else None,
            admissions=[AdmissionFacade(plugin)] if self.admission is not None else [],
            unsealer=UnsealerFacade(plugin) if self.unsealer is not None else None,
            desired=self.desired,
            records=self.records,
            events=self.events,
            exits=self.exits,
            reports=Reports(self._reported, self._gone),
            host_ip=lambda: self.host_ip,
            on_problem=lambda: self.problems.append(self.manager.problem),
            on_resync=lambda: self.resyncs.append(None),
            on_started=lambda: self.started.append(None),
            resync_seconds=RESYNC,
            rng=random.Random(2),
            node=self.node,
            volumes=Volumes(disk=disk, memory=memory, host=self._directory, mounter=mounter),
            sandboxes=Sandboxes(
                disk=disk, run=memory, root=self._directory, mounter=mounter, runner=mounter.run
            ),
            folder=disk,
            gate=self.gate,
        )
        self._task = asyncio.get_running_loop().create_task(self.manager.run())

    def _reported(self, pod: Pod, status: PodStatus) -> None:
        self.reports.append((pod.metadata.uid, status))

    def _gone(self, record: PodRecord) -> None:
        self.gone.append(record.uid)

    def _ended(self, container_id: str) -> None:
        if self.tell:
            asyncio.get_running_loop().call_soon(lambda: self.exits.tell(container_id))

    async def crash(self) -> None:
        """The agent ends here and now, whatever it is doing."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def restart(self, *, reboot: bool = False, lose: Literal["", "records", "store"] = "") -> None:
        """The agent ends and starts anew, perhaps with the machine, perhaps without part of its memory."""
        await self.crash()
        if reboot:
            self.runtime.reboot()
            self.boot += "+"
        if lose == "records":
            with self.database.batched() as connection:
                connection.execute("DELETE FROM pod_record")
        self.database.close()
        if lose == "store":
            self._databases += 1
        self.open()
        if reboot:
            self.records.rebooted()
        self.start()
        await self.clock.settle()

    async def apply(self, *objects: KubernetesObject) -> None:
        """These, and nothing else, are desired from now on."""
        self.switch(objects)
        await self.clock.settle()

    def switch(self, objects: Sequence[KubernetesObject]) -> None:
        """As ``apply``, waiting for nothing."""
        self.objects = list(objects)
        self.generation += 1
        signed = signed_index(self.generation, self.objects)
        missing = {entry.digest for entry in self.desired.missing(signed.index)}
        bodies = {name: body for name, body in signed.bodies.items() if name in missing}
        self.manager.changed(self.desired.switch(signed.index, signed.digest, bodies, ANCHOR))

    async def advance(self, seconds: float) -> None:
        """Time passes."""
        await self.clock.advance(seconds)

    async def pressure(self, *conditions: ConditionType, calm: bool | None = None) -> None:
        """These conditions are in force from now on; it is ``calm`` when there are none, unless said."""
        self.gate.conditions = frozenset(conditions)
        self.gate.calm = not conditions if calm is None else calm
        self.manager.pressure_changed()
        await self.clock.settle()

    async def end(self, name: str, code: int, *, container: str = "main") -> None:
        """The running container of a pod ends."""
        self.runtime.end(self.running(name, container).id, code)
        await self.clock.settle()

    def running(self, name: str, container: str = "main") -> ContainerRecord:
        """The one running container of that name in the pod."""
        [found] = self.runs(name, container)
        return found

    def runs(self, name: str, container: str = "main") -> list[ContainerRecord]:
        """The running containers of that name in the pod."""
        return [
            c
            for c in self.runtime.running()
            if (c.labels["io.edgeagent.pod.name"], c.labels[LABEL_CONTAINER]) == (name, container)
        ]

    def status(self, name: str) -> PodStatus:
        """The pod's status as the node knows it."""
        found = self.manager.find("default", name)
        assert found is not None, f"no pod {name}"
        return found.status

    def container(self, name: str, container: str = "main") -> ContainerStatus:
        """One container's status."""
        [found] = [c for c in self.status(name).container_statuses if c.name == container]
        return found

    def waiting(self, name: str, container: str = "main") -> tuple[str, str]:
        """Reason and message of a container that waits."""
        state = self.container(name, container).state.waiting
        assert state is not None, self.container(name, container).state
        return state.reason, state.message

    def condition(self, name: str, kind: str = "Ready") -> Condition:
        """One condition of the pod."""
        [found] = [c for c in self.status(name).conditions if c.type == kind]
        return found

    def calls(self, method: str = "") -> int:
        """How often the runtime was asked, for anything or for one method."""
        return sum(1 for name, _ in self.runtime.log if method in ("", name))

    def fail(self, method: str, error: EdgeAgentError | Exception, times: int = 1000) -> None:
        """Let the next calls of ``method`` fail."""
        self.runtime.failures[method] = [error] * times

    def heal(self) -> None:
        """No call fails any more."""
        self.runtime.failures.clear()

    def said(self, reason: str) -> list[Event]:
        """The events with this reason, oldest first."""
        events = [decode_json(item.body, Event) for item in self.outbox.first(10_000)]
        return [event for event in events if event.reason == reason]
