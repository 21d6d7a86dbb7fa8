"""The messages of a renewal: what is refused before anything of it is believed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.cluster.ca import Authority
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import PrivateKey, read_certificate, verifies
from edgeagent.wire.envelope import Envelope, Signature, encode_envelope, sign_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.renewal import (
    MAX_RENEWAL_ANSWER_BYTES,
    MAX_RENEWAL_BYTES,
    RENEWAL_ANSWER_TYPE,
    RENEWAL_REQUEST_TYPE,
    RenewalAnswer,
    RenewalRequest,
    check_renewed,
    decode_renewal,
    encode_renewal,
    encode_renewal_answer,
    is_renewal,
    open_renewal_answer,
)

CLOCK = ManualClock(1_800_000_000.0)
AUTHORITY = Authority.create("plant", CLOCK)[0]
OLD, NEW = PrivateKey.generate(), PrivateKey.generate()
IN_USE = read_certificate(AUTHORITY.sign_csr(OLD.request("gw-1"), "gw-1", 365).certificate)
SIGNING = SigningKey(bytes(range(32)))
ANCHOR = TrustAnchor(cluster="plant", serial=1, key=SIGNING.public.raw)
REQUEST = RenewalRequest(
    cluster="plant", node="gw-1", certificate=IN_USE.der, nonce=bytes(16), csr=NEW.request("gw-1")
)
ASKED = encode_renewal(REQUEST, OLD)


def answer(**changes: object) -> bytes:
    """The hub's, changed."""
    received = decode_renewal(ASKED, cluster="plant")
    signed = AUTHORITY.sign_csr(REQUEST.csr, "gw-1", 365)
    good = RenewalAnswer(
        cluster="plant",
        node="gw-1",
        request=received.digest,
        certificate=signed.certificate,
        ca=AUTHORITY.certificate,
    )
    return encode_renewal_answer(msgspec.structs.replace(good, **changes), SIGNING.public.id, SIGNING, [])


def test_a_request_and_its_answer() -> None:
    received = decode_renewal(ASKED, cluster="plant")
    assert received.request == REQUEST
    assert received.wanted == NEW.public
    assert received.made_with(OLD.public)
    assert not received.made_with(NEW.public)
    assert is_renewal(ASKED)
    assert len(ASKED) < 2_048
    found = open_renewal_answer(answer(), ASKED, ANCHOR)
    assert check_renewed(found, NEW).common_name == "gw-1"


def test_the_bytes_that_are_signed() -> None:
    """Known bytes: DSSE's encoding of the canonical JSON."""
    request = RenewalRequest(cluster="plant", node="gw-1", certificate=b"\x01", nonce=bytes(16))
    payload = b'{"certificate":"AQ==","cluster":"plant","node":"gw-1","nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}'
    assert canonical_json(request) == payload
    data = b"DSSEv1 49 application/vnd.edgeagent.renewal-request.v1+json %d %b" % (len(payload), payload)
    [kind, body, [[key_id, signature]], chain] = msgspec.msgpack.decode(encode_renewal(request, OLD))
    assert (kind, body, chain) == (RENEWAL_REQUEST_TYPE, payload, [])
    assert len(key_id) == 16
    assert verifies(OLD.public, signature, data)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cluster": "other"}, "this is cluster 'plant'"),
        ({"node": "GW 1"}, "node"),
        ({"node": "gw-2"}, "csr: is for another name"),
        ({"nonce": b"short"}, "nonce: must have 16 bytes"),
        ({"certificate": bytes(5_000)}, "certificate: more than 4096 bytes"),
        ({"csr": bytes(5_000)}, "csr: more than 4096 bytes"),
        ({"csr": b"nonsense"}, "the request cannot be read"),
    ],
)
def test_a_request_that_is_not_fit(changes: dict[str, object], problem: str) -> None:
    data = encode_renewal(msgspec.structs.replace(REQUEST, **changes), OLD)
    with pytest.raises((InvalidObjectError, PermanentError), match=problem):
        decode_renewal(data, cluster="plant")


