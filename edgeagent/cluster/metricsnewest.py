"""NewestMetrics: of each node the metrics of its newest gathering, packed as they came. In memory alone."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.metrics import Series
from edgeagent.wire.metricblock import MetricBlock, decode_block, read_head

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024 * 1024
"""Of all nodes together; those that were silent for longest are left out first."""
MAX_PARTS = 256
MAX_PLAIN_BYTES = 8_000_000
"""What a message of a node may be unpacked to."""

MAX_NODE_BYTES = 40_000_000
"""What the metrics of one node may weigh, unpacked."""
_SERIES_BYTES = 100
_VALUE_BYTES = 16


@dataclass(slots=True)
class _Newest:
    time: int
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))


class NewestMetrics:
    """``add`` and ``forget`` on the loop; ``blocks`` in whatever thread."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._nodes: OrderedDict[str, _Newest] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, node: str, data: bytes) -> None:
        """What ``node`` sent; InvalidObjectError where it is no block."""
        head = read_head(data)
        with self._lock:
            held = self._nodes.get(node)
            if held is not None and head.newest < held.time:
                return
            if held is None or head.newest > held.time:
                self._drop(node)
                held = self._nodes[node] = _Newest(head.newest)
            if head.part < MAX_PARTS:
                self._bytes += len(data) - len(held.parts.get(head.part, b""))
                held.parts[head.part] = data
            self._nodes.move_to_end(node)
            while self._bytes > self._limit and len(self._nodes) > 1:
                self._drop(next(iter(self._nodes)))

    def forget(self, node: str) -> None:
        """It is no member any more."""
        with self._lock:
            self._drop(node)

    def _drop(self, node: str) -> None:
        held = self._nodes.pop(node, None)
        if held is not None:
            self._bytes -= held.size

    @property
    def nodes(self) -> int:
        """Of how many nodes there is something."""
        return len(self._nodes)

    def blocks(self, node: str = "") -> Iterator[tuple[str, list[MetricBlock]]]:
        """Each node, or the one alone, and what holds its newest gathering, unpacked when it is its turn.

        What cannot be read is left out, and so is what is more than a node may have.
        """
        with self._lock:
            found = {
                name: list(held.parts.values()) for name, held in self._nodes.items() if node in ("", name)
            }
        for name in sorted(found):
            yield name, _decoded(name, found[name])


def _decoded(node: str, parts: list[bytes]) -> list[MetricBlock]:
    blocks: list[MetricBlock] = []
    left = MAX_NODE_BYTES
    for data in parts:
        try:
            block = decode_block(data, limit=MAX_PLAIN_BYTES)
        except EdgeAgentError as error:
            log.warning("metrics of node %s cannot be used: %s", node, error)
            continue
        if (left := left - sum(map(_weight, block.batch.series))) < 0:
            log.warning(
                "node %s sends more than %d bytes of metrics: some are left out", node, MAX_NODE_BYTES
            )
            break
        blocks.append(block)
    return blocks


def _weight(series: Series) -> int:
    """About what a series takes on a page for each of its labels, and in memory."""
    labels = sum(len(name) + len(value) for name, value in series.labels.items())
    return _SERIES_BYTES + labels + _VALUE_BYTES * len(series.values)
