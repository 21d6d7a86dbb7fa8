"""Keeps the node's network as it should be: attaches pods, and has the plugin reconcile after each change."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.network import Attachment, NetworkReport, NetworkState, PodSandbox, Problem
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.events import EventRecorder
from edgeagent.node.network.localpods import LocalPods, Remembered
from edgeagent.node.network.state import StateBuilder, Uplinked
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

START_SECONDS = 5.0
"""How long, at most, the first look waits to learn what the agent before this one left in force."""
ANSWER_SECONDS = 10.0
"""How long the broker may take to answer, where something that may cost it is on trial."""
RETRY_FIRST_SECONDS = 1.0
RETRY_CEILING_SECONDS = 60.0


class Plugin(Protocol):
    """The network plugin, as the core calls it."""

    async def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's namespace and addresses."""

    async def detach(self, pod: PodSandbox) -> None:
        """Give back what ``attach`` made."""

    async def reconcile(self, state: NetworkState) -> NetworkReport:
        """Make the network as ``state`` says."""


class NetworkKeeper:
    """One for the agent, on its loop. A pod's containers start once the network knows the pod.

    ``objects`` are all desired ones, ``pods`` those that should run, with their statuses, and ``remembered``
    those that should not and run still. ``answers`` asks the broker, and waits for so many seconds at most: a
    connection that leads nowhere any more looks as it did for as long as keep-alive takes. ``problem`` says
    why the network is not as it should be, if so; ``report`` is the plugin's last. ``dns``: where pods ask
    for names, None until the first look; ``on_dns`` is called when it is another.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        node: str,
        clock: Clock,
        rng: random.Random,
        events: EventRecorder,
        objects: Callable[[], Iterable[KubernetesObject]],
        pods: Callable[[], Iterable[tuple[Pod, PodStatus]]],
        remembered: Callable[[], Iterable[Remembered]],
        uplinked: Callable[[], Uplinked],
        answers: Callable[[float], Awaitable[bool]],
        on_change: Callable[[], None],
        on_dns: Callable[[], None],
        resync_seconds: float,
    ) -> None:
        self._plugin = plugin
        self._clock = clock
        self._events = events
        self._objects = objects
        self._pods = pods
        self._remembered = remembered
        self._uplinked = uplinked
        self._answers = answers
        self._on_change = on_change
        self._on_dns = on_dns
        self._resync_seconds = resync_seconds
        self._builder = StateBuilder(node)
        self._local = LocalPods()
        self._attached: dict[str, list[str]] = {}
        self._adopted: dict[str, PodSandbox] = {}
        self._known = asyncio.Event()
        self._folder_read = asyncio.Event()
        self._backoff = Backoff(rng, first=RETRY_FIRST_SECONDS, ceiling=RETRY_CEILING_SECONDS)
        self._wanted = 0
        self._done = 0
        self._moved = asyncio.Condition()
        self._woken = asyncio.Event()
        self._said: set[Problem] = set()
        self.problem: tuple[str, str] | None = ("NetworkNotReady", "the network was not looked at yet")
        self.report = NetworkReport()
        self.dns: Sequence[str] | None = None

    def wake(self) -> None:
        """Something may have changed: a pod's status, desired state, the connection to the broker."""
        self._wanted += 1
        self._woken.set()

    def folder_changed(self) -> None:
        """The objects of the node's own folder are known, or are others now."""
        self._folder_read.set()
        self.wake()

    def adopt(self, pods: Sequence[PodSandbox]) -> None:
        """These ran before this process began: what is in force for them stays until they are looked at."""
        self._adopted = {pod.uid: pod for pod in pods}
        self._known.set()

    async def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's place on the network, with services and policies in force for it.

        TemporaryError or PermanentError where it cannot be had, or where these cannot be put in force.
        """
        runs = self._adopted.pop(pod.uid, None) is not None
        if not runs:
            await self._settled(0 if self._done else self._wanted or self._ask())
        attachment = await self._plugin.attach(pod)
        if self._attached.get(pod.uid) != attachment.ips:
            self._attached[pod.uid] = attachment.ips
            asked = self._ask()
            if not runs:
                await self._settled(asked)
        return attachment

    async def detach(self, pod: PodSandbox) -> None:
        """Give the pod's place back."""
        self._adopted.pop(pod.uid, None)
        if self._attached.pop(pod.uid, None) is not None:
            self.wake()
        await self._plugin.detach(pod)

    def _ask(self) -> int:
        self.wake()
        return self._wanted

    async def _settled(self, wanted: int) -> None:
        """Wait until what was asked for as number ``wanted`` was tried; raise what kept it from success."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._done >= wanted)
        if self.problem is not None:
            raise TemporaryError(f"the network is not ready: {self.problem[1]}", reason="NetworkNotReady")

    async def run(self) -> None:
        """Until cancelled: reconcile whenever woken, and now and then."""
        await self._begin()
        while True:
            self._woken.clear()
            number = self._wanted
            pause = await self._reconcile()
            async with self._moved:
                self._done = number
                self._moved.notify_all()
            await self._pause(pause, self._woken)

    async def _begin(self) -> None:
        """Wait until as much is known as the agent before knew, lest that be taken back for a moment."""
        due = self._clock.monotonic() + START_SECONDS
        await self._pause(START_SECONDS, self._known)
        await self._pause(due - self._clock.monotonic(), self._folder_read)
        for pod in list(self._adopted.values()):
            try:
                self._attached[pod.uid] = (await self._plugin.attach(pod)).ips
            except EdgeAgentError as error:
                log.warning("the network of pod %s/%s: %s", pod.namespace, pod.name, error)
        unseen = set(self._attached)
        while unseen and (left := due - self._clock.monotonic()) > 0:
            self._woken.clear()
            unseen &= {pod.metadata.uid for pod, status in self._pods() if status.phase == "Unknown"}
            if unseen:
                await self._pause(left, self._woken)

    async def _pause(self, seconds: float, until: asyncio.Event) -> None:
        waiters = [
            asyncio.ensure_future(until.wait()),
            asyncio.ensure_future(self._clock.sleep(max(0.0, seconds))),
        ]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _reconcile(self) -> float:
        """Once; the seconds after which to do it again though nobody asks."""
        uplinked = self._uplinked()
        if uplinked.connected and self.report.on_trial:
            uplinked = replace(uplinked, connected=await self._answers(ANSWER_SECONDS))
        local = self._local.look(self._pods(), self._attached, self._remembered())
        state = self._builder.build(self._objects(), local, uplinked)
        try:
            report = await self._plugin.reconcile(state)
        except EdgeAgentError as error:
            self._say((getattr(error, "reason", "") or "NetworkFailed", str(error)))
            delay = error.delay if isinstance(error, TemporaryError) else None
            return max(delay or 0.0, self._backoff.next())
        self._backoff.reset()
        self._say(None)
        self._tell(report.problems)
        changed = report != self.report
        self.report = report
        if self.dns != report.dns:
            self.dns = report.dns
            self._on_dns()
        if changed:
            self._on_change()
        return report.retry_after or self._resync_seconds

    def _say(self, problem: tuple[str, str] | None) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem is not None:
                log.warning("the network is not as it should be: %s", problem[1])
            self._on_change()

    def _tell(self, problems: Iterable[Problem]) -> None:
        """An event for each problem that is new."""
        now = set(problems)
        for one in sorted(now - self._said, key=lambda p: (p.kind, p.namespace, p.name, p.reason)):
            about = ObjectReference(kind=one.kind, namespace=one.namespace, name=one.name)
            self._events.record(about, "Warning", one.reason, one.message)
        self._said = now