def test_a_request_that_is_too_large_or_of_another_type_or_has_a_chain() -> None:
    with pytest.raises(InvalidObjectError, match="more than the"):
        decode_renewal(bytes(MAX_RENEWAL_BYTES + 1), cluster="plant")
    payload = canonical_json(REQUEST)
    other = Envelope(RENEWAL_ANSWER_TYPE, payload, [Signature("x", b"x")])
    with pytest.raises(InvalidObjectError, match="payloadType"):
        decode_renewal(encode_envelope(other), cluster="plant")
    chained = Envelope(RENEWAL_REQUEST_TYPE, payload, [], [Envelope("x", b"", [])])
    with pytest.raises(InvalidObjectError, match="chain"):
        decode_renewal(encode_envelope(chained), cluster="plant")
    assert not decode_renewal(
        encode_envelope(Envelope(RENEWAL_REQUEST_TYPE, payload, [])), cluster="plant"
    ).made_with(OLD.public)


@given(st.binary(max_size=300), st.integers(0, len(ASKED)))
def test_any_bytes_are_refused_as_a_request(noise: bytes, cut: int) -> None:
    for data in (noise, ASKED[:cut] + noise):
        is_renewal(data)
        if data != ASKED:
            try:
                received = decode_renewal(data, cluster="plant")
            except (InvalidObjectError, PermanentError):
                continue
            assert received.request == REQUEST or not received.made_with(OLD.public)


@given(st.binary(max_size=300), st.integers(0, 1_000))
def test_any_bytes_are_refused_as_an_answer(noise: bytes, cut: int) -> None:
    whole = answer()
    for data in (noise, whole[:cut] + noise):
        if data != whole:
            with pytest.raises((InvalidObjectError, PermanentError)):
                open_renewal_answer(data, ASKED, ANCHOR)


@pytest.mark.parametrize(
    "changes",
    [{"cluster": "other"}, {"node": "gw-2"}, {"request": "0" * 64}, {"request": ""}],
)
def test_an_answer_to_another_request(changes: dict[str, object]) -> None:
    with pytest.raises(PermanentError, match="another request"):
        open_renewal_answer(answer(**changes), ASKED, ANCHOR)


def test_an_answer_that_the_cluster_has_not_signed() -> None:
    stranger = SigningKey.generate()
    received = decode_renewal(ASKED, cluster="plant")
    content = RenewalAnswer(cluster="plant", node="gw-1", request=received.digest)
    forged = encode_renewal_answer(content, SIGNING.public.id, stranger, [])
    with pytest.raises(PermanentError, match="not signed by the cluster's signing key"):
        open_renewal_answer(forged, ASKED, ANCHOR)
    # What it has signed as another thing is no answer.
    other = sign_envelope(
        "application/vnd.edgeagent.index.v1+json", canonical_json(content), SIGNING.public.id, SIGNING
    )
    with pytest.raises(InvalidObjectError, match="payloadType"):
        open_renewal_answer(encode_envelope(other), ASKED, ANCHOR)
    with pytest.raises(InvalidObjectError, match="more than the"):
        open_renewal_answer(bytes(MAX_RENEWAL_ANSWER_BYTES + 1), ASKED, ANCHOR)
    with pytest.raises(InvalidObjectError, match="more than 500"):
        open_renewal_answer(answer(reason="No", message="x" * 501), ASKED, ANCHOR)


def test_a_certificate_that_is_for_another_key_or_name_or_of_another_ca() -> None:
    for key, name in ((OLD, "gw-1"), (NEW, "gw-2")):
        other = AUTHORITY.sign_csr(key.request(name), name, 365).certificate
        with pytest.raises(PermanentError, match="not for this node's new key"):
            check_renewed(open_renewal_answer(answer(certificate=other), ASKED, ANCHOR), NEW)
    stranger = Authority.create("plant", CLOCK)[0]
    with pytest.raises(PermanentError, match="not signed by the cluster's CA"):
        check_renewed(open_renewal_answer(answer(ca=stranger.certificate), ASKED, ANCHOR), NEW)
    for broken in ({"certificate": ""}, {"ca": ""}, {"ca": "nonsense"}):
        with pytest.raises(PermanentError, match="cannot be read"):
            check_renewed(open_renewal_answer(answer(**broken), ASKED, ANCHOR), NEW)
