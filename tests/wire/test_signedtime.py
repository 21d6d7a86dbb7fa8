"""The time of day as the hub signs it: what is taken, and what is refused before anything is believed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.envelope import INDEX_TYPE, Envelope, encode_envelope, sign_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.signedtime import (
    LATEST,
    MAX_ANSWER_BYTES,
    NONCE_BYTES,
    TIME_TYPE,
    ReceivedTime,
    SignedTime,
    decode_question,
    encode_question,
    encode_time,
)
from edgeagent.wire.trust import rotate

FIRST, SECOND = SigningKey(bytes(range(32))), SigningKey(bytes(32))
ANCHOR = TrustAnchor(cluster="plant", serial=1, key=FIRST.public.raw)
NONCE = bytes(range(NONCE_BYTES))
GOOD = SignedTime(cluster="plant", nonce=NONCE, time=1_800_000_000.25)


def answer(key: SigningKey = FIRST, chain: list[Envelope] | None = None, **changes: object) -> bytes:
    """The hub's, changed."""
    return encode_time(msgspec.structs.replace(GOOD, **changes), key.public.id, key, chain or [])


def read(data: bytes) -> ReceivedTime:
    """As the node that asked reads it."""
    return ReceivedTime(data, cluster="plant", nonce=NONCE)


def test_a_question_and_its_answer() -> None:
    assert encode_question(NONCE) == b'{"nonce":"AAECAwQFBgcICQoLDA0ODw=="}'
    assert decode_question(encode_question(NONCE)) == NONCE
    received = read(answer())
    assert received.claimed == 1_800_000_000.25
    assert received.verify(ANCHOR) == 1_800_000_000.25


def test_the_bytes_that_are_signed() -> None:
    """Another implementation has to come to the same ones."""
    envelope = msgspec.msgpack.decode(answer(), type=Envelope)
    assert envelope.payload_type == TIME_TYPE == "application/vnd.edgeagent.time.v1+json"
    assert envelope.payload == (
        b'{"cluster":"plant","nonce":"AAECAwQFBgcICQoLDA0ODw==","time":1800000000.25}'
    )


def test_a_key_that_took_over_is_followed() -> None:
    chain = [rotate("plant", 2, FIRST, SECOND.public)]
    assert read(answer(SECOND, chain)).verify(ANCHOR) == GOOD.time
    with pytest.raises(PermanentError, match="not signed by the cluster's signing key"):
        read(answer(SECOND)).verify(ANCHOR)


@pytest.mark.parametrize("changes", [{"cluster": "other"}, {"nonce": bytes(NONCE_BYTES)}, {"nonce": b""}])
def test_an_answer_to_another_question(changes: dict[str, Any]) -> None:
    with pytest.raises(PermanentError, match="another question"):
        read(answer(**changes))


@pytest.mark.parametrize("time", [0.0, -1.0, LATEST, 1e300])
def test_a_time_that_cannot_be(time: float) -> None:
    with pytest.raises(InvalidObjectError, match="time"):
        read(answer(time=time))


def test_something_else_that_the_hub_signed() -> None:
    payload = msgspec.json.encode(GOOD)
    with pytest.raises(InvalidObjectError, match="payloadType"):
        read(encode_envelope(sign_envelope(INDEX_TYPE, payload, FIRST.public.id, FIRST)))


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(answer()) - 1)))
def test_whatever_comes_in_is_read_or_refused(change: bytes | int) -> None:
    data = change if isinstance(change, bytes) else _flipped(answer(), change)
    try:
        received = read(data)
    except (InvalidObjectError, PermanentError):
        return
    with pytest.raises(PermanentError):
        received.verify(ANCHOR)


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_too_much_is_not_looked_at() -> None:
    with pytest.raises(InvalidObjectError, match="more than"):
        read(bytes(MAX_ANSWER_BYTES + 1))
    with pytest.raises(InvalidObjectError, match="more than"):
        decode_question(b" " * 300)


@pytest.mark.parametrize(
    "question", [b"", b"{}", b"[]", b'{"nonce":""}', b'{"nonce":"AAEC"}', b'{"nonce":1}', b'{"nonce":"%"}']
)
def test_a_question_that_is_none(question: bytes) -> None:
    with pytest.raises(InvalidObjectError):
        decode_question(question)
