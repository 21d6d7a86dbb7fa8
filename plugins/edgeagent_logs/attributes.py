"""What a record's origin is called at a sink: OpenTelemetry's semantic conventions.

https://opentelemetry.io/docs/specs/semconv/resource/k8s/, …/container/ and …/host/
"""

from collections.abc import Sequence

import msgspec

from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord, Severity

MAX_TIME = 2**63 - 1
"""The latest time that all sinks can say, in nanoseconds: 2262."""
ALL = "*"

SEVERITY_NUMBERS: dict[Severity, int] = {
    "": 0, "trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21,
}  # fmt: skip
"""https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber"""


class NodeNames:
    """The node's and the cluster's name: what ``resource`` says of every record."""

    def __init__(self, node: str, cluster: str) -> None:
        self.node = node
        self.cluster = cluster

    def resource(self, origin: LogOrigin) -> dict[str, str]:
        """Everything but labels, by name; what is empty is not there."""
        named = {
            "service.name": service_name(origin),
            "host.name": self.node,
            "k8s.cluster.name": self.cluster,
            "k8s.node.name": self.node,
            "k8s.namespace.name": origin.namespace,
            "k8s.pod.name": origin.pod,
            "k8s.pod.uid": origin.pod_uid,
            "k8s.container.name": origin.container,
            "container.id": origin.container_id,
            "container.image.name": origin.image,
            "systemd.unit": origin.unit,
        }
        return {name: value for name, value in named.items() if value}


def service_name(origin: LogOrigin) -> str:
    """What a container's or unit's service is called where nobody says it.

    https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/
    """
    label = origin.labels.get("app.kubernetes.io/name", "")
    return label or origin.container or origin.pod or origin.unit or "unknown_service"


def chosen_labels(origin: LogOrigin, wanted: Sequence[str]) -> dict[str, str]:
    """The pod's labels of these names; all of them for ``*``."""
    if ALL in wanted:
        return origin.labels
    return {name: origin.labels[name] for name in wanted if name in origin.labels}


def record_id(stream: str, first: int, place: int) -> str:
    """The same for ever, whenever the record is sent again (``LogSinks.ship``)."""
    return f"{stream}-{first + place}"


def sane_time(record: LogRecord) -> int:
    """The record's time, held to what sinks can say."""
    return min(max(record.time, 0), MAX_TIME)


def whole_text(record: LogRecord) -> str:
    """Message and fields in one text, for a sink that knows text alone: JSON where the line had fields."""
    if not record.fields or record.body.startswith("{"):
        return record.body
    key = "msg" if b'"message":' in record.fields else "message"
    message = msgspec.json.encode({key: record.body}).decode()
    return f"{message[:-1]},{record.fields[1:].decode(errors='replace')}"


def weights(batch: LogBatch, overhead: int) -> list[int]:
    """The bytes of each record in a request, about; ``overhead`` is what the sink adds to each."""
    return [len(record.body) + len(record.fields) + overhead for record in batch.records]
