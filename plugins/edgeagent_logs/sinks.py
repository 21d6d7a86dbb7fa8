"""The configured sinks by their names. What one of them needs is imported when it first ships."""

from collections.abc import Sequence

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch
from edgeagent_logs.attributes import NodeNames
from edgeagent_logs.shipment import LogSinkClient
from edgeagent_logs.sinkconfig import ElasticsearchConfig, LokiConfig, OtlpConfig, Sink


class NodeLogSinks:
    """``edgeagent.api.logs.LogSinks``. Each sink has its own connection; none waits for another."""

    def __init__(self, sinks: Sequence[Sink], *, node: str, cluster: str) -> None:
        self._configs = {sink.name: sink for sink in sinks}
        self._names = NodeNames(node, cluster)
        self._made: dict[str, LogSinkClient] = {}

    def names(self) -> list[str]:
        """The names in the order of the configuration."""
        return list(self._configs)

    def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """Hand the batch to ``sink``."""
        if (config := self._configs.get(sink)) is None:
            raise PermanentError(f"there is no sink named {sink}", reason="NoSuchSink")
        if not batch.records:
            return Delivery()
        if (made := self._made.get(sink)) is None:
            made = self._made.setdefault(sink, client(config, self._names))
        return made.ship(stream, first, batch)

    def close(self) -> None:
        """Let go of all connections; whoever ships again makes new ones."""
        for made in self._made.values():
            made.close()


def client(config: Sink, names: NodeNames) -> LogSinkClient:
    """The sink that ``config`` describes. It connects when it first ships."""
    if isinstance(config, ElasticsearchConfig):
        from edgeagent_logs.elasticsearch import ElasticsearchSink

        return ElasticsearchSink(config, names)
    if isinstance(config, LokiConfig):
        from edgeagent_logs.loki import LokiSink

        return LokiSink(config, names)
    if isinstance(config, OtlpConfig):
        from edgeagent_logs.otlp import OtlpSink

        return OtlpSink(config, names)
    from edgeagent_logs.syslog import SyslogSink

    return SyslogSink(config, names)
