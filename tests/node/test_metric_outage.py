"""A day without a link, and then a real Prometheus that has no gap; and kills at any moment on the way."""

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import TemporaryError
from edgeagent.api.metrics import FamilyHead, MetricFamily, Sample, SampleBatch, Series
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.exporting import HubExporter
from edgeagent.node.telemetry.metricflow import FlowSettings, MetricFlow
from edgeagent.testing.clock import ManualClock
from edgeagent_metrics.remotewrite import RemoteWriteExporters
from edgeagent_metrics.remotewriteconfig import RemoteWriteConfig
from tests.node.metrickit import InlineSpool
from tests.support.hubrun import HubDirectory
from tests.support.proc import Process
from tests.support.prometheus import Prometheus
from tests.support.remotewritereceiver import RemoteWriteReceiver
from tests.support.waiting import wait_for, wait_for_async

DAY = 86_400
STEP = 120
SETTINGS = FlowSettings(
    resolution=60.0, thin_after=7200.0, thinned_resolution=float(STEP), rate=1 << 20, offset=7.0
)


class Link:
    """The plugin's exporters, behind a link that may be cut. Calls are made at once."""

    plugin = "metrics"

    def __init__(self, url: str) -> None:
        self.up = False
        self._exporters = RemoteWriteExporters([RemoteWriteConfig(name="central", url=url)], node="n1")

    async def names(self) -> list[str]:
        """As the plugin says."""
        return self._exporters.names()

    async def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """As the plugin does, while the link is up."""
        if not self.up:
            raise TemporaryError("no link")
        return self._exporters.export(exporter, batch)

    def close(self) -> None:
        """No more is sent."""
        self._exporters.close()


