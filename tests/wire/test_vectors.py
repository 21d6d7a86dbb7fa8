"""Every cryptographic format against fixed bytes, and against a second implementation of docs/wire.md.

What the primitives are is shown by the vectors of their own specifications.
"""

import json
import re
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import SealedSecret, Secret
from edgeagent.api.objects.decode import decode_json
from edgeagent.cluster.atrest import object_context
from edgeagent.wire import keys as keys_module
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.audit import AuditRow, first_previous, row_hash
from edgeagent.wire.blob import ChunkList, decode_blob, encode_blob, join_chunks
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.certificates import PrivateKey, read_certificate, read_request, verifies
from edgeagent.wire.channelframes import AnyFrame, Data, End, Open, Request, decode_frame, encode_frame
from edgeagent.wire.clientid import client_id
from edgeagent.wire.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    MacKey,
    decode_answer,
    decode_request,
    encode_answer,
    fingerprint,
    parse_token,
)
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope, encode_envelope, pre_authentication
from edgeagent.wire.index import Index, decode_index, encode_index
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.keys import SealingKey, SigningKey, StorageKey, VerifyKey, derive_key, seal
from edgeagent.wire.networkkey import NETWORK_KEY_TYPE, NetworkKey, check_network_key
from edgeagent.wire.noderequest import NodeRequest, sign_request
from edgeagent.wire.noderequest import open_request as open_node_request
from edgeagent.wire.operatorcalls import OperatorRequest, OperatorTrust, open_call
from edgeagent.wire.privatecalls import open_answer, open_request, seal_answer, seal_request
from edgeagent.wire.renewal import (
    RenewalAnswer,
    RenewalRequest,
    check_renewed,
    decode_renewal,
    encode_renewal_answer,
    open_renewal_answer,
)
from edgeagent.wire.rpc import decode_reply, encode_reply
from edgeagent.wire.sealing import seal_secret, unseal_secret
from edgeagent.wire.signedtime import ReceivedTime, SignedTime, decode_question, encode_question, encode_time
from edgeagent.wire.stream import SIGNALS, Carrier
from edgeagent.wire.streamkey import StreamSecret, ciphers, seal_stream, stream_context, unseal_stream
from edgeagent.wire.trust import rotate, verify
from tests.wire import reference
from tests.wire.vectors import FOLDER, Vector

KEYS = Vector("keys")
NOW = float(KEYS["now"])
SIGNING = [SigningKey(raw) for raw in KEYS.raws("signing_private")]
ANCHOR = TrustAnchor(cluster="plant", serial=1, key=SIGNING[0].public.raw)
SEALING = SealingKey(KEYS.raw("sealing_private"))
PRIMITIVES = Vector("primitives")


def primitive(name: str) -> dict[str, bytes]:
    found = PRIMITIVES.values[name]
    return {key: bytes.fromhex(value) for key, value in found.items() if key not in ("source", "size")}


