"""How bytes lie in one MQTT payload: plain, compressed where that is smaller, or as a list of chunks.

The first byte says which. A chunk is itself a plain payload under its own digest, so that what is
shared between two versions of a large object is fetched once.
"""

import zlib
from collections.abc import Mapping

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.canonical import canonical_json, digest, is_digest

PLAIN, COMPRESSED, CHUNKED = b"\x00", b"\x01", b"\x02"
MAX_CHUNKS = 4096


class ChunkList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The digests of the chunks, in order; joined they are a plain or compressed payload."""

    chunks: list[str]


class Blob(msgspec.Struct, frozen=True):
    """What to publish: one payload, and the chunk payloads it names by digest (empty where it fits)."""

    payload: bytes
    chunks: Mapping[str, bytes]


def encode_blob(body: bytes, limit: int) -> Blob:
    """``body`` as a payload of at most ``limit`` bytes, in chunks of at most ``limit`` where it has to be."""
    if limit < 2:
        raise InvalidObjectError("", f"nothing fits in {limit} bytes")
    packed = zlib.compress(body, 6)
    payload = COMPRESSED + packed if len(packed) < len(body) else PLAIN + body
    if len(payload) <= limit:
        return Blob(payload, {})
    step = limit - 1
    pieces = [payload[start : start + step] for start in range(0, len(payload), step)]
    names = [digest(piece) for piece in pieces]
    listing = CHUNKED + canonical_json(ChunkList(names))
    if len(names) > MAX_CHUNKS or len(listing) > limit:
        raise InvalidObjectError("", f"{len(body)} bytes do not fit in chunks of {limit} bytes")
    return Blob(listing, {name: PLAIN + piece for name, piece in zip(names, pieces, strict=True)})


def decode_blob(payload: bytes, max_size: int) -> bytes | ChunkList:
    """The body of ``payload``, or the chunks to fetch first. Never makes more than ``max_size`` bytes.

    Raises InvalidObjectError for anything that ``encode_blob`` cannot have made.
    """
    tag, data = payload[:1], payload[1:]
    if tag == PLAIN:
        if len(data) > max_size:
            raise InvalidObjectError("", f"{len(data)} bytes, more than the {max_size} announced")
        return data
    if tag == COMPRESSED:
        return _inflate(data, max_size)
    if tag == CHUNKED:
        listing = decode_json(data, ChunkList)
        if not 0 < len(listing.chunks) <= MAX_CHUNKS:
            raise InvalidObjectError("chunks", f"expected 1 to {MAX_CHUNKS}")
        for position, name in enumerate(listing.chunks):
            if not is_digest(name):  # it becomes part of a topic, and nobody has signed it
                raise InvalidObjectError(f"chunks[{position}]", "must be a SHA-256 in lower-case hex")
        return listing
    raise InvalidObjectError("", f"unknown payload encoding {tag.hex() or 'of an empty payload'}")


def join_chunks(listing: ChunkList, chunks: Mapping[str, bytes], max_size: int) -> bytes:
    """The body, from the verified bytes of every chunk by digest."""
    if sum(len(chunks[name]) for name in listing.chunks) > max_size + 1024:
        raise InvalidObjectError("", f"the chunks are larger than the {max_size} bytes announced")
    body = decode_blob(b"".join(chunks[name] for name in listing.chunks), max_size)
    if isinstance(body, ChunkList):
        raise InvalidObjectError("", "chunks of chunks are not allowed")
    return body


def _inflate(data: bytes, max_size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, max_size + 1)
    except zlib.error as error:
        raise InvalidObjectError("", f"broken compression: {error}") from None
    if len(body) > max_size:
        raise InvalidObjectError("", f"expands to more than the {max_size} bytes announced")
    if not inflater.eof or inflater.unused_data:
        raise InvalidObjectError("", "compressed data is cut short or has bytes behind its end")
    return body
