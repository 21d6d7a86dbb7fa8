"""Elasticsearch and OpenSearch, by their bulk API.

https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk and
https://docs.opensearch.org/latest/api-reference/document-apis/bulk/
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from edgeagent.api.clock import rfc3339_nano
from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent_logs.attributes import NodeNames, chosen_labels, record_id, sane_time, weights
from edgeagent_logs.httpendpoint import HttpAnswer, HttpEndpoint
from edgeagent_logs.httpverdict import check_status
from edgeagent_logs.shipment import Shipment, SizeLimit, TooLargeError
from edgeagent_logs.sinkconfig import ElasticsearchConfig

_OVERHEAD = 700
_QUERY = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
"""Both leave all else out of the answer, which would repeat every id and index."""
_WAITS_FOR_A_PERSON = frozenset({401, 403, 404})


class _Problem(msgspec.Struct):
    type: str = ""
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.reason}" if self.reason else self.type


class _Item(msgspec.Struct):
    status: int
    error: _Problem | str | None = None


class _BulkAnswer(msgspec.Struct):
    errors: bool
    items: list[dict[str, _Item]] = []


class ElasticsearchSink:
    """One index or data stream. A record's id is its document's, so that none is there twice."""

    def __init__(self, config: ElasticsearchConfig, names: NodeNames) -> None:
        self._config = config
        self._names = names
        self._limit = SizeLimit(config.max_request_bytes)
        self._endpoint = HttpEndpoint(config, "/_bulk")
        self._query = _QUERY + (f"&pipeline={config.pipeline}" if config.pipeline else "")
        self._json = msgspec.json.Encoder()

    def ship(self, stream: str, first: int, batch: LogBatch) -> Delivery:
        """As ``LogSinks.ship``."""
        shipment = Shipment(weights(batch, _OVERHEAD), self._limit)
        origins: dict[int, bytes] = {}
        refused: set[int] = set()

        def lines(place: int) -> bytes:
            record = batch.records[place]
            if record.origin not in origins:
                origins[record.origin] = self._origin(batch.origins[record.origin])
            document = self._document(record, origins[record.origin], plain=place in refused)
            action = {"_index": self._index(record), "_id": record_id(stream, first, place)}
            return self._json.encode({self._config.op: action}) + b"\n" + document + b"\n"

        def send(places: Sequence[int]) -> None:
            answer = self._endpoint.post(
                b"".join(map(lines, places)), "application/x-ndjson", query=self._query
            )
            check_status(self._endpoint, answer)
            again = self._judge(shipment, batch, places, refused, self._items(answer, len(places)))
            if again:
                refused.update(again)
                shipment.again(again)

        return shipment.run(send)

    def close(self) -> None:
        """Let go of the connection."""
        self._endpoint.close()

    def _index(self, record: LogRecord) -> str:
        if self._config.data_stream or "%" not in self._config.index:
            return self._config.index
        return datetime.fromtimestamp(sane_time(record) // 1_000_000_000, UTC).strftime(self._config.index)

    def _origin(self, origin: LogOrigin) -> bytes:
        """The part of a document that all records of ``origin`` have: JSON without the first brace."""
        flat = self._names.resource(origin)
        for name, value in chosen_labels(origin, self._config.pod_labels).items():
            # A dot would make an object of what is a text in the next pod: app, and app.kubernetes.io/name.
            flat[f"k8s.pod.label.{name.replace('.', '_')}"] = value
        document: dict[str, object] = {}
        for name, value in flat.items():
            *parents, last = name.split(".")
            inner = document
            for parent in parents:
                inner = inner.setdefault(parent, {})  # type: ignore[assignment] # names of ours: none is both
            inner[last] = value
        return self._json.encode(document)[1:]

    def _document(self, record: LogRecord, origin: bytes, *, plain: bool) -> bytes:
        """``plain``: the index took it not with the line's own fields, which are text then."""
        log = {"iostream": record.stream, **({"level": record.severity} if record.severity else {})}
        document: dict[str, object] = {
            "@timestamp": rfc3339_nano(sane_time(record)),
            "message": record.body,
            "log": log,
        }
        if record.fields and plain:
            document["event"] = {"original": record.fields.decode(errors="replace")}
            document["tags"] = ["fields_refused"]
        elif record.fields:
            document["attributes"] = msgspec.Raw(record.fields)
        return self._json.encode(document)[:-1] + b"," + origin

    def _items(self, answer: HttpAnswer, expected: int) -> list[_Item | None]:
        """Per record, None for all of them where nothing went wrong."""
        if not answer.whole:
            raise TooLargeError("the answer is too large, and so is the request then")
        try:
            bulk = msgspec.json.decode(answer.body, type=_BulkAnswer)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            text = f"{self._endpoint.where}: not the answer of a bulk API: {error}"
            raise TemporaryError(text, reason="AnswerUnreadable") from None
        if not bulk.errors:
            return [None] * expected
        if len(bulk.items) != expected or any(len(item) != 1 for item in bulk.items):
            text = f"{self._endpoint.where}: {len(bulk.items)} answers for {expected} records"
            raise TemporaryError(text, reason="AnswerUnreadable")
        return [next(iter(item.values())) for item in bulk.items]

    def _judge(
        self,
        shipment: Shipment,
        batch: LogBatch,
        places: Sequence[int],
        refused: set[int],
        items: Sequence[_Item | None],
    ) -> list[int]:
        """Tell ``shipment`` what became of each; the records that are to be sent without their fields."""
        again, mend, arrived = [], "", False
        for place, item in zip(places, items, strict=True):
            # 409 is a create of what is there already: it came before, and the answer was lost.
            if item is None or 200 <= item.status < 300 or item.status == 409:
                arrived = True
                continue
            why = self._endpoint.shown(f"{item.status}: {item.error or 'no reason given'}")
            if item.status == 429 or item.status >= 500:
                shipment.retry(place, f"{self._endpoint.where}: {why}")
            elif item.status in _WAITS_FOR_A_PERSON:
                mend = mend or why
                shipment.retry(place, f"{self._endpoint.where}: {why}")
            elif item.status == 400 and batch.records[place].fields and place not in refused:
                again.append(place)
            else:
                shipment.reject(place, why)
                arrived = True
        if mend and not arrived and not again:
            raise PermanentError(f"{self._endpoint.where}: {mend}", reason="Refused")
        return again
