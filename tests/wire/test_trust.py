"""Signatures, the chain of keys, requests to a node."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import (
    INDEX_TYPE,
    MAX_CHAIN,
    MAX_SIGNATURES,
    REQUEST_TYPE,
    ROTATION_TYPE,
    Envelope,
    decode_envelope,
    encode_envelope,
    pre_authentication,
    sign_envelope,
)
from edgeagent.wire.keys import SigningKey, VerifyKey
from edgeagent.wire.noderequest import NodeRequest, open_request, sign_request
from edgeagent.wire.trust import Rotation, follow, rotate, verify

KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 7)]
STRANGER = SigningKey.generate()
FIRST = TrustAnchor(cluster="c", serial=1, key=KEYS[0].public.raw)
CHAIN = [rotate("c", n + 1, KEYS[n - 1], KEYS[n].public) for n in range(1, len(KEYS))]


def signed(key: SigningKey, payload: bytes = b"{}", chain: list[Envelope] | None = None) -> Envelope:
    return sign_envelope(INDEX_TYPE, payload, key.public.id, key, chain or [])


def refuse(envelope: Envelope, anchor: TrustAnchor, reason: str) -> None:
    with pytest.raises(PermanentError) as error:
        verify(envelope, anchor)
    assert error.value.reason == reason


def test_the_signed_bytes_are_those_of_the_dsse_specification() -> None:
    assert (
        pre_authentication("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_pinned_key_is_believed_and_no_other() -> None:
    assert verify(signed(KEYS[0]), FIRST) == FIRST
    refuse(signed(STRANGER), FIRST, "BadSignature")
    refuse(Envelope(INDEX_TYPE, b"{}", []), FIRST, "BadSignature")


@pytest.mark.parametrize("start", range(1, 7))
def test_the_chain_is_followed_from_any_link(start: int) -> None:
    anchor = TrustAnchor(cluster="c", serial=start, key=KEYS[start - 1].public.raw)
    newest = verify(signed(KEYS[-1], chain=CHAIN), anchor)
    assert (newest.serial, newest.key) == (6, KEYS[-1].public.raw)
    assert follow(newest, CHAIN) == newest


def test_a_key_that_was_rotated_away_is_believed_no_more() -> None:
    newest = follow(FIRST, CHAIN)
    refuse(signed(KEYS[0]), newest, "BadSignature")
    refuse(signed(KEYS[0], chain=CHAIN), FIRST, "BadSignature")


def test_a_link_that_is_missing_or_out_of_order() -> None:
    refuse(signed(KEYS[-1], chain=[CHAIN[0], *CHAIN[2:]]), FIRST, "BadKeyChain")
    refuse(signed(KEYS[-1], chain=CHAIN[::-1]), FIRST, "BadKeyChain")
    refuse(signed(KEYS[-1]), FIRST, "BadSignature")


def test_a_forged_link() -> None:
    refuse(signed(STRANGER, chain=[rotate("c", 2, STRANGER, STRANGER.public)]), FIRST, "BadKeyChain")
    claimed = sign_envelope(ROTATION_TYPE, CHAIN[0].payload, KEYS[0].public.id, STRANGER)
    refuse(signed(KEYS[1], chain=[claimed]), FIRST, "BadKeyChain")


def test_a_link_of_another_cluster_leads_nowhere() -> None:
    other = rotate("d", 2, KEYS[0], KEYS[1].public)
    refuse(signed(KEYS[1], chain=[other]), FIRST, "BadSignature")
    assert follow(FIRST, [other]) == FIRST


def test_a_signature_for_one_type_is_none_for_another() -> None:
    payload = canonical_json(Rotation(cluster="c", serial=2, key=STRANGER.public.raw))
    as_index = sign_envelope(INDEX_TYPE, payload, KEYS[0].public.id, KEYS[0])
    disguised = Envelope(ROTATION_TYPE, payload, as_index.signatures)
    refuse(signed(STRANGER, chain=[disguised]), FIRST, "BadKeyChain")
    refuse(signed(STRANGER, chain=[as_index]), FIRST, "BadKeyChain")
    with pytest.raises(InvalidObjectError, match=f"payloadType: expected {REQUEST_TYPE}".replace("+", r"\+")):
        decode_envelope(encode_envelope(as_index), REQUEST_TYPE)


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, b"\xff" * 32])
def test_a_chain_to_what_is_no_key(key: bytes) -> None:
    payload = canonical_json(Rotation(cluster="c", serial=2, key=key))
    link = sign_envelope(ROTATION_TYPE, payload, KEYS[0].public.id, KEYS[0])
    with pytest.raises(PermanentError):
        verify(signed(STRANGER, chain=[link]), FIRST)


@given(data=st.data())
def test_no_changed_byte_is_accepted(data: Any) -> None:
    good = encode_envelope(signed(KEYS[1], b'{"a":1}', CHAIN[:1]))
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    try:
        envelope = decode_envelope(bytes(bad), INDEX_TYPE)
        newest = verify(envelope, FIRST)
    except PermanentError:
        return
    # What is not signed (the wrapper's spelling) may change, what is signed may not.
    assert envelope.payload == b'{"a":1}'
    assert newest.key == KEYS[1].public.raw


@given(signature=st.binary(max_size=100))
def test_a_signature_of_any_shape_is_just_wrong(signature: bytes) -> None:
    assert not KEYS[0].public.verifies(signature, b"data")


@given(data=st.binary(max_size=100))
def test_noise_is_no_envelope(data: bytes) -> None:
    with pytest.raises(InvalidObjectError):
        decode_envelope(data, INDEX_TYPE)


def test_an_envelope_has_bounds() -> None:
    """Whoever owns the broker cannot make a node verify for minutes, or run out of stack."""
    flooded = msgspec.structs.replace(CHAIN[0], signatures=CHAIN[0].signatures * (MAX_SIGNATURES + 1))
    for chain in ([flooded], [CHAIN[0]] * (MAX_CHAIN + 1), [signed(KEYS[0], chain=CHAIN)]):
        with pytest.raises(InvalidObjectError):
            decode_envelope(encode_envelope(signed(KEYS[0], chain=chain)), INDEX_TYPE)
    with pytest.raises(InvalidObjectError):
        decode_envelope(
            encode_envelope(msgspec.structs.replace(flooded, payload_type=INDEX_TYPE)), INDEX_TYPE
        )
    nested = b"\x94\xa0\xc4\x00\x90\x91" * 100_000
    with pytest.raises(InvalidObjectError):
        decode_envelope(nested, INDEX_TYPE)


def request(**changes: Any) -> NodeRequest:
    fields: dict[str, Any] = {
        "cluster": "c",
        "node": "n",
        "method": "logs",
        "nonce": "1",
        "expires": 1060.0,
        "call": b"what an operator signed",
    }
    return NodeRequest(**(fields | changes))


def ask(found: NodeRequest, key: SigningKey = KEYS[0], chain: list[Envelope] | None = None) -> NodeRequest:
    payload = encode_envelope(sign_request(found, key, chain or []))
    opened, _ = open_request(payload, FIRST, node="n", method="logs", now=1000.0)
    return opened


def test_a_request_for_this_node() -> None:
    opened = ask(request())
    assert opened.call == b"what an operator signed"
    assert ask(request(), KEYS[2], CHAIN[:2]).nonce == "1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node": "m"}, "WrongNode"),
        ({"method": "exec"}, "WrongNode"),
        ({"cluster": "d"}, "WrongNode"),
        ({"expires": 999.9}, "Expired"),
        ({"expires": 0}, "Expired"),
        ({"expires": 1121.0}, "Expired"),
        ({"expires": 1e300}, "Expired"),
    ],
)
def test_a_request_that_is_not_for_here_or_not_for_now(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(PermanentError) as error:
        ask(request(**changes))
    assert error.value.reason == reason


def test_a_request_that_somebody_else_signed() -> None:
    with pytest.raises(PermanentError, match="not signed by the cluster"):
        ask(request(), STRANGER)
    index = encode_envelope(sign_envelope(INDEX_TYPE, canonical_json(request()), KEYS[0].public.id, KEYS[0]))
    with pytest.raises(InvalidObjectError):
        open_request(index, FIRST, node="n", method="logs", now=1000.0)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(PermanentError, match="has 32 bytes, not 5"):
        VerifyKey(b"short")