class Metrics:
    """Two counters and a series that is there for an hour only."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.times: list[float] = []

    async def gather(self) -> list[MetricFamily]:
        """What there is now; the values are the time itself."""
        now = self._clock.now()
        self.times.append(now)
        samples = [Sample(now, {"n": "1"}), Sample(now / 2, {"n": "2"})]
        if DAY / 2 < now - self.times[0] < DAY / 2 + 3600:
            samples.append(Sample(now, {"n": "short"}))
        return [MetricFamily("edge_seconds_total", "counter", "The time.", samples)]


def spool_in(folder: Path, clock: ManualClock) -> InlineSpool:
    def open_spool(path: Path) -> Spool:
        budgets = {"metrics": 16 << 20, "logs": 32 << 20}
        return Spool(path, budgets, boot_id="boot", now=clock.now())

    return InlineSpool(folder / "telemetry.db", open_spool)


def check_no_gap(prometheus: Prometheus, metrics: Metrics, selector: str) -> None:
    """At each step there is the value of that time; each sample is one that was gathered, and there once."""
    first, last = metrics.times[0], metrics.times[-1]
    start, end = (int(first) // STEP + 1) * STEP, int(last) // STEP * STEP
    (found,) = prometheus.query_range(f'{selector}{{n="1"}}', start, end, STEP).values()
    assert list(found) == [float(at) for at in range(start, end + 1, STEP)]
    assert all(0 <= at - value <= STEP for at, value in found.items())
    (raw,) = prometheus.samples(f'{selector}{{n="1"}}', last + 1, 2 * DAY).values()
    times = [at for at, _ in raw]
    assert times == sorted(set(times))
    assert all(abs(at - value) < 0.001 for at, value in raw)
    assert {round(at, 3) for at in times} <= {round(at, 3) for at in metrics.times}
    assert len(times) < len(metrics.times) * 0.6
    # A counter rises as it did, by a second a second; where the resolution changes, Prometheus has to guess.
    (rates,) = prometheus.query_range(f'rate({selector}{{n="1"}}[10m])', start + 600, end, STEP).values()
    assert len(rates) == (end - start - 600) // STEP + 1
    assert all(abs(rate - 1) < 0.2 for rate in rates.values())
    assert sum(abs(rate - 1) < 0.001 for rate in rates.values()) > 0.95 * len(rates)
    # What ended half a day ago has ended.
    (short,) = prometheus.query_range(f'{selector}{{n="short"}}', start, end, STEP).values()
    assert max(short) <= first + DAY / 2 + 3600 + STEP
    assert 3600 / STEP - 2 <= len(short) <= 3600 / STEP + 2


def test_a_day_is_in_prometheus_without_a_gap(tmp_path: Path) -> None:
    async def work() -> None:
        clock = ManualClock(time.time() - DAY - 600)
        metrics, link = Metrics(clock), Link(prometheus.write_url)
        flow = MetricFlow(
            metrics.gather, [link], [], spool_in(tmp_path, clock), SETTINGS,
            clock=clock, rng=random.Random(1), on_refused=lambda name, text: None,
        )  # fmt: skip
        task = asyncio.create_task(flow.run())
        await clock.advance(DAY)
        link.up = True
        await clock.advance(590)
        (shipper,) = flow.shippers
        assert shipper.sent.rejected == 0
        assert shipper.latest == pytest.approx(metrics.times[-1], abs=0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        link.close()
        await asyncio.to_thread(check_no_gap, prometheus, metrics, "edge_seconds_total")

    with Prometheus(tmp_path / "prometheus", out_of_order="2d") as prometheus:
        prometheus.wait_ready()
        # It has newer samples of others already, as where other nodes were not away.
        other = RemoteWriteExporters([RemoteWriteConfig(name="x", url=prometheus.write_url)], node="other")
        batch = SampleBatch(
            families=[FamilyHead("up", "gauge", "")],
            series=[Series(0, {}, [round(time.time() * 1000)], [1.0])],
        )
        assert other.export("x", batch) == Delivery()
        other.close()
        asyncio.run(work())


def test_a_day_by_way_of_broker_and_hub_is_in_prometheus_without_a_gap(tmp_path: Path) -> None:
    async def work() -> None:
        clock = ManualClock(time.time() - DAY - 600)
        metrics = Metrics(clock)
        async with hub.hub(), hub.peer("n1") as peer:
            connected = False

            async def publish(payload: bytes) -> None:
                # In the real world's time, which the clock of this test waits for.
                under_way.append(payload)
                try:
                    await peer.session.publish(hub.topics.metrics("n1"), payload)
                finally:
                    under_way.pop()

            def limit() -> int:
                connection = peer.session.connection
                return min(20_000, connection.payload_limit) if connected and connection else 0

            under_way: list[bytes] = []
            flow = MetricFlow(
                metrics.gather, [], [HubExporter(publish, limit)], spool_in(tmp_path, clock), SETTINGS,
                clock=clock, rng=random.Random(1), on_refused=lambda name, text: None,
            )  # fmt: skip
            task = asyncio.create_task(flow.run())
            await clock.advance(DAY)
            connected = True
            for _ in range(59):
                await clock.advance(10)
                await wait_for_async(lambda: not under_way, what="the broker has it")
            await wait_for_async(
                lambda: flow.shippers[0].latest == round(metrics.times[-1], 3), what="all is sent"
            )
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            last = metrics.times[-1]
            await wait_for_async(
                lambda: asyncio.to_thread(lambda: prometheus.samples("edge_seconds_total", last + 1, 30)),
                timeout=60, what="all is passed on",
            )  # fmt: skip
        await asyncio.to_thread(check_no_gap, prometheus, metrics, "edge_seconds_total")

    with (
        HubDirectory(tmp_path) as hub,
        Prometheus(tmp_path / "prometheus", out_of_order="2d") as prometheus,
    ):
        prometheus.wait_ready()
        (hub.files.root / "metrics.toml").write_text(f'[remote_write]\nurl = "{prometheus.write_url}"\n')
        hub.add_node("n1")
        asyncio.run(work())


@pytest.mark.slow
def test_killed_at_any_moment_what_was_on_disk_arrives_and_nothing_comes_twice(tmp_path: Path) -> None:
    """Ten minutes pass in a third of a second. What a kill may cost is what was gathered in the last ten."""
    chance = random.Random()
    start = float(int(time.time()) - DAY)
    with RemoteWriteReceiver() as receiver:
        argv = [
            sys.executable, "-m", "tests.node.metricday", str(tmp_path), f"{receiver.url}/write", str(start),
            "2000",
        ]  # fmt: skip
        paths = os.pathsep.join([str(Path.cwd()), str(Path.cwd() / "plugins")])
        node = Process(argv, log=tmp_path / "log", env={**os.environ, "PYTHONPATH": paths})
        kills: list[float] = []
        for n in range(8):
            (receiver.gate.clear if n % 2 else receiver.gate.set)()
            node.start()
            wanted = _size(tmp_path) + 20 * chance.randrange(1, 60)
            wait_for(partial(_larger, tmp_path, wanted), timeout=30, what="it gathers")
            node.kill()
            kills.append(float((tmp_path / "gathered").read_text().splitlines()[-1]))
        receiver.gate.set()
        node.start()
        gathered = wait_for(lambda: _lines(tmp_path, kills[-1] + 1800), timeout=60, what="half an hour more")
        last = gathered[-1]
        key = json.dumps(
            {"__name__": "edge_m", "n": "1", "job": "edgeagent", "instance": "n1"}, sort_keys=True
        )
        wait_for(
            lambda: max(receiver.series.get(key, {0: 0.0})) >= round(last * 1000) - 60_000,
            timeout=60, what="all arrives",
        )  # fmt: skip
        node.kill()
        times = set(receiver.series[key])
        for at in gathered:
            lost = any(0 <= kill - at <= 630 for kill in kills) or last - at <= 120
            step = -(-round(at * 1000) // 120_000)
            assert lost or any(-(-time // 120_000) == step for time in times), f"{at - start} is lost"
        # At its time each sample has one value (the receiver sees to that), and it is one that was gathered.
        assert all(abs(value - 1 - at / 1000) < 30 for at, value in receiver.series[key].items())


def _larger(folder: Path, size: int) -> bool:
    return _size(folder) > size


def _size(folder: Path) -> int:
    path = folder / "gathered"
    return path.stat().st_size if path.exists() else 0


def _lines(folder: Path, least: float) -> list[float]:
    found = [float(line) for line in (folder / "gathered").read_text().splitlines()]
    return found if found[-1] >= least else []


def test_while_all_goes_well_no_byte_is_written() -> None:
    async def work(folder: Path) -> None:
        clock = ManualClock(time.time() - DAY)
        metrics, link = Metrics(clock), Link(f"{receiver.url}/write")
        link.up = True
        flow = MetricFlow(
            metrics.gather, [link], [], spool_in(folder, clock), SETTINGS,
            clock=clock, rng=random.Random(1), on_refused=lambda name, text: None,
        )  # fmt: skip
        task = asyncio.create_task(flow.run())
        await clock.advance(3600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        link.close()
        assert os.listdir(folder) == []
        assert len(metrics.times) == 60
        assert all(len(samples) == 60 for samples in receiver.series.values())

    with RemoteWriteReceiver(strict=True) as receiver, tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))
