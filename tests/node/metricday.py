"""A program that is a node's metrics without the rest of the agent, for tests that kill it.

``python -m tests.node.metricday FOLDER URL START SPEED`` gathers by a clock that began at START when the
folder was new, and runs SPEED times as fast as the real one. What was gathered is a line of ``gathered``.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path

from edgeagent.api.delivery import Delivery
from edgeagent.api.metrics import MetricFamily, Sample, SampleBatch
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.metricflow import FlowSettings, MetricFlow
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent_metrics.remotewrite import RemoteWriteExporters
from edgeagent_metrics.remotewriteconfig import RemoteWriteConfig

SETTINGS = FlowSettings(resolution=60.0, thin_after=7200.0, thinned_resolution=120.0, rate=1 << 20)


class FastClock:
    """Runs ``speed`` times as fast as the machine's, from ``start`` at the machine's time ``began``."""

    def __init__(self, start: float, began: float, speed: float) -> None:
        self._start, self._began, self._speed = start, began, speed

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since ``start``."""
        return (time.time() - self._began) * self._speed

    async def sleep(self, seconds: float) -> None:
        """Shorter than it seems."""
        await asyncio.sleep(seconds / self._speed)


class Threaded:
    """A plugin's exporters, each call in a thread, as a lane does it."""

    plugin = "metrics"

    def __init__(self, exporters: RemoteWriteExporters) -> None:
        self._exporters = exporters

    async def names(self) -> list[str]:
        """As the plugin says."""
        return self._exporters.names()

    async def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """In a thread."""
        return await asyncio.to_thread(self._exporters.export, exporter, batch)


async def main(folder: Path, url: str, start: float, speed: float) -> None:
    """Until killed."""
    began = folder / "began"
    if not began.exists():
        began.write_text(repr(time.time()))
    clock = FastClock(start, float(began.read_text()), speed)
    log = (folder / "gathered").open("a")

    async def gather() -> list[MetricFamily]:
        value = clock.now()
        log.write(json.dumps(value) + "\n")
        log.flush()
        samples = [Sample(value + n, {"n": str(n)}) for n in range(20)]
        return [MetricFamily("edge_m", "gauge", "h", samples)]

    def open_spool(path: Path) -> Spool:
        return Spool(path, {"metrics": 1 << 24, "logs": 1 << 20}, boot_id="boot", now=clock.now())

    config = RemoteWriteConfig(name="central", url=url, timeout_seconds=5.0)
    flow = MetricFlow(
        gather, [Threaded(RemoteWriteExporters([config], node="n1"))], [],
        SpoolThread(folder / "telemetry.db", open_spool), SETTINGS,
        clock=clock, rng=random.Random(), on_refused=lambda name, text: None,
    )  # fmt: skip
    await flow.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
