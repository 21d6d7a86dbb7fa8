"""A node's logs in memory: the real flow and a real spool, with a source and a sink that do as told."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.logs import LogBatch, LogChunk, LogOrigin, LogRecord, LogTarget
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.testing.clock import ManualClock

T = TypeVar("T")


def origin_of(line: str) -> LogOrigin:
    """A line's first word names its container."""
    return LogOrigin(namespace="default", pod="web", container="main", container_id=line.partition(" ")[0])


TARGETS = [LogTarget(origin=origin_of("line"), path="/log")]


class InlineSpool(SpoolThread):
    """Does its work at once, so that a manual clock knows when all is done."""

    async def call(self, work: Callable[[Spool], T]) -> T:
        """A turn of the loop later."""
        await asyncio.sleep(0)
        return self._do(work)


class Lines:
    """A source of ``lines``, which outlive it as a container's log does."""

    plugin = "lines"

    def __init__(self, lines: list[str], news: asyncio.Event) -> None:
        self.lines = lines
        self.news = news
        self.told: list[list[LogTarget]] = []
        self.at = 0
        self.at_once = 3
        self.fails: deque[EdgeAgentError] = deque()

    async def resume(self, positions: dict[str, str]) -> None:
        """From what is kept."""
        self.at = int(positions.get("c1", "0"))

    async def reconcile(self, targets: list[LogTarget]) -> None:
        """Noted."""
        self.told.append(targets)

    async def read(self) -> LogChunk:
        """Some lines at a time."""
        while self.at == len(self.lines):
            self.news.clear()
            await self.news.wait()
        if self.fails:
            raise self.fails.popleft()
        end = min(len(self.lines), self.at + self.at_once)
        origins = [origin_of(line) for line in self.lines[self.at : end]]
        records = [LogRecord(n, n - self.at, "stdout", self.lines[n]) for n in range(self.at, end)]
        self.at = end
        return LogChunk(batch=LogBatch(origins=origins, records=records), positions={"c1": str(end)})


class Receiver:
    """A sink that keeps what it got by the records' ids. ``faults`` are what happens to the next batches."""

    plugin = "sinks"

    def __init__(self) -> None:
        self.got: dict[str, str] = {}
        self.rejected: set[str] = set()
        self.faults: deque[str] = deque()

    async def names(self) -> list[str]:
        """One."""
        return ["first"]

    async def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """With the next of the faults."""
        assert sink == "first"
        fault = self.faults.popleft() if self.faults else ""
        places = range(len(batch.records))
        if fault == "temporary":
            raise TemporaryError("busy", delay=7.0)
        if fault == "permanent":
            raise PermanentError("the password is refused")
        retry = [place for place in places if place % 2] if fault == "retry" else []
        rejected = {place: "mapping" for place in places if place % 3 == 0} if fault == "reject" else {}
        for place in places:
            if place in retry:
                continue
            record = batch.records[place]
            assert batch.origins[record.origin] == origin_of(record.body)
            if place in rejected:
                self.rejected.add(record.body)
            else:
                key = f"{stream}-{first + place}"
                assert self.got.setdefault(key, record.body) == record.body, "one id stands for two lines"
        if fault == "lost answer":
            raise TemporaryError("reset after the batch had arrived")
        return Delivery(retry=retry, rejected=rejected)


class World:
    """A node's logs, which may be killed and started again."""

    def __init__(self, folder: Path, *, budget: int = 1_000_000, rate: float = 1_000_000) -> None:
        self.budget = budget
        self.rate = rate
        self.path = folder / "telemetry.db"
        self.clock = ManualClock()
        self.news = asyncio.Event()
        self.lines: list[str] = []
        self.receiver = Receiver()
        self.refused: list[tuple[str, str]] = []
        self.boot = 1
        self.start()

    def start(self) -> None:
        """A new process."""
        self.source = Lines(self.lines, self.news)
        self.spool = InlineSpool(
            self.path, lambda path: Spool(path, {"logs": self.budget}, boot_id=str(self.boot), now=5.0)
        )
        self.flow = LogFlow(
            [self.source], [self.receiver], self.spool, targets=lambda: TARGETS, clock=self.clock,
            rng=random.Random(1), rate=self.rate, on_refused=lambda *said: self.refused.append(said),
        )  # fmt: skip
        self.task = asyncio.get_running_loop().create_task(self.flow.run())

    async def kill(self) -> None:
        """At once."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if (spool := self.spool.opened) is not None:
            spool.close()

    def write(self, count: int, container: str = "line", *, size: int = 0) -> None:
        """More lines, of that many characters and those that number them."""
        self.lines += [f"{container} {len(self.lines) + n}{'.' * size}" for n in range(count)]
        self.news.set()
