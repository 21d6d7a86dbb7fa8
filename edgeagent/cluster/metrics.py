"""HubMetrics: what the hub does with the metrics that nodes send, as ``metrics.toml`` says.

The newest are shown at ``/metrics``; all of them are passed on by remote_write. May not judge who is a
member.
"""

import asyncio
import logging
import random

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.metricsconfig import load_metrics_config
from edgeagent.cluster.metricsforwarder import MetricsForwarder
from edgeagent.cluster.metricsnewest import NewestMetrics
from edgeagent.cluster.metricspage import Own, render, render_own
from edgeagent.cluster.metricsqueue import MetricsQueue
from edgeagent.cluster.metricsserver import MetricsServer
from edgeagent.wire.metricblock import read_head

log = logging.getLogger(__name__)


class HubMetrics:
    """``wanted``: whether nodes' metrics are of any use here. All methods on the loop."""

    def __init__(self, files: HubFiles, *, clock: Clock, rng: random.Random) -> None:
        """PermanentError where ``metrics.toml``, the queue or the address cannot be used."""
        config = load_metrics_config(files.metrics)
        self.wanted = config.wanted
        self._newest = NewestMetrics()
        self._refused = 0
        self._lost = 0
        self._disk_problem = ""
        self._queue: MetricsQueue | None = None
        self._forwarder: MetricsForwarder | None = None
        self._server: MetricsServer | None = None
        if (remote_write := config.remote_write) is not None:
            self._queue = queue = MetricsQueue(files.metrics_queue, remote_write.queue_bytes)
            self._forwarder = MetricsForwarder(remote_write, queue, clock=clock, rng=rng)
        if config.listen is not None:
            self._server = MetricsServer(config.listen, self._page)

    def receive(self, node: str, payload: bytes) -> None:
        """A message of a member. One that cannot be read changes nothing."""
        try:
            read_head(payload)
            if self._server is not None:
                self._newest.add(node, payload)
        except EdgeAgentError as error:
            self._refused += 1
            log.warning("metrics of node %s cannot be used: %s", node, error)
            return
        if self._queue is not None and self._forwarder is not None:
            try:
                self._queue.add(node, payload)
            except EdgeAgentError as error:
                self._lost += 1
                if str(error) != self._disk_problem:
                    log.error("metrics of nodes are lost: %s", error)
                self._disk_problem = str(error)
                return
            self._disk_problem = ""
            self._forwarder.wake()

    def forget(self, node: str) -> None:
        """It is no member any more."""
        self._newest.forget(node)
        if self._queue is not None:
            try:
                self._queue.forget(node)
            except EdgeAgentError as error:
                log.error("how far metrics of node %s came is not forgotten: %s", node, error)

    async def run(self) -> None:
        """Pass on what there is, until cancelled."""
        if self._forwarder is not None:
            await self._forwarder.run()
        await asyncio.Event().wait()

    def close(self) -> None:
        """What waits stays on disk."""
        if self._server is not None:
            self._server.close()
        if self._queue is not None:
            self._queue.close()

    def _page(self, node: str) -> bytes:
        page = render(self._newest.blocks(node))
        return page if node else page + render_own(self._own(self._newest.nodes))

    def _own(self, nodes: int) -> list[Own]:
        found = [
            Own("edgehub_metrics_nodes", "gauge", "Nodes of which there are metrics on this page.", nodes),
            Own(
                "edgehub_metrics_refused_messages_total", "counter", "Messages that are none.", self._refused
            ),
        ]
        if self._queue is not None and self._forwarder is not None:
            counts = self._forwarder.counts
            up = not self._forwarder.problem
            found += [
                Own("edgehub_metrics_queue_bytes", "gauge", "What waits for remote_write.", self._queue.size),
                Own(
                    "edgehub_metrics_dropped_messages_total",
                    "counter",
                    "Messages that went for want of room in the queue or on its disk.",
                    self._queue.dropped + self._lost,
                ),
                Own(
                    "edgehub_metrics_forwarded_series_total",
                    "counter",
                    "Series that remote_write took, counted once a request.",
                    counts.forwarded,
                ),
                Own(
                    "edgehub_metrics_rejected_series_total",
                    "counter",
                    "Series of which remote_write will never take something, counted once a request.",
                    counts.rejected,
                ),
                Own("edgehub_metrics_remote_write_up", "gauge", "Whether the last request arrived.", up),
            ]
        return found