@pytest.fixture
def fixed_ephemeral(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sealed, is sealed with the ephemeral key of the vectors."""

    class Fixed:
        @staticmethod
        def generate() -> X25519PrivateKey:
            return X25519PrivateKey.from_private_bytes(KEYS.raw("ephemeral_private"))

        from_private_bytes = staticmethod(X25519PrivateKey.from_private_bytes)

    monkeypatch.setattr(keys_module, "X25519PrivateKey", Fixed)


# The primitives, by their own specifications


def test_ed25519_is_that_of_rfc_8032() -> None:
    given = primitive("ed25519")
    key = SigningKey(given["private"])
    assert key.public.raw == given["public"]
    assert key.sign(given["message"]) == given["signature"]
    assert VerifyKey(given["public"]).verifies(given["signature"], given["message"])
    assert not VerifyKey(given["public"]).verifies(given["signature"], given["message"] + b"\0")


def test_x25519_is_that_of_rfc_7748() -> None:
    given = primitive("x25519")
    assert SealingKey(given["alice_private"]).public == given["alice"]
    assert SealingKey(given["bob_private"]).public == given["bob"]
    assert reference.agreed(given["alice_private"], given["bob"]) == given["shared"]
    assert reference.agreed(given["bob_private"], given["alice"]) == given["shared"]


def test_hkdf_is_that_of_rfc_5869() -> None:
    given = primitive("hkdf")
    made = reference.hkdf(given["secret"], given["salt"], given["info"], PRIMITIVES.values["hkdf"]["size"])
    assert made == given["key"]
    assert derive_key(given["secret"], given["info"]) == reference.hkdf(given["secret"], b"", given["info"])


def test_chacha20poly1305_is_that_of_rfc_8439() -> None:
    given = primitive("chacha20poly1305")
    cipher = ChaCha20Poly1305(given["key"])
    assert cipher.encrypt(given["nonce"], given["data"], given["context"]) == given["sealed"]


def test_the_mac_is_that_of_rfc_4231() -> None:
    given = primitive("hmac")
    assert MacKey(given["key"]).sign(given["data"]) == given["mac"]


def test_the_signed_bytes_are_those_of_the_dsse_specification() -> None:
    given = Vector("dsse")
    assert pre_authentication(given["type"], given.raw("payload")) == given.raw("pae")


# The formats


def test_canonical_json() -> None:
    given = Vector("canonical")
    data = json.loads(given["text"])
    assert canonical_json(data) == reference.canonical(data) == given.raw("canonical")
    assert digest(given.raw("canonical")) == given["digest"]


def test_blobs() -> None:
    given = Vector("blob")
    body = given.raw("body")
    assert encode_blob(b"edge", 10_000).payload == b"\x00edge"  # packed it would be larger
    assert decode_blob(given.raw("plain"), len(body)) == body
    # Another zlib may pack otherwise: what is packed must be read by all, and made alike by none.
    assert decode_blob(given.raw("compressed"), 10_000) == given.raw("repeated")
    listing = decode_blob(given.raw("chunked"), len(body))
    assert isinstance(listing, ChunkList)
    assert listing.chunks == given.values["chunk_names"]
    pieces = [decode_blob(chunk, 64) for chunk in given.raws("chunks")]
    named = {digest(piece): piece for piece in pieces if isinstance(piece, bytes)}
    assert join_chunks(listing, named, len(body)) == body


def test_index() -> None:
    given = Vector("index")
    payload = given.raw("payload")
    assert encode_index(decode_json(payload, Index)) == payload
    assert pre_authentication(INDEX_TYPE, payload) == given.raw("pae")
    assert SIGNING[0].sign(given.raw("pae")) == given.raw("signature")
    envelope = decode_envelope(given.raw("envelope"), INDEX_TYPE)
    assert encode_envelope(envelope) == given.raw("envelope")
    assert reference.pack(reference.signed(INDEX_TYPE, payload, SIGNING[0].raw)) == given.raw("envelope")
    assert verify(envelope, ANCHOR) == ANCHOR
    assert decode_index(envelope.payload, cluster="plant", node="gw-1").generation == 7


def test_rotation() -> None:
    given = Vector("rotation")
    link = rotate("plant", 2, SIGNING[0], SIGNING[1].public)
    assert encode_envelope(link) == given.raw("link")
    assert link.payload == given.raw("payload")
    newest = verify(decode_envelope(given.raw("envelope"), INDEX_TYPE), ANCHOR)
    assert (newest.serial, newest.key) == (3, SIGNING[2].public.raw)


def test_key_ids() -> None:
    for key, public, key_id in zip(
        SIGNING, KEYS.raws("signing_public"), KEYS.values["signing_key_id"], strict=True
    ):
        assert (key.public.raw, key.public.id) == (public, key_id)
        assert reference.key_id(public) == key_id


@pytest.mark.usefixtures("fixed_ephemeral")
def test_sealing() -> None:
    given = Vector("sealing")
    private, public, ephemeral = (given.raw(n) for n in ("recipient_private", "recipient", "ephemeral"))
    shared = reference.agreed(given.raw("ephemeral_private"), public)
    assert shared == given.raw("shared")
    assert ephemeral + public == given.raw("salt")
    assert reference.hkdf(shared, given.raw("salt"), given.raw("info")) == given.raw("key")
    data, context, sealed = (given.raw(n) for n in ("data", "context", "sealed"))
    assert reference.seal(public, given.raw("ephemeral_private"), data, context) == sealed
    assert seal(public, data, context) == sealed
    assert SealingKey(private).unseal(sealed, context) == data == reference.unseal(private, sealed, context)


def test_what_is_sealed_is_opened_by_the_second_implementation_and_the_other_way_round() -> None:
    sealed = seal(SEALING.public, b"data", b"context")
    assert reference.unseal(SEALING.raw, sealed, b"context") == b"data"
    theirs = reference.seal(SEALING.public, bytes(range(9, 41)), b"data", b"context")
    assert SEALING.unseal(theirs, b"context") == b"data"


@pytest.mark.usefixtures("fixed_ephemeral")
def test_sealed_secret() -> None:
    given = Vector("secret")
    secret = decode_json(given.raw("secret"), Secret)
    sealed = seal_secret(secret, SEALING.public, cluster="plant", node="gw-1")
    assert canonical_json(sealed) == given.raw("object")
    assert reference.unseal(SEALING.raw, given.raw("sealed"), given.raw("context")) == given.raw("secret")
    kept = decode_json(given.raw("object"), SealedSecret)
    assert unseal_secret(kept, SEALING, cluster="plant", node="gw-1") == secret
    for cluster, node, meta in (
        ("other", "gw-1", kept.metadata),
        ("plant", "gw-2", kept.metadata),
        ("plant", "gw-1", msgspec.structs.replace(kept.metadata, uid="u-3")),
        ("plant", "gw-1", msgspec.structs.replace(kept.metadata, resource_version="13")),
        ("plant", "gw-1", msgspec.structs.replace(kept.metadata, name="other")),
        ("plant", "gw-1", msgspec.structs.replace(kept.metadata, namespace="other")),
    ):
        moved = msgspec.structs.replace(kept, metadata=meta)
        with pytest.raises(PermanentError):
            unseal_secret(moved, SEALING, cluster=cluster, node=node)


def test_operators_call() -> None:
    given = Vector("operator_call")
    assert canonical_json(decode_json(given.raw("payload"), OperatorRequest)) == given.raw("payload")
    call = open_call(
        given.raw("call"),
        OperatorTrust(KEYS["ca"]),
        cluster="plant",
        target="gw-1",
        method="logs",
        now=NOW + 1,
    )
    assert (call.operator, call.request.method) == ("ada", "logs")
    assert bytes(call.request.params) == b'{"namespace":"default","pod":"web"}'
    signed: reference.Packed = [
        given.raw("certificate"),
        [
            "application/vnd.edgeagent.operator-request.v1+json",
            given.raw("payload"),
            [[given["key_id"], given.raw("signature")]],
            [],
        ],
    ]
    assert reference.pack(signed) == given.raw("call")
    public = read_certificate(KEYS["operator_certificate"]).public_key
    assert verifies(public, given.raw("signature"), given.raw("pae"))
    assert reference.key_id(public) == given["key_id"]


@pytest.mark.usefixtures("fixed_ephemeral")
def test_sealed_call() -> None:
    given = Vector("sealed_call")
    topic, correlation, call = given["reply_topic"], given.raw("correlation"), given.raw("call")
    hub, answers = SealingKey(KEYS.raw("hub_private")), SealingKey(KEYS.raw("answers_private"))
    assert seal_request(call, hub.public, answers.public, topic, correlation) == given.raw("request")
    assert open_request(given.raw("request"), hub, topic, correlation) == (call, answers.public)
    reply = given.raw("reply")
    assert encode_reply({"items": []}) == reply
    assert seal_answer(reply, answers.public, topic, correlation) == given.raw("answer")
    assert open_answer(given.raw("answer"), answers, topic, correlation) == reply
    assert decode_reply(reply).last
    opened = reference.unseal(hub.raw, given.raw("request")[1:], given.raw("context"))
    assert opened == answers.public + call


def test_node_request() -> None:
    given = Vector("node_request")
    request = decode_json(given.raw("payload"), NodeRequest)
    assert encode_envelope(sign_request(request, SIGNING[0], [])) == given.raw("envelope")
    opened, _ = open_node_request(given.raw("envelope"), ANCHOR, node="gw-1", method="logs", now=NOW)
    assert opened == request
    assert opened.call == Vector("operator_call").raw("call")


def test_enrolment_request() -> None:
    given = Vector("enrolment")
    token = parse_token(given["token"])
    assert token.request_key.raw == reference.mac_key(token.id, token.secret, "request")
    assert token.request_key.raw == given.raw("request_key")
    assert token.answer_key.raw == given.raw("answer_key")
    payload = given.raw("request_payload")
    request = decode_json(payload, EnrolmentRequest)
    assert canonical_json(request) == payload
    received = decode_request(given.raw("request"), cluster="plant", channel=request.channel)
    assert received.made_with(token.request_key)
    assert not received.made_with(token.answer_key)
    assert received.possessed_key() == given.raw("public_key") == KEYS.raw("tls_public")
    kind = "application/vnd.edgeagent.enrolment-request.v1+json"
    assert token.request_key.sign(reference.pae(kind, payload)) == given.raw("request_mac")
    signatures: list[reference.Packed] = [
        ["token", given.raw("request_mac")],
        ["tls", given.raw("possession")],
    ]
    assert reference.pack([kind, payload, signatures, []]) == given.raw("request")
    assert fingerprint(given.raw("public_key")) == given["fingerprint"]
    assert client_id("plant", "gw-1", SEALING.raw) == request.client_id == given["client_id"]
    assert read_request(KEYS.raw("csr")).public_key == given.raw("public_key")


def test_enrolment_answer() -> None:
    given = Vector("enrolment")
    token = parse_token(given["token"])
    answer, authentic = decode_answer(given.raw("answer"), given.raw("request"), token.answer_key)
    assert authentic
    assert encode_answer(answer, token.answer_key) == given.raw("answer")
    assert canonical_json(decode_json(given.raw("answer_payload"), EnrolmentAnswer)) == given.raw(
        "answer_payload"
    )
    assert (answer.trust, answer.brokers) == (ANCHOR, [BrokerAddress(host="broker.example")])
    own = read_certificate(answer.certificate)
    assert own.fits(PrivateKey(KEYS["tls_key"]))
    assert own.common_name == "gw-1"


def test_renewal() -> None:
    given = Vector("renewal")
    received = decode_renewal(given.raw("request"), cluster="plant")
    assert canonical_json(decode_json(given.raw("request_payload"), RenewalRequest)) == given.raw(
        "request_payload"
    )
    assert received.made_with(KEYS.raw("tls_public"))
    assert reference.key_id(KEYS.raw("tls_public")) == given["key_id"]
    answer = open_renewal_answer(given.raw("answer"), given.raw("request"), ANCHOR)
    assert check_renewed(answer, PrivateKey(KEYS["next_tls_key"])).common_name == "gw-1"
    second = SIGNING[1]
    chain = [rotate("plant", 2, SIGNING[0], second.public)]
    assert encode_renewal_answer(answer, second.public.id, second, chain) == given.raw("answer")
    assert canonical_json(decode_json(given.raw("answer_payload"), RenewalAnswer)) == given.raw(
        "answer_payload"
    )


def test_network_key() -> None:
    given = Vector("network_key")
    said = NetworkKey(cluster="plant", node="gw-1", public_key=given["public_key"])
    assert canonical_json(said) == given.raw("payload")
    check_network_key(given.raw("proof"), said, [KEYS.raw("tls_public")])
    [kind, payload, [[key_id, signature]], chain] = msgspec.msgpack.decode(given.raw("proof"))
    assert (kind, payload, chain) == (NETWORK_KEY_TYPE, given.raw("payload"), [])
    assert (key_id, signature) == (reference.key_id(KEYS.raw("tls_public")), given.raw("signature"))
    assert key_id == given["key_id"]


def test_signed_time() -> None:
    given = Vector("time")
    nonce = given.raw("nonce")
    assert encode_question(nonce) == given.raw("question")
    assert decode_question(given.raw("question")) == nonce
    answer = decode_json(given.raw("answer_payload"), SignedTime)
    assert encode_time(answer, SIGNING[0].public.id, SIGNING[0], []) == given.raw("answer")
    received = ReceivedTime(given.raw("answer"), cluster="plant", nonce=nonce)
    assert received.verify(ANCHOR) == NOW + 0.25


@pytest.mark.usefixtures("fixed_ephemeral")
def test_streams() -> None:
    given = Vector("stream")
    nonce = "00112233445566778899aabbccddeeff"
    context = stream_context("plant", "gw-1", "user:ada", "exec", nonce)
    halves = given.raw("operator_half"), given.raw("node_half")
    assert context == given.raw("context")
    secret = StreamSecret(half=halves[0], private=msgspec.Raw(b'{"command":["id"]}'))
    assert canonical_json(secret) == given.raw("secret")
    assert seal_stream(secret, SEALING.public, context) == given.raw("sealed")
    assert unseal_stream(given.raw("sealed"), SEALING, context) == given.raw("secret")
    keys = reference.stream_keys(*halves, context)
    assert keys == (given.raw("to_node"), given.raw("to_operator"))
    to_node, to_operator = ciphers(*halves, context)
    for name, number in (("data", 0), ("signal", SIGNALS)):
        made = reference.stream_packet(keys[1], number, given.raw(f"{name}_plain"))
        assert made == given.raw(name)
        assert to_operator.open(number, made[8:]) == given.raw(f"{name}_plain")
    operator = Carrier(to_node, to_operator, client=True, now=0.0)
    assert operator.receive(given.raw("data"), 0.0) == given.raws("frames")
    assert operator.receive(given.raw("signal"), 0.0) == []
    assert operator.heard == 2
    node = Carrier(to_operator, to_node, client=False, now=0.0)
    node.send(given.raws("frames"))
    assert node.next_packet(0.0) == given.raw("data")
    frames: list[AnyFrame] = [
        Open(1, "stdout", b"{}", 65536, 16),
        Data(1, b"hello\n"),
        Request(3, "exit", b'{"exitCode":0}'),
        End("", ""),
    ]
    assert [decode_frame(one) for one in given.raws("frames")] == frames
    assert [encode_frame(one) for one in frames] == given.raws("frames")


def test_audit_rows() -> None:
    given = Vector("audit")
    assert first_previous(given["chain"]) == given["previous"]
    assert row_hash(decode_json(given.raw("row"), AuditRow)) == given["hash"]


def test_values_at_rest() -> None:
    given = Vector("storage")
    key = StorageKey(given.raw("key"))
    assert key.id == given.raw("id")
    stored, data, context = given.raw("stored"), given.raw("data"), given.raw("context")
    assert stored[:9] == b"\x01" + key.id
    assert key.decrypt(stored[9:], context) == data
    made = key.encrypt(data, context)
    assert ChaCha20Poly1305(key.raw).decrypt(made[:12], made[12:], context) == data
    again = given.raw("nonce") + ChaCha20Poly1305(key.raw).encrypt(given.raw("nonce"), data, context)
    assert again == stored[9:]
    uid, version = "u-2", 12
    assert context == canonical_json(object_context("Secret", "default", "db", uid, version))


# What is written about them


def test_the_examples_of_the_document_are_these(checkout: Path) -> None:
    """Each block that begins with three ticks and ``vector NAME`` holds ``key = value`` of that file."""
    blocks = re.findall(r"(?ms)^```vector (\w+)\n(.*?)^```", (checkout / "docs" / "wire.md").read_text())
    assert {name for name, _ in blocks} >= {path.stem for path in FOLDER.glob("*.json")} - {"primitives"}
    for name, text in blocks:
        values = Vector(name).values
        pairs = re.findall(r"(?m)^(\w+) =(.*(?:\n  .*)*)", text)
        assert pairs, name
        for key, value in pairs:
            wanted = values[key]
            joined = "\n".join(wanted) if isinstance(wanted, list) else str(wanted)
            assert "".join(value.split()) == "".join(joined.split()), f"{name}: {key}"
