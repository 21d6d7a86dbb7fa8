"""The startup, liveness and readiness probe of one run of one container."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Literal

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.probe import Probe
from edgeagent.node.pods.probes.actions import perform
from edgeagent.node.pods.probes.tally import Tally
from edgeagent.node.pods.probes.target import Outcome, ProbeTarget, failure

log = logging.getLogger(__name__)

Kind = Literal["Startup", "Liveness", "Readiness"]
_LAST: dict[Kind, tuple[bool, ...]] = {"Startup": (True, False), "Liveness": (False,), "Readiness": ()}
"""The verdicts after which a probe is not made any more."""


class ProbeFailure(msgspec.Struct, frozen=True):
    """Why a container has to be restarted. ``kind`` is ``Startup`` or ``Liveness``.

    ``message`` is that of the last attempt. ``grace_seconds`` replaces the pod's grace period, where set.
    """

    kind: Kind
    message: str
    grace_seconds: int | None = None


class ContainerProbes:
    """Probes one run of one container on the event loop, from ``start`` to ``close``.

    ``started``: the startup probe has succeeded, or there is none. ``ready``: started, and the readiness
    probe says so or there is none. ``failed`` is set once, when the startup or the liveness probe has
    reached its failure threshold; readiness is still probed then, until ``close``.

    ``target`` is asked before each attempt: the pod's address may change. ``started_at`` is when the
    container started, by ``clock``. ``on_change`` is called after any of the three has
    changed, ``on_remark`` with kind (``Readiness``) and outcome after each single attempt that failed, or
    succeeded with a warning. Both may call ``close``. ``limit`` bounds how many exec actions run at once,
    on the whole node.

    A container that was running before the agent started is ``resumed``: its first probes are spread over
    their periods, and it goes on as ``initially_started`` and ``initially_ready``, its last known state.
    """

    def __init__(
        self,
        container: Container,
        target: Callable[[], ProbeTarget],
        *,
        clock: Clock,
        rng: random.Random,
        started_at: float,
        on_change: Callable[[], None],
        on_remark: Callable[[str, Outcome], None],
        limit: asyncio.Semaphore,
        resumed: bool = False,
        initially_started: bool = False,
        initially_ready: bool = False,
    ) -> None:
        self.started = initially_started or container.startup_probe is None
        self.ready = self.started and (initially_ready or container.readiness_probe is None)
        self.failed: ProbeFailure | None = None
        self._container = container
        self._target = target
        self._clock = clock
        self._rng = rng
        self._started_at = started_at
        self._on_change = on_change
        self._on_remark = on_remark
        self._limit = limit
        self._resumed = resumed
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to probe; the first attempts may be due at once."""
        if self.started:
            self._start_others(self._resumed)
        elif (probe := self._container.startup_probe) is not None:
            self._spawn("Startup", probe, None, self._resumed)

    def close(self) -> None:
        """End all probing, attempts under way included. Nothing is called back afterwards."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def _start_others(self, jitter: bool) -> None:
        """Begin the probes that wait for the container to have started."""
        container = self._container
        if container.liveness_probe is not None:
            self._spawn("Liveness", container.liveness_probe, None, jitter)
        if container.readiness_probe is not None:
            self._spawn("Readiness", container.readiness_probe, self.ready or None, jitter)

    def _spawn(self, kind: Kind, probe: Probe, verdict: bool | None, jitter: bool) -> None:
        tally = Tally(max(1, probe.success_threshold), max(1, probe.failure_threshold), verdict)
        running = self._run(kind, probe, tally, self._first_delay(probe, jitter))
        name = f"{kind} probe of {self._container.name}"
        self._tasks.append(asyncio.get_running_loop().create_task(running, name=name))

    def _first_delay(self, probe: Probe, jitter: bool) -> float:
        # A clock that was put back must not make the delay longer than it is.
        running_for = max(0.0, self._clock.now() - self._started_at)
        delay = max(0.0, probe.initial_delay_seconds - running_for)
        return max(delay, self._rng.uniform(0, probe.period_seconds)) if jitter else delay

    async def _run(self, kind: Kind, probe: Probe, tally: Tally, delay: float) -> None:
        """Attempt after attempt, a period from start to start; a late one is made at once."""
        clock = self._clock
        due = clock.monotonic() + delay
        while True:
            if (pause := due - clock.monotonic()) > 0:
                await clock.sleep(pause)
            self._judge(kind, probe, tally, await self._attempt(kind, probe))
            if self._closed or tally.verdict in _LAST[kind]:
                return
            due = max(due + max(1, probe.period_seconds), clock.monotonic())

    async def _attempt(self, kind: Kind, probe: Probe) -> Outcome:
        timeout = max(1, probe.timeout_seconds)
        try:
            if probe.exec is None:
                return await perform(probe, self._target(), timeout)
            async with self._limit:
                return await perform(probe, self._target(), timeout)
        except Exception as error:
            log.exception("%s probe of container %s", kind, self._container.name)
            return failure(f"{type(error).__name__}: {error}", unknown=True)

    def _judge(self, kind: Kind, probe: Probe, tally: Tally, outcome: Outcome) -> None:
        if outcome.unknown:
            log.debug("%s probe of container %s: %s", kind, self._container.name, outcome.message)
            return
        before = (self.started, self.ready, self.failed)
        tally.count(outcome.success)
        match kind, tally.verdict:
            case "Readiness", verdict:
                self.ready = verdict is True
            case "Startup", True:
                self.started = True
                self.ready = self._container.readiness_probe is None
                self._start_others(jitter=False)
            case _, False:
                self.failed = ProbeFailure(kind, outcome.message, probe.termination_grace_period_seconds)
        if outcome.message or not outcome.success:
            self._on_remark(kind, outcome)
        if not self._closed and (self.started, self.ready, self.failed) != before:
            self._on_change()
