"""A remote_write receiver that checks every request against the specification, by Google's own protobuf.

https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

import json
from typing import Any, ClassVar

import snappy
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.support.httpreceiver import Answer, ApiError, HttpReceiver, Request

_FIELDS = {
    "Label": [("name", 1, "STRING", ""), ("value", 2, "STRING", "")],
    "Sample": [("value", 1, "DOUBLE", ""), ("timestamp", 2, "INT64", "")],
    "TimeSeries": [("labels", 1, "MESSAGE", "Label"), ("samples", 2, "MESSAGE", "Sample")],
    "WriteRequest": [("timeseries", 1, "MESSAGE", "TimeSeries")],
}


def _schema() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prometheus", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            made = message.field.add(name=field, number=number)
            made.type = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind}")
            made.label = made.LABEL_REPEATED if of else made.LABEL_OPTIONAL
            if of:
                made.type_name = f".prometheus.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


_WriteRequest = _schema()


class RemoteWriteReceiver(HttpReceiver):
    """``series`` has the values by time of each label set, as JSON with sorted keys.

    ``strict``: as Prometheus does it, a request is refused whole if a sample of it is not newer than what
    there is of its series. ``repeats`` counts samples that were there already.
    """

    content_types: ClassVar[frozenset[str]] = frozenset({"application/x-protobuf"})

    def __init__(self, *, strict: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.strict = strict
        self.series: dict[str, dict[int, float]] = {}
        self.repeats = 0
        self.never: set[str] = set()

    def serve(self, request: Request) -> Answer:
        """One request, checked and kept."""
        if request.headers.get("content-encoding") != "snappy":
            raise ApiError("Content-Encoding is not snappy")
        if request.headers.get("x-prometheus-remote-write-version") != "0.1.0":
            raise ApiError("no version")
        if not request.headers.get("user-agent"):
            raise ApiError("no User-Agent")
        message = _WriteRequest.FromString(snappy.uncompress(request.body))
        if not message.timeseries or message.FindInitializationErrors():
            raise ApiError("an empty request")
        found = [self._checked(one) for one in message.timeseries]
        if self.strict:
            for key, samples in found:
                if self.series.get(key) and samples[0][0] <= max(self.series[key]):
                    return Answer(400, b"out of order sample\n")
                if json.loads(key)["__name__"] in self.never:
                    return Answer(400, b"out of bounds\n")
        for key, samples in found:
            known = self.series.setdefault(key, {})
            for time, value in samples:
                if time in known:
                    self.repeats += 1
                    if known[time] != value and value == value:
                        raise ApiError(f"{key} has two values at {time}")
                known[time] = value
        return Answer(204)

    def _checked(self, one: Any) -> tuple[str, list[tuple[int, float]]]:
        names = [label.name for label in one.labels]
        if names != sorted(set(names)) or "__name__" not in names:
            raise ApiError(f"labels are not sorted, repeated, or without a name: {names}")
        if not all(label.value for label in one.labels):
            raise ApiError("a label is empty")
        samples = [(sample.timestamp, sample.value) for sample in one.samples]
        times = [time for time, _ in samples]
        if not samples or times != sorted(set(times)):
            raise ApiError(f"samples are not in order: {times}")
        return json.dumps({label.name: label.value for label in one.labels}, sort_keys=True), samples
