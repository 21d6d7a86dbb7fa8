"""What device and hub say to each other to enrol: whoever changes it, or makes it up, is not believed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.clientid import client_id, is_client_id
from edgeagent.wire.enrolment import (
    ANSWER_TYPE,
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    REQUEST_TYPE,
    EnrolmentAnswer,
    EnrolmentRequest,
    MacKey,
    TokenText,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    fingerprint,
    new_channel,
    new_token,
    parse_token,
)
from edgeagent.wire.envelope import Envelope, Signature, decode_envelope, encode_envelope, pre_authentication
from edgeagent.wire.join import BrokerAddress

TOKEN = TokenText("abc234", "abcdefghijkmnpqrstuvwxyz23")
KEY = PrivateKey.generate()
CHANNEL = "0123456789abcdef" * 2


def request(**changes: object) -> EnrolmentRequest:
    made = EnrolmentRequest(
        cluster="plant",
        node="gw-1",
        token=TOKEN.id,
        channel=CHANNEL,
        csr=KEY.request("gw-1"),
        sealing_key=bytes(32),
        client_id=client_id("plant", "gw-1", b"secret"),
        nonce=bytes(16),
    )
    return msgspec.structs.replace(made, **changes)


def answer(asked: bytes, **changes: object) -> EnrolmentAnswer:
    received = decode_request(asked, cluster="plant", channel=CHANNEL)
    made = EnrolmentAnswer(
        cluster="plant",
        node="gw-1",
        nonce=received.request.nonce,
        request=received.digest,
        state="approved",
        certificate="PEM",
        ca="PEM",
        trust=TrustAnchor(cluster="plant", serial=1, key=bytes(32)),
        brokers=[BrokerAddress(host="broker")],
    )
    return msgspec.structs.replace(made, **changes)


ASKED = encode_request(request(), TOKEN.request_key, KEY)


def test_a_token_is_read_as_it_was_written_and_shows_its_secret_nowhere_else() -> None:
    token = new_token()
    assert parse_token(f" {token.text}\n") == token
    assert token.secret not in repr(token)
    assert len({new_token().text for _ in range(100)}) == 100
    assert TOKEN.request_key.raw != TOKEN.answer_key.raw
    assert TokenText("abc235", TOKEN.secret).request_key.raw != TOKEN.request_key.raw


@given(st.text(max_size=60))
def test_what_is_no_token_is_refused_without_being_repeated(text: str) -> None:
    try:
        parse_token(text)
    except PermanentError as error:
        problem = str(error)
        assert len(text.strip()) < 8 or text not in problem
    else:
        assert len(text.strip()) == 33


def test_a_request_proves_the_token_and_the_key() -> None:
    received = decode_request(ASKED, cluster="plant", channel=CHANNEL)
    assert received.made_with(TOKEN.request_key)
    assert received.possessed_key() == KEY.public
    assert not received.made_with(TOKEN.answer_key)
    assert not received.made_with(new_token().request_key)


@given(st.integers(min_value=0, max_value=len(ASKED) - 1), st.integers(min_value=1, max_value=255))
def test_a_request_changed_anywhere_is_not_believed(place: int, by: int) -> None:
    changed = bytearray(ASKED)
    changed[place] ^= by
    try:
        received = decode_request(bytes(changed), cluster="plant", channel=CHANNEL)
        believed = received.made_with(TOKEN.request_key) and received.possessed_key() == KEY.public
    except EdgeAgentError:
        return
    assert not believed


def test_another_certificate_request_in_the_place_of_the_own_is_refused() -> None:
    """What a broker would do to be the node: it has the message, not the token and not the key."""
    theirs = PrivateKey.generate()
    payload = canonical_json(request(csr=theirs.request("gw-1")))
    kept = decode_envelope(ASKED, REQUEST_TYPE).signatures
    data = pre_authentication(REQUEST_TYPE, payload)
    signatures = [kept[0], Signature("tls", theirs.sign(data))]
    received = decode_request(
        encode_envelope(Envelope(REQUEST_TYPE, payload, signatures)), cluster="plant", channel=CHANNEL
    )
    assert not received.made_with(TOKEN.request_key)
    # And with a token of its own it cannot have the device's key certified.
    own = new_token()
    payload = canonical_json(request(token=own.id))
    data = pre_authentication(REQUEST_TYPE, payload)
    stolen = Envelope(
        REQUEST_TYPE,
        payload,
        [Signature("token", own.request_key.sign(data)), Signature("tls", theirs.sign(data))],
    )
    received = decode_request(encode_envelope(stolen), cluster="plant", channel=CHANNEL)
    assert received.made_with(own.request_key)
    with pytest.raises(PermanentError, match="not signed by the key"):
        received.possessed_key()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cluster": "other"}, "cluster"),
        ({"channel": "f" * 32}, "channel"),
        ({"node": "Not A Name"}, "node"),
        ({"node": ""}, "node"),
        ({"token": "abc2345"}, "token"),
        ({"sealing_key": b"short"}, "sealingKey"),
        ({"nonce": b""}, "nonce"),
        ({"client_id": "plant.hub.0123456789abcdef"}, "clientId"),
        ({"client_id": "plant.gw-2.0123456789abcdef"}, "clientId"),
        ({"client_id": "plant.gw-1.x"}, "clientId"),
        ({"csr": bytes(3_000)}, "csr"),
    ],
)
def test_fields_that_cannot_be_are_named(changes: dict[str, object], words: str) -> None:
    data = encode_request(request(**changes), TOKEN.request_key, KEY)
    with pytest.raises(PermanentError, match=words):
        decode_request(data, cluster="plant", channel=CHANNEL)


def test_a_request_for_one_name_certifies_no_other() -> None:
    data = encode_request(request(csr=KEY.request("gw-2")), TOKEN.request_key, KEY)
    with pytest.raises(PermanentError, match="another name"):
        decode_request(data, cluster="plant", channel=CHANNEL).possessed_key()


@given(st.binary(max_size=300))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(PermanentError):
        decode_request(data, cluster="plant", channel=CHANNEL)
    with pytest.raises(PermanentError):
        decode_answer(data, ASKED, TOKEN.answer_key)


def test_messages_that_are_too_long_are_refused_before_they_are_read() -> None:
    with pytest.raises(PermanentError, match="more than"):
        decode_request(bytes(MAX_REQUEST_BYTES + 1), cluster="plant", channel=CHANNEL)
    with pytest.raises(PermanentError, match="more than"):
        decode_answer(bytes(MAX_ANSWER_BYTES + 1), ASKED, TOKEN.answer_key)


def test_an_answer_is_believed_where_the_token_vouches_for_it() -> None:
    given_answer = answer(ASKED)
    assert decode_answer(encode_answer(given_answer, TOKEN.answer_key), ASKED, TOKEN.answer_key) == (
        given_answer, True,
    )  # fmt: skip


ANSWER = encode_answer(answer(ASKED), TOKEN.answer_key)


@given(st.integers(min_value=0, max_value=len(ANSWER) - 1), st.integers(min_value=1, max_value=255))
def test_an_answer_changed_anywhere_grants_nothing(place: int, by: int) -> None:
    changed = bytearray(ANSWER)
    changed[place] ^= by
    with pytest.raises(EdgeAgentError):
        decode_answer(bytes(changed), ASKED, TOKEN.answer_key)


@pytest.mark.parametrize("key", [TOKEN.request_key, new_token().answer_key])
def test_an_answer_made_with_another_key_grants_nothing(key: MacKey) -> None:
    with pytest.raises(PermanentError, match="not made with the token"):
        decode_answer(encode_answer(answer(ASKED), key), ASKED, TOKEN.answer_key)


def test_an_answer_that_nobody_vouches_for_can_only_refuse() -> None:
    with pytest.raises(ValueError, match="grants nothing"):
        encode_answer(answer(ASKED), None)
    for state in ("approved", "pending"):
        bare = encode_envelope(Envelope(ANSWER_TYPE, canonical_json(answer(ASKED, state=state)), []))
        with pytest.raises(PermanentError, match="not made with the token"):
            decode_answer(bare, ASKED, TOKEN.answer_key)
    refusal = encode_answer(answer(ASKED, state="denied", message="no"), None)
    assert decode_answer(refusal, ASKED, TOKEN.answer_key)[1] is False


def test_an_answer_to_another_request_is_refused() -> None:
    again = encode_request(request(nonce=b"another nonce..."), TOKEN.request_key, KEY)
    with pytest.raises(PermanentError, match="another request"):
        decode_answer(encode_answer(answer(ASKED), TOKEN.answer_key), again, TOKEN.answer_key)


def test_names_of_sessions_are_the_nodes_own() -> None:
    assert is_client_id(client_id("plant", "gw-1", b"x"), "plant", "gw-1")
    assert not is_client_id(client_id("plant", "gw-1", b"x"), "plant", "gw-2")
    assert not is_client_id(client_id("plant", "gw-1", b"x") + "\n", "plant", "gw-1")
    assert len(new_channel()) == 32


def test_known_answers() -> None:
    """The formats do not change by accident: RFC 5869 with no salt, RFC 2104, and SHA-256 in groups."""
    assert TOKEN.request_key.raw.hex() == REQUEST_KEY
    assert TOKEN.answer_key.raw.hex() == ANSWER_KEY
    assert MacKey(bytes(32)).sign(b"data").hex() == MAC
    assert fingerprint(b"key") == "2c70 e12b 7a06 46f9 2279 f427 c7b3 8e73"


REQUEST_KEY = "b613d92e72e136666d00f82ca413155116ca52178f19a951f65e26aaff51ef68"
ANSWER_KEY = "f8e18f284df04d72d57f2db2e759d4167222b4686709e63e6c679c2614d88f57"
MAC = "e528c4d99e6177f5841f712a143b90843299a4aa181a06501422d9ca862bd2a5"
