"""Loki, by its push API in JSON.

https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs. Loki takes a request's good lines
also where it answers 400 for others, and a line that comes again with the same time, labels and text is
one to it: so sending a part again does no harm.
"""

import re
from collections.abc import Sequence

import msgspec

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent_logs.attributes import NodeNames, sane_time, weights, whole_text
from edgeagent_logs.httpendpoint import HttpAnswer, HttpEndpoint
from edgeagent_logs.httpverdict import check_status
from edgeagent_logs.shipment import RefusedError, Shipment, SizeLimit, TooLargeError
from edgeagent_logs.sinkconfig import LokiConfig

_OVERHEAD = 400
_MAX_VALUE = 512
"""Characters of a label's value: ``max_label_value_length`` is 2048 bytes."""
_MAX_METADATA = 100
"""``max_structured_metadata_entries_count`` is 128."""
_UNFIT = re.compile(r"[^a-zA-Z0-9_]")

Labels = dict[str, str]


class _Stream(msgspec.Struct):
    stream: Labels
    values: list[list[object]]


class LokiSink:
    """One tenant of one Loki."""

    def __init__(self, config: LokiConfig, names: NodeNames) -> None:
        self._config = config
        self._names = names
        self._limit = SizeLimit(config.max_request_bytes)
        headers = {"X-Scope-OrgID": config.tenant} if config.tenant else {}
        self._endpoint = HttpEndpoint(config, "/loki/api/v1/push", headers=headers)
        self._json = msgspec.json.Encoder()

    def ship(self, stream: str, first: int, batch: LogBatch) -> Delivery:
        """As ``LogSinks.ship``."""
        del stream, first
        shipment = Shipment(weights(batch, _OVERHEAD), self._limit)

        def send(places: Sequence[int]) -> None:
            body = self._json.encode({"streams": self._streams(batch, places)})
            self._check(self._endpoint.post(body, "application/json"))

        return shipment.run(send)

    def close(self) -> None:
        """Let go of the connection."""
        self._endpoint.close()

    def _streams(self, batch: LogBatch, places: Sequence[int]) -> list[_Stream]:
        """In the order of the records, also within each stream."""
        known: dict[tuple[int, str, str], tuple[list[list[object]], Labels]] = {}
        streams: dict[tuple[tuple[str, str], ...], _Stream] = {}
        for place in places:
            record = batch.records[place]
            key = (record.origin, record.stream, record.severity)
            if key not in known:
                labels, metadata = self._labels(batch.origins[record.origin], record)
                one = streams.setdefault(tuple(sorted(labels.items())), _Stream(labels, []))
                known[key] = (one.values, metadata)
            values, metadata = known[key]
            entry: list[object] = [str(sane_time(record)), whole_text(record)]
            values.append([*entry, metadata] if metadata else entry)
        return list(streams.values())

    def _labels(self, origin: LogOrigin, record: LogRecord) -> tuple[Labels, Labels]:
        """What makes the stream, and what is only said with each line."""
        every = {
            "cluster": self._names.cluster,
            "node": self._names.node,
            "namespace": origin.namespace,
            "pod": origin.pod,
            "container": origin.container,
            "unit": origin.unit,
            "stream": record.stream,
            "level": record.severity,
        }
        labels = dict(self._config.static_labels)
        labels |= {name: every[name] for name in self._config.labels}
        labels |= {name: origin.labels.get(key, "") for name, key in self._config.pod_labels.items()}
        metadata: Labels = {}
        if self._config.structured_metadata:
            metadata = {name: value for name, value in every.items() if name not in self._config.labels}
            metadata |= {
                "pod_uid": origin.pod_uid,
                "container_id": origin.container_id,
                "image": origin.image,
            }
            for key, value in sorted(origin.labels.items()):
                metadata.setdefault(f"label_{_UNFIT.sub('_', key)}", value)
        return _filled(labels), dict(list(_filled(metadata).items())[:_MAX_METADATA])

    def _check(self, answer: HttpAnswer) -> None:
        shown = self._endpoint.shown(answer.body)
        if answer.status == 400:
            if "html" in answer.headers.get("content-type", ""):
                text = f"{self._endpoint.where}: 400, and not from Loki, it seems: {shown}"
                raise PermanentError(text, reason="Refused")
            raise RefusedError(f"400: {shown or 'no reason given'}")
        if answer.status >= 429 and b"received message larger than max" in answer.body:
            raise TooLargeError(f"{answer.status}: {shown}")  # gRPC's limit between Loki's own parts
        check_status(self._endpoint, answer)


def _filled(labels: Labels) -> Labels:
    """Without empty values, which are no labels to Loki, and with long ones cut."""
    return {name: value[:_MAX_VALUE] for name, value in labels.items() if value}
