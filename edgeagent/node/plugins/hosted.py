"""One plugin as the host runs it: its lane, its health, and its service if it has one."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from random import Random

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.metrics import Gather
from edgeagent.api.objects.node import PluginStatus
from edgeagent.node.plugins.contract import SERVICE
from edgeagent.node.plugins.discovery import Discovered
from edgeagent.node.plugins.faults import LaneInterrupted, PluginFault
from edgeagent.node.plugins.health import Health, jitter
from edgeagent.node.plugins.lane import MAX_ABANDONED, Lane, ThreadLane
from edgeagent.node.plugins.loading import LoadedPlugin
from edgeagent.node.plugins.process_lane import ProcessLane
from edgeagent.node.plugins.target import Place, Targets

log = logging.getLogger(__name__)

SERVICE_START_SECONDS = 60.0
SERVICE_STOP_SECONDS = 15.0
STEADY_SECONDS = 300.0
"""A service that ran for so long is restarted as if for the first time."""


class HostedPlugin:
    """Calls go through here: refused while the plugin is in Backoff, and their outcome is its health.

    ``calls`` counts those that its lane was given, ``faults`` those of them in which the plugin failed.
    """

    def __init__(
        self,
        found: Discovered,
        loaded: LoadedPlugin,
        place: Place,
        *,
        memory_bytes: int,
        clock: Clock,
        random: Random,
        on_change: Callable[[], None],
        gather: Gather | None = None,
    ) -> None:
        self.name = loaded.name
        self.loaded = loaded
        self._found = found
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._gather = gather
        self.health = Health(loaded.name, clock, random, on_change)
        self.lane: Lane = self._make_lane(place)
        self._lost = asyncio.Event()
        self._service_problem = ""
        self.calls = 0
        self.faults = 0
        self._service_begun = False
        self._service_task: asyncio.Task[None] | None = None

    def _make_lane(self, place: Place) -> Lane:
        loaded, spec = self.loaded, self.loaded.info.lane
        if spec.isolation == "process":
            return ProcessLane(
                loaded.name,
                spec,
                entry_point=loaded.entry_point,
                place=place,
                section=loaded.section,
                on_lost=lambda _why: self._lost.set(),
            )
        context = partial(place.context, loaded.config, gather=self._gather)
        return ThreadLane(loaded.name, spec, Targets(loaded.hooks, context))

    async def call(self, hook: str, method: str, args: tuple[object, ...] = (), *, deadline: float) -> object:
        """``Lane.call``, with TemporaryError(reason="PluginBackoff") while the plugin is left alone."""
        self.health.admit()
        self.calls += 1
        try:
            result = await self.lane.call(hook, method, args, deadline=deadline)
        except PluginFault as error:
            log.warning("plugin %s: %s", self.name, error)
            self.faults += 1
            self.health.faulted(str(error))
            if self.lane.load().abandoned >= MAX_ABANDONED:
                self.health.fail(f"{MAX_ABANDONED} of its calls hang for good; restart the agent: {error}")
            raise
        except LaneInterrupted:
            raise
        except EdgeAgentError:
            self.health.answered()
            raise
        self.health.succeeded()
        return result

    def status(self) -> PluginStatus:
        """The plugin as a person sees it."""
        load = self.lane.load()
        state, reason = self.health.state, self.health.reason
        if self._service_problem and state not in ("Backoff", "Failed", "Stopped"):
            state, reason = "Failed", self._service_problem
        if load.abandoned and state != "Failed":
            hang = "1 thread hangs" if load.abandoned == 1 else f"{load.abandoned} threads hang"
            reason = f"{reason}; {hang}" if reason else hang
        return PluginStatus(
            name=self.name,
            distribution=self._found.distribution,
            version=self._found.version or self.loaded.info.version,
            state=state,
            reason=reason,
            lane=self.loaded.info.lane.isolation,
            queued=load.queued,
            busy=load.busy,
            memory_bytes=self._memory_bytes,
        )

    def start_service(self) -> None:
        """Begin to supervise the plugin's service, if it has one; returns at once."""
        if SERVICE in self.loaded.hooks and self._service_task is None and self.health.state != "Failed":
            self._service_task = asyncio.get_running_loop().create_task(
                self._supervise(), name=f"service-{self.name}"
            )

    async def _supervise(self) -> None:
        attempt = 0
        while True:
            began = self._clock.monotonic()
            pause = None
            self._lost.clear()
            try:
                self.lane.hold(True)
                self._service_begun = True
                await self.call(SERVICE, "start", deadline=SERVICE_START_SECONDS)
            except PermanentError as error:
                log.error("the service of plugin %s cannot be started: %s", self.name, error)
                await self._stop_service()
                self._service_problem = str(error)
                self._on_change()
                return
            except TemporaryError as error:
                log.warning("the service of plugin %s did not start: %s", self.name, error)
                pause = error.delay
                await self._stop_service()
                if self.health.state == "Failed":
                    return
            else:
                await self._lost.wait()
                self._service_begun = False
                log.warning("the service of plugin %s ended with its process", self.name)
                if self._clock.monotonic() - began >= STEADY_SECONDS:
                    attempt = 0
            await self._clock.sleep(max(pause or 0.0, jitter(self._random, attempt)))
            attempt += 1

    async def _stop_service(self) -> None:
        """Also after a failed start, provided that what was started is still there to be stopped."""
        if self._service_begun and self.lane.alive:
            try:
                async with asyncio.timeout(SERVICE_STOP_SECONDS):  # with the wait behind other calls
                    await self.lane.call(SERVICE, "stop", deadline=SERVICE_STOP_SECONDS)
            except (EdgeAgentError, TimeoutError) as error:
                log.warning("the service of plugin %s did not stop: %s", self.name, error)
        self._service_begun = False
        self.lane.hold(False)

    async def stop(self) -> None:
        """Stop the service, then the lane."""
        if (task := self._service_task) is not None:
            self._service_task = None
            task.cancel()
            await asyncio.wait([task])
            await self._stop_service()
        self.health.stop()
        await self.lane.stop()
