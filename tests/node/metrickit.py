"""A node's metrics without the rest of the agent, on a clock that a test moves."""

import asyncio
import random
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.metrics import MetricFamily, Sample, SampleBatch
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.exporting import Exporter
from edgeagent.node.telemetry.metricflow import FlowSettings, MetricFlow
from edgeagent.node.telemetry.metricthinner import CLASS
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.testing.clock import ManualClock

T = TypeVar("T")
MINUTE = 60.0
DAY = 86_400.0
START = 1_800_000_000.0
SETTINGS = FlowSettings(
    resolution=60.0, thin_after=7200.0, thinned_resolution=300.0, rate=1 << 20, offset=20.0
)
BUDGETS = {"metrics": 16 << 20, "logs": 32 << 20}


class InlineSpool(SpoolThread):
    """Does its work at once, so that a manual clock knows when all is done. ``dead``: nothing works."""

    dead = False

    async def call(self, work: Callable[[Spool], T]) -> T:
        """At once."""
        await asyncio.sleep(0)
        if self.dead:
            raise TemporaryError("killed")
        return self._do(work)


class Receiver:
    """A plugin with one exporter. ``fault``: what happens to batches now. What comes is kept by series."""

    def __init__(self, plugin: str = "one") -> None:
        self.plugin = plugin
        self.fault = ""
        self.got: dict[str, dict[int, float]] = {}
        self.firsts: dict[str, list[int]] = {}
        self.repeats = 0
        self.calls = 0
        self.arrived: dict[tuple[str, int], float] = {}
        self.now: Callable[[], float] = lambda: 0.0
        self.names_fault: deque[EdgeAgentError] = deque()

    async def names(self) -> list[str]:
        """One."""
        if self.names_fault:
            raise self.names_fault.popleft()
        return ["central"]

    async def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """As the fault says."""
        assert exporter == "central"
        self.calls += 1
        await asyncio.sleep(0)
        if self.fault == "down":
            raise TemporaryError("no route", delay=1.0)
        if self.fault == "refused":
            raise PermanentError("who are you")
        places = range(len(batch.series))
        if self.fault == "half":
            self.fault = ""
            self._take(batch, [place for place in places if place % 2])
            return Delivery(retry=[place for place in places if not place % 2], delay=2.0)
        self._take(batch, list(places))
        if self.fault == "lost answer":
            self.fault = ""
            raise TemporaryError("reset")
        return Delivery()

    def _take(self, batch: SampleBatch, places: list[int]) -> None:
        for place in places:
            one = batch.series[place]
            assert one.times == sorted(set(one.times))
            key = one.labels["n"]
            known = self.got.setdefault(key, {})
            for time, value in zip(one.times, one.values, strict=True):
                if time in known:
                    self.repeats += 1
                else:
                    self.firsts.setdefault(key, []).append(time)
                    self.arrived[key, time] = self.now()
                known[time] = value


class Node:
    """A node whose agent starts, ends and is killed; time, disk and metrics outlive it."""

    def __init__(
        self,
        folder: Path,
        receivers: list[Receiver],
        *,
        settings: FlowSettings = SETTINGS,
        budgets: dict[str, int] = BUDGETS,
        series: int = 0,
    ) -> None:
        self.clock = ManualClock(START)
        self.path = folder / "telemetry.db"
        self.receivers = receivers
        self.own: list[Exporter] = []
        self.settings = settings
        self.budgets = budgets
        self.rng = random.Random(7)
        self.names: set[str] = {"a", "b"}
        self.more = series
        self.gathered: list[tuple[int, frozenset[str]]] = []
        self.gather_fails = False
        self.flow: MetricFlow | None = None
        self.spool: InlineSpool | None = None
        self.task: asyncio.Task[None] | None = None

    async def gather(self) -> list[MetricFamily]:
        """The series that there are, each with the time as its value."""
        if self.gather_fails:
            raise TemporaryError("busy")
        now = round(self.clock.now() * 1000)
        names = self.names | {f"x{n}" for n in range(self.more)}
        self.gathered.append((now, frozenset(names)))
        return [MetricFamily("m", "gauge", "h", [Sample(float(now), {"n": n}) for n in sorted(names)])]

    def open_spool(self, path: Path) -> Spool:
        """Always of one boot."""
        return Spool(path, self.budgets, boot_id="boot", now=self.clock.now())

    async def start(self) -> None:
        """An agent begins."""
        self.spool = InlineSpool(self.path, self.open_spool)
        for receiver in self.receivers:
            receiver.now = self.clock.now
        self.flow = MetricFlow(
            self.gather, self.receivers, self.own, self.spool, self.settings,
            clock=self.clock, rng=self.rng, on_refused=lambda name, text: None,
        )  # fmt: skip
        self.task = asyncio.create_task(self.flow.run())
        await self.clock.settle()

    async def end(self, *, kill: bool = False) -> None:
        """It ends, or is killed: then nothing more reaches the disk."""
        assert self.task is not None
        assert self.spool is not None
        self.spool.dead = kill
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self.spool.opened is not None:
            self.spool.opened.close()

    def held(self, name: str = CLASS) -> int:
        """Bytes on disk."""
        assert self.spool is not None
        return self.spool.opened.usage(name).bytes if self.spool.opened is not None else 0


def run(work: Callable[[Path], Coroutine[object, object, None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))
