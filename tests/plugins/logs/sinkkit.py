"""Batches, sinks by their configuration, and the core's patience: a batch is sent until all has arrived."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edgeagent.api.errors import TemporaryError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord, Severity
from edgeagent.api.objects.decode import convert
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.sinks import NodeLogSinks

NOW = 1_764_000_000_123_456_789
STREAM = "0a1b2c3d"
NODE = "gateway-7"
CLUSTER = "plant"

POD = LogOrigin(
    namespace="shop",
    pod="web-5d9f",
    pod_uid="0b6f3c1e-7d0e-4a53-9f0e-3f1d3a6e8a11",
    container="nginx",
    container_id="c0ffee" * 8,
    image="registry.example.com/shop/web:1.27",
    labels={"app": "web", "app.kubernetes.io/name": "web-frontend", "tier": "front"},
)
UNIT = LogOrigin(unit="ssh.service")


def record(
    body: str,
    *,
    time: int = NOW,
    origin: int = 0,
    stream: str = "stdout",
    severity: Severity = "",
    fields: bytes = b"",
) -> LogRecord:
    """One record of the first origin."""
    return LogRecord(time, origin, stream, body, severity, fields)


def batch(records: Iterable[LogRecord | str], *, origins: Iterable[LogOrigin] = (POD, UNIT)) -> LogBatch:
    """Records, or their texts, a microsecond apart."""
    made = [
        record(one, time=NOW + 1000 * at) if isinstance(one, str) else one for at, one in enumerate(records)
    ]
    return LogBatch(origins=list(origins), records=made)


def lines(count: int) -> LogBatch:
    """``line 0``, ``line 1`` and so on."""
    return batch(f"line {number}" for number in range(count))


class MakeSink(Protocol):
    """The fixture ``sink_of``: ``made_sink``, closed when the test ends."""

    def __call__(self, section: Mapping[str, object]) -> NodeLogSinks:
        """The plugin's sinks with this one."""
        ...


def made_sink(section: Mapping[str, object]) -> NodeLogSinks:
    """The plugin's sinks with this one, as ``[[plugins.logs.sinks]]`` has it; its name is ``central``."""
    config = convert({"sinks": [{"name": "central", **section}]}, LogsConfig)
    return NodeLogSinks(config.sinks, node=NODE, cluster=CLUSTER)


@dataclass
class Outcome:
    """``failures``: what was raised on the way, and ``retries``: how often records were asked for again."""

    rejected: dict[int, str] = field(default_factory=dict)
    failures: list[TemporaryError] = field(default_factory=list)
    retries: int = 0
    delays: list[float] = field(default_factory=list)


def deliver(sinks: NodeLogSinks, given: LogBatch, *, first: int = 0, tries: int = 20) -> Outcome:
    """Ship until nothing is to be sent again, as the core does but for its pauses."""
    outcome = Outcome()
    waiting = [(0, len(given.records))]
    for _ in range(tries):
        if not waiting:
            return outcome
        start, end = waiting.pop(0)
        part = LogBatch(origins=given.origins, records=given.records[start:end])
        try:
            delivery = sinks.ship("central", STREAM, first + start, part)
        except TemporaryError as error:
            outcome.failures.append(error)
            waiting.insert(0, (start, end))
            continue
        assert set(delivery.retry).isdisjoint(delivery.rejected)
        assert all(0 <= place < end - start for place in [*delivery.retry, *delivery.rejected])
        outcome.rejected |= {start + place: why for place, why in delivery.rejected.items()}
        outcome.retries += len(delivery.retry)
        outcome.delays.append(delivery.delay)
        waiting = [(start + place, start + place + 1) for place in delivery.retry] + waiting
    raise AssertionError(f"not delivered in {tries} tries: {outcome}")
