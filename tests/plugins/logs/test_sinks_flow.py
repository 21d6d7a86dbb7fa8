"""From a source by way of the core's spool to all kinds of sinks at once: nothing is lost, whatever fails."""

import asyncio
import random
from contextlib import ExitStack, closing
from pathlib import Path

from edgeagent.api.clock import SystemClock
from edgeagent.api.delivery import Delivery
from edgeagent.api.logs import LogBatch, LogChunk, LogRecord, LogTarget
from edgeagent.api.objects.decode import convert
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.sinks import NodeLogSinks
from tests.plugins.logs.httpkinds import arrived
from tests.plugins.logs.sinkkit import NOW, POD
from tests.support import httpreceiver as faults
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import HttpReceiver
from tests.support.lokireceiver import LokiReceiver
from tests.support.otlpreceiver import OtlpReceiver, text_of
from tests.support.waiting import wait_for_async

COUNT = 1500
PASSING = [
    faults.says(429), faults.says(503, b"", Retry_After="30"), faults.resets_mid_request,
    faults.resets_mid_answer, faults.resets_before_answer, faults.cuts_the_answer, faults.cuts_a_chunk,
    faults.speaks_no_http, faults.hangs_up_later,
]  # fmt: skip


class QuickClock(SystemClock):
    """Whoever is to wait for minutes waits for a moment."""

    async def sleep(self, seconds: float) -> None:
        """A hundredth of a second at most."""
        await asyncio.sleep(min(seconds, 0.01))


class Lines:
    """A container's log of ``COUNT`` lines."""

    plugin = "lines"

    def __init__(self) -> None:
        self.at = 0

    async def resume(self, positions: dict[str, str]) -> None:
        """From what is kept."""
        self.at = int(positions.get("c", "0"))

    async def reconcile(self, targets: list[LogTarget]) -> None:
        """There is one."""

    async def read(self) -> LogChunk:
        """Fifty lines, and none after the last."""
        if self.at == COUNT:
            await asyncio.Event().wait()
        end = min(self.at + 50, COUNT)
        records = [LogRecord(NOW + n, 0, "stdout", f"line {n} {'x' * 300}") for n in range(self.at, end)]
        self.at = end
        return LogChunk(batch=LogBatch(origins=[POD], records=records), positions={"c": str(end)})


class InThreads:
    """The plugin's sinks as the core calls them."""

    plugin = "logs"

    def __init__(self, sinks: NodeLogSinks) -> None:
        self.sinks = sinks
        self.under_way: list[asyncio.Task[Delivery]] = []

    async def names(self) -> list[str]:
        """The configured sinks."""
        return self.sinks.names()

    async def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """In a thread; what was begun is ended, also where nobody waits for it any more."""
        task = asyncio.create_task(asyncio.to_thread(self.sinks.ship, sink, stream, first, batch))
        self.under_way.append(task)
        return await asyncio.shield(task)


async def flow_for(sinks: InThreads, folder: Path, seconds: float | None, done: list[HttpReceiver]) -> None:
    """Run the core's side: until it is killed after ``seconds``, or until every receiver has every line."""
    spool = SpoolThread(
        folder / "telemetry.db",
        lambda path: Spool(path, {"logs": 64_000_000}, boot_id="one", now=SystemClock().now()),
    )
    flow = LogFlow(
        [Lines()],
        [sinks],
        spool,
        targets=list,
        clock=QuickClock(),
        rng=random.Random(1),
        rate=100_000_000,
        on_refused=lambda *_: None,
    )
    task = asyncio.create_task(flow.run())
    if seconds is not None:
        await asyncio.wait([task], timeout=seconds)
    else:
        await wait_for_async(
            lambda: task.done() or all(len(set(arrived(one))) == COUNT for one in done),
            timeout=90,
            interval=0.2,
            what="every line at every sink",
        )
    task.cancel()
    await asyncio.gather(task, *sinks.under_way, return_exceptions=True)
    await spool.close()


def test_every_line_arrives_at_every_sink(tmp_path: Path) -> None:
    """While servers fail half of the time, and the agent is killed twice."""
    chance = random.Random(11)
    with ExitStack() as stack:
        search, loki = stack.enter_context(ElasticsearchReceiver()), stack.enter_context(LokiReceiver())
        collector = stack.enter_context(OtlpReceiver())
        search.item_fault = lambda *_: (429, "es_rejected") if chance.random() < 0.02 else None
        receivers: list[HttpReceiver] = [search, loki, collector]
        for one in receivers:
            one.faults.extend(chance.choice(PASSING) if chance.random() < 0.5 else None for _ in range(40))
        sections = [
            {"type": kind, "name": kind, "url": one.url, "max_request_bytes": 32_768, "timeout": 5}
            for kind, one in zip(("elasticsearch", "loki", "otlp"), receivers, strict=True)
        ]

        configs = convert({"sinks": sections}, LogsConfig).sinks

        async def main() -> None:
            for seconds in (0.5, 0.5, None):
                with closing(NodeLogSinks(configs, node="gateway-7", cluster="plant")) as made:
                    await flow_for(InThreads(made), tmp_path, seconds, receivers)

        asyncio.run(main())
        numbers = [int(text.split()[1]) for text in search.messages()]
        assert sorted(numbers) == list(range(COUNT))
        assert len({uid for index in search.documents.values() for uid in index}) == COUNT
        assert sorted(int(text.split()[1]) for text in loki.lines()) == list(range(COUNT))
        by_uid = {
            text_of(one.attributes, "log.record.uid"): one.body.string_value for _, one in collector.records
        }
        assert sorted(int(text.split()[1]) for text in by_uid.values()) == list(range(COUNT))
