"""Keeps the node's network as it should be: attaches pods, and has the plugin reconcile after each change."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.network import Attachment, NetworkReport, NetworkState, PodSandbox, Problem
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.events import EventRecorder
from edgeagent.node.network.localpods import LocalPods
from edgeagent.node.network.state import StateBuilder, Uplinked
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

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

    ``objects`` are all desired ones, ``pods`` those that should run, with their statuses. ``problem`` says
    why the network is not as it should be, if so; ``report`` is the plugin's last.
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
        uplinked: Callable[[], Uplinked],
        on_change: Callable[[], None],
        resync_seconds: float,
    ) -> None:
        self._plugin = plugin
        self._clock = clock
        self._events = events
        self._objects = objects
        self._pods = pods
        self._uplinked = uplinked
        self._on_change = on_change
        self._resync_seconds = resync_seconds
        self._builder = StateBuilder(node)
        self._local = LocalPods()
        self._attached: dict[str, list[str]] = {}
        self._backoff = Backoff(rng, first=RETRY_FIRST_SECONDS, ceiling=RETRY_CEILING_SECONDS)
        self._wanted = 0
        self._done = 0
        self._moved = asyncio.Condition()
        self._woken = asyncio.Event()
        self._said: set[Problem] = set()
        self.problem: tuple[str, str] | None = None
        self.report = NetworkReport()

    def wake(self) -> None:
        """Something may have changed: a pod's status, desired state, the connection to the broker."""
        self._wanted += 1
        self._woken.set()

    async def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's place on the network, with services and policies in force for it.

        TemporaryError or PermanentError where it cannot be had, or where these cannot be put in force.
        """
        await self._settled(0 if self._done else self._wanted or self._ask())
        attachment = await self._plugin.attach(pod)
        if self._attached.get(pod.uid) != attachment.ips:
            self._attached[pod.uid] = attachment.ips
            await self._settled(self._ask())
        return attachment

    async def detach(self, pod: PodSandbox) -> None:
        """Give the pod's place back."""
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
        while True:
            self._woken.clear()
            number = self._wanted
            pause = await self._reconcile()
            async with self._moved:
                self._done = number
                self._moved.notify_all()
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        waiters = [
            asyncio.ensure_future(self._woken.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _reconcile(self) -> float:
        """Once; the seconds after which to do it again though nobody asks."""
        local = self._local.look(self._pods(), self._attached)
        state = self._builder.build(self._objects(), local, self._uplinked())
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
