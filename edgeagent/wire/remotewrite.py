"""Prometheus' remote_write 1.0 as bytes: series with labels and samples, in protobuf and snappy.

https://prometheus.io/docs/specs/prw/remote_write_spec/. Four messages of three kinds of fields are encoded
and none is decoded: that is less than a protobuf library weighs. python-snappy is imported here alone.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import snappy

from edgeagent.api.metrics import SampleBatch

HEADERS: Mapping[str, str] = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
"""What a request has to say of itself."""
_sample = struct.Struct("<Bd")


class TimeSeries(msgspec.Struct, frozen=True):
    """Values of one label set; ``labels`` has the name as ``__name__``, ``times`` rise, in milliseconds."""

    labels: Mapping[str, str]
    times: Sequence[int]
    values: Sequence[float]


def time_series(batch: SampleBatch, external: Mapping[str, str]) -> list[TimeSeries]:
    """The batch's series, in its order. Those of ``external`` are added to the labels that a series has."""
    found = []
    for one in batch.series:
        name = batch.families[one.family].name + one.suffix
        found.append(TimeSeries({**external, **one.labels, "__name__": name}, one.times, one.values))
    return found


def write_request(series: Iterable[TimeSeries]) -> bytes:
    """The body of a request: a compressed ``WriteRequest``. Labels without a value are no labels."""
    labels: dict[tuple[str, str], bytes] = {}
    message = bytearray()
    for one in series:
        body = bytearray()
        for pair in sorted(one.labels.items()):
            if not pair[1]:
                continue
            if (encoded := labels.get(pair)) is None:
                name, value = (_field(place, text.encode()) for place, text in enumerate(pair, 1))
                encoded = labels[pair] = _field(1, name + value)
            body += encoded
        for time, number in zip(one.times, one.values, strict=True):
            body += _field(2, _sample.pack(0x09, number) + b"\x10" + _varint(time))
        message += _field(1, body)
    compressed: bytes = snappy.compress(bytes(message))
    return compressed


def _field(number: int, content: bytes | bytearray) -> bytes:
    """A field of a known length: a string or a message."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    number &= 0xFFFF_FFFF_FFFF_FFFF  # a negative int64 is sent as its two's complement
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
