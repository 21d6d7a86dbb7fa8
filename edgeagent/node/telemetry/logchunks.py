"""Chunks of logs as bytes, and many small ones joined to a batch worth a request."""

import zlib
from collections.abc import Sequence

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord

MAX_BYTES = 64_000_000
"""What a chunk may be unpacked to."""
_FAST = 1
_HEAD = 4

_decoder = msgspec.msgpack.Decoder(LogBatch)


def pack(batch: LogBatch) -> bytes:
    """The batch as the spool keeps it: its size, and the rest compressed."""
    plain = msgspec.msgpack.encode(batch)
    return len(plain).to_bytes(_HEAD, "big") + zlib.compress(plain, _FAST)


def size(body: bytes) -> int:
    """The bytes that the batch will have once it is unpacked."""
    return int.from_bytes(body[:_HEAD], "big")


def unpack(body: bytes) -> LogBatch:
    """The inverse; PermanentError where it is no batch."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body[_HEAD:], MAX_BYTES)
        if stream.unconsumed_tail:
            raise PermanentError(f"a chunk of logs is larger than {MAX_BYTES} bytes", reason="BadChunk")
        return _decoder.decode(plain)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PermanentError(f"a chunk of logs cannot be read: {error}", reason="BadChunk") from None


def join(batches: Sequence[LogBatch]) -> LogBatch:
    """All records in their order, each origin once."""
    if len(batches) == 1:
        return batches[0]
    places: dict[bytes, int] = {}
    origins: list[LogOrigin] = []
    records: list[LogRecord] = []
    for batch in batches:
        mapped = []
        for origin in batch.origins:
            key = msgspec.msgpack.encode(origin)
            if key not in places:
                places[key] = len(origins)
                origins.append(origin)
            mapped.append(places[key])
        records += [msgspec.structs.replace(record, origin=mapped[record.origin]) for record in batch.records]
    return LogBatch(origins=origins, records=records)


def part(batch: LogBatch, start: int, end: int) -> LogBatch:
    """The records from place ``start`` up to ``end``, with all origins."""
    return LogBatch(origins=batch.origins, records=batch.records[start:end])
