"""What an OpenTelemetry Collector checks in logs over HTTP: by OpenTelemetry's own protobuf schema.

https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
"""

import json
from collections.abc import Iterable

from google.protobuf.json_format import Parse, ParseError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tests.support.httpreceiver import Answer, ApiError, HttpReceiver, Request


class OtlpReceiver(HttpReceiver):
    """``records`` with their resources, as they came. ``partial`` is put into the next answers."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[Resource, LogRecord]] = []
        self.partial: dict[str, object] | None = None

    def bodies(self) -> list[str]:
        """Every record's text."""
        return [record.body.string_value for _, record in self.records]

    def refuse(self, problem: str) -> Answer:
        """A google.rpc.Status."""
        return Answer(
            400, json.dumps({"code": 3, "message": problem}).encode(), {"Content-Type": "application/json"}
        )

    def serve(self, request: Request) -> Answer:
        """One export."""
        if request.path != "/v1/logs":
            raise ApiError(f"path {request.path}")
        try:
            message = Parse(request.body, ExportLogsServiceRequest(), ignore_unknown_fields=False)
        except ParseError as error:
            raise ApiError(f"not by the schema: {error}") from None
        took = []
        for group in message.resource_logs:
            _unique(group.resource.attributes)
            for scope in group.scope_logs:
                if not scope.scope.name:
                    raise ApiError("a scope without a name")
                for record in scope.log_records:
                    _unique(record.attributes)
                    if not 0 <= record.severity_number <= 24:
                        raise ApiError(f"severity number {record.severity_number}")
                    took.append((group.resource, record))
        if any("poison" in record.body.string_value for _, record in took):
            return Answer(400, b'{"code": 3, "message": "poison"}', {"Content-Type": "application/json"})
        self.records += took
        answer = {} if self.partial is None else {"partialSuccess": self.partial}
        return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


def text_of(attributes: Iterable[KeyValue], name: str) -> str | None:
    """The text of an attribute, or None where it is not there."""
    found = [one.value.string_value for one in attributes if one.key == name]
    return found[0] if found else None


def plain(value: AnyValue) -> object:
    """``value`` as JSON would have it."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [plain(one) for one in value.array_value.values]
        case "kvlist_value":
            return {one.key: plain(one.value) for one in value.kvlist_value.values}
        case str(kind):
            return getattr(value, kind)


def _unique(attributes: Iterable[KeyValue]) -> None:
    names = [one.key for one in attributes]
    if len(set(names)) < len(names) or not all(names):
        raise ApiError(f"attributes with one name, or without: {names}")
