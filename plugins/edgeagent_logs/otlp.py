"""OpenTelemetry's protocol over HTTP, in its JSON form.

https://opentelemetry.io/docs/specs/otlp/#otlphttp and
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto
"""

import logging
from collections.abc import Sequence

import msgspec

from edgeagent import __version__
from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent_logs.attributes import (
    SEVERITY_NUMBERS,
    NodeNames,
    chosen_labels,
    record_id,
    sane_time,
    weights,
)
from edgeagent_logs.httpendpoint import HttpAnswer, HttpEndpoint
from edgeagent_logs.httpverdict import check_status
from edgeagent_logs.shipment import RefusedError, Shipment, SizeLimit
from edgeagent_logs.sinkconfig import OtlpConfig

log = logging.getLogger(__name__)

_OVERHEAD = 300
_RETRYABLE = frozenset({408, 425, 429, 502, 503, 504})
_MAX_DEPTH = 16
_INT64 = range(-(2**63), 2**63)

Value = dict[str, object]


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str = 0
    error_message: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


class OtlpSink:
    """One collector."""

    def __init__(self, config: OtlpConfig, names: NodeNames) -> None:
        self._config = config
        self._names = names
        self._limit = SizeLimit(config.max_request_bytes)
        self._endpoint = HttpEndpoint(config, "/v1/logs")
        self._json = msgspec.json.Encoder()

    def ship(self, stream: str, first: int, batch: LogBatch) -> Delivery:
        """As ``LogSinks.ship``."""
        shipment = Shipment(weights(batch, _OVERHEAD), self._limit)

        def send(places: Sequence[int]) -> None:
            by_origin: dict[int, list[Value]] = {}
            for place in places:
                record = batch.records[place]
                by_origin.setdefault(record.origin, []).append(
                    _log_record(record, record_id(stream, first, place))
                )
            body = {
                "resourceLogs": [self._group(batch.origins[key], made) for key, made in by_origin.items()]
            }
            answer = self._endpoint.post(self._json.encode(body), "application/json")
            self._check(answer)
            count, why = self._partial(answer)
            for place in places[:count]:  # which of them it was is never said
                shipment.reject(place, why)

        return shipment.run(send)

    def close(self) -> None:
        """Let go of the connection."""
        self._endpoint.close()

    def _group(self, origin: LogOrigin, records: list[Value]) -> Value:
        resource = self._names.resource(origin)
        for name, value in chosen_labels(origin, self._config.pod_labels).items():
            resource[f"k8s.pod.label.{name}"] = value
        resource |= self._config.resource  # what a person has written counts
        attributes = [_pair(name, {"stringValue": value}) for name, value in resource.items()]
        scope = {"name": "edgeagent", "version": __version__}
        return {
            "resource": {"attributes": attributes},
            "scopeLogs": [{"scope": scope, "logRecords": records}],
        }

    def _check(self, answer: HttpAnswer) -> None:
        if answer.status == 400:
            shown = self._endpoint.shown(answer.body) or "no reason given"
            if "html" in answer.headers.get("content-type", ""):
                text = f"{self._endpoint.where}: 400, and not from a collector, it seems: {shown}"
                raise PermanentError(text, reason="Refused")
            raise RefusedError(f"400: {shown}")
        if answer.status >= 500 and answer.status not in _RETRYABLE:
            # The specification has such a request never repeated. It is held back until a person has looked.
            text = f"{self._endpoint.where}: {answer.status}: {self._endpoint.shown(answer.body)}"
            raise PermanentError(text, reason="Refused")
        check_status(self._endpoint, answer)

    def _partial(self, answer: HttpAnswer) -> tuple[int, str]:
        """How many records of a request will never be taken, and why (``ExportLogsPartialSuccess``).

        An answer that cannot be read says nothing against any: the status has said that it was taken.
        """
        try:
            partial = msgspec.json.decode(answer.body, type=_Answer).partial_success or _PartialSuccess()
            count = max(int(partial.rejected_log_records), 0)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return 0, ""
        if partial.error_message and not count:
            log.warning("%s: %s", self._endpoint.where, self._endpoint.shown(partial.error_message))
        why = self._endpoint.shown(partial.error_message) or "no reason given"
        return count, f"{count} of a request rejected: {why}"


def _log_record(record: LogRecord, uid: str) -> Value:
    attributes: dict[str, Value] = {}
    if record.fields:
        attributes = _fields(record.fields)
    attributes["log.iostream"] = {"stringValue": record.stream}
    attributes["log.record.uid"] = {"stringValue": uid}
    made: Value = {
        "timeUnixNano": str(sane_time(record)),
        "body": {"stringValue": record.body},
        "attributes": [_pair(name, value) for name, value in attributes.items()],
    }
    if record.severity:
        made["severityNumber"] = SEVERITY_NUMBERS[record.severity]
        made["severityText"] = record.severity
    return made


def _fields(text: bytes) -> dict[str, Value]:
    """The line's own fields; as text, in one attribute, where they are not the object they should be."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
        return {name: _any_value(value, _MAX_DEPTH) for name, value in fields.items() if name}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {"log.record.original": {"stringValue": text.decode(errors="replace")}}


def _any_value(value: object, depth: int) -> Value:
    """``value`` as an ``AnyValue``; what is nested deeper than ``depth`` as JSON text."""
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)} if value in _INT64 else {"stringValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
    if depth <= 0:
        return {"stringValue": msgspec.json.encode(value).decode()}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(one, depth - 1) for one in value]}}
    assert isinstance(value, dict)
    pairs = [_pair(str(name), _any_value(one, depth - 1)) for name, one in value.items()]
    return {"kvlistValue": {"values": pairs}}


def _pair(name: str, value: Value) -> Value:
    return {"key": name, "value": value}
