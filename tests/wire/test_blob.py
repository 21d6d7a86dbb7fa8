"""Payloads: plain, compressed, in chunks; and what a broker could make of them."""

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError
from edgeagent.wire.blob import (
    CHUNKED,
    COMPRESSED,
    MAX_CHUNKS,
    PLAIN,
    ChunkList,
    decode_blob,
    encode_blob,
    join_chunks,
)
from edgeagent.wire.canonical import canonical_json, digest


def assemble(payload: bytes, chunks: dict[str, bytes], size: int) -> bytes:
    """What a receiver does, with every chunk checked."""
    body = decode_blob(payload, size)
    if not isinstance(body, ChunkList):
        return body
    parts = {}
    for name in body.chunks:
        part = decode_blob(chunks[name], size + 1)
        assert isinstance(part, bytes)
        assert digest(part) == name
        parts[name] = part
    return join_chunks(body, parts, size)


@given(
    body=st.binary(max_size=3000) | st.binary(min_size=1, max_size=9).map(lambda b: b * 400),
    limit=st.integers(-1, 4000),
)
def test_round_trip_at_any_limit(body: bytes, limit: int) -> None:
    try:
        blob = encode_blob(body, limit)
    except InvalidObjectError:
        # The list of the chunks has to fit too: some 70 bytes for each.
        assert limit < 300 or len(body) * 70 > limit * (limit - 100)
        return
    assert len(blob.payload) <= limit
    assert all(len(chunk) <= limit for chunk in blob.chunks.values())
    assert len(blob.payload) + sum(map(len, blob.chunks.values())) < len(body) + 200 + 80 * len(blob.chunks)
    assert assemble(blob.payload, dict(blob.chunks), len(body)) == body


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_what_did_not_change_is_in_the_same_chunks() -> None:
    before = noise(100_000)
    after = before[:50_000] + b"x" + before[50_001:]
    old, new = encode_blob(before, 5000).chunks, encode_blob(after, 5000).chunks
    assert len(new.keys() - old.keys()) == 1
    grown = encode_blob(before + noise(10), 5000).chunks
    assert len(grown.keys() - old.keys()) == 1
    assert encode_blob(before, 5000) == encode_blob(before, 5000)


def test_repeated_chunks_are_stored_once() -> None:
    block = noise(999)
    blob = encode_blob(block + noise(90_000, 2) + block, 1000 + 80 * 90)
    assert assemble(blob.payload, dict(blob.chunks), 91_998)
    twice = ChunkList([digest(PLAIN + block), digest(block)])
    assert join_chunks(twice, {digest(PLAIN + block): PLAIN + block, digest(block): block}, 1998) == block * 2


def test_a_bomb_is_never_inflated() -> None:
    bomb = COMPRESSED + zlib.compress(bytes(50_000_000), 9)
    assert len(bomb) < 50_000
    with pytest.raises(InvalidObjectError, match="expands to more than the 1000 bytes announced"):
        decode_blob(bomb, 1000)


@given(data=st.binary(max_size=300), cut=st.integers(1, 400), tail=st.binary(min_size=1, max_size=4))
def test_cut_or_lengthened_compression(data: bytes, cut: int, tail: bytes) -> None:
    packed = zlib.compress(data)
    with pytest.raises(InvalidObjectError, match="cut short"):
        decode_blob(COMPRESSED + packed[: max(0, len(packed) - cut)], 1000)
    with pytest.raises(InvalidObjectError, match="bytes behind its end"):
        decode_blob(COMPRESSED + packed + tail, 1000)


@given(payload=st.binary(max_size=100), size=st.integers(0, 50))
def test_noise_gives_no_more_than_was_announced(payload: bytes, size: int) -> None:
    for tag in (b"", PLAIN, COMPRESSED, CHUNKED):
        try:
            body = decode_blob(tag + payload, size)
        except InvalidObjectError:
            continue
        assert isinstance(body, bytes)
        assert len(body) <= size


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "unknown payload encoding of an empty payload"),
        (b"\x03abc", "unknown payload encoding 03"),
        (b"{}", "unknown payload encoding 7b"),
        (PLAIN + b"12345678901", "11 bytes, more than the 10 announced"),
        (COMPRESSED + b"garbage", "broken compression"),
        (CHUNKED + b"garbage", "JSON is malformed"),
        (CHUNKED + b'{"chunks":[]}', "chunks: expected 1 to 4096"),
        (CHUNKED + b'{"chunks":["a"],"more":1}', "more: unknown field"),
        (CHUNKED + canonical_json(ChunkList(["a" * 64] * (MAX_CHUNKS + 1))), "chunks: expected 1 to 4096"),
    ],
)
def test_payloads_that_nobody_encoded(payload: bytes, message: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        decode_blob(payload, 10)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "name", ["#", "+", "", "../x", "A" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n", "g" * 64]
)
def test_a_chunk_list_cannot_name_other_topics(name: str) -> None:
    """Nobody signs the list of chunks: only a digest may get from it into a topic filter."""
    with pytest.raises(InvalidObjectError, match=r"chunks\[1\]: must be a SHA-256"):
        decode_blob(CHUNKED + canonical_json(ChunkList(["a" * 64, name])), 1000)


def test_chunks_larger_than_announced_or_of_chunks() -> None:
    piece = noise(5000)
    listing = ChunkList([digest(piece)])
    with pytest.raises(InvalidObjectError, match="larger than the 1000 bytes announced"):
        join_chunks(listing, {digest(piece): piece}, 1000)
    nested = CHUNKED + canonical_json(listing)
    with pytest.raises(InvalidObjectError, match="chunks of chunks"):
        join_chunks(ChunkList([digest(nested)]), {digest(nested): nested}, 1000)


def test_too_large_for_the_brokers_limit() -> None:
    with pytest.raises(InvalidObjectError, match="do not fit in chunks of 100 bytes"):
        encode_blob(noise(10_000), 100)
