"""Targets: what comes in over the broker, at the node and at the hub.

What must be signed is fed twice: as it comes, and signed with the key that is believed, so that what is
behind the signature is reached too.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import msgspec

from edgeagent.api.objects.decode import decode_object_json
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.blob import ChunkList, decode_blob, join_chunks
from edgeagent.wire.certificates import (
    PrivateKey,
    read_bundle,
    read_certificate,
    read_certificate_der,
    read_request,
)
from edgeagent.wire.channelframes import (
    AnyFrame,
    Close,
    Data,
    End,
    Eof,
    Open,
    Opened,
    Refused,
    Request,
    Window,
    encode_frame,
)
from edgeagent.wire.channels import Multiplexer
from edgeagent.wire.enrolment import (
    MacKey,
    Received,
    decode_answer,
    decode_request,
    parse_token,
)
from edgeagent.wire.envelope import (
    INDEX_TYPE,
    REQUEST_TYPE,
    ROTATION_TYPE,
    Envelope,
    Signature,
    decode_envelope,
    encode_envelope,
    pre_authentication,
    sign_envelope,
)
from edgeagent.wire.index import check_object, decode_index
from edgeagent.wire.keys import SealingKey, SigningKey
from edgeagent.wire.noderequest import open_request as open_node_request
from edgeagent.wire.operatorcalls import (
    OPERATOR_REQUEST_TYPE,
    OperatorTrust,
    SignedCall,
    open_call,
    read_call,
)
from edgeagent.wire.privatecalls import open_answer, open_request, seal_answer, seal_request
from edgeagent.wire.renewal import (
    RENEWAL_ANSWER_TYPE,
    RENEWAL_REQUEST_TYPE,
    check_renewed,
    decode_renewal,
    is_renewal,
    open_renewal_answer,
)
from edgeagent.wire.rpc import decode_reply
from edgeagent.wire.signedtime import TIME_TYPE, ReceivedTime, decode_question
from edgeagent.wire.stream import SIGNALS, Carrier
from edgeagent.wire.streamkey import ciphers, read_secret
from edgeagent.wire.trust import follow, verify
from tests.fuzz.target import Target, declared
from tests.wire.vectors import Vector

KEYS = Vector("keys")
NOW = float(KEYS["now"])
SIGNER = SigningKey(KEYS.raws("signing_private")[0])
ANCHOR = TrustAnchor(cluster="plant", serial=1, key=SIGNER.public.raw)
SEALING = SealingKey(KEYS.raw("sealing_private"))
TLS, NEXT_TLS = PrivateKey(KEYS["tls_key"]), PrivateKey(KEYS["next_tls_key"])
OPERATOR = PrivateKey(KEYS["operator_key"])
OPERATOR_DER = read_certificate(KEYS["operator_certificate"]).der
TRUST = OperatorTrust(KEYS["ca"])
TOKEN = parse_token(KEYS["token"])
ENROLMENT, RENEWAL, TIME = Vector("enrolment"), Vector("renewal"), Vector("time")
ASKED, RENEWAL_ASKED = ENROLMENT.raw("request"), RENEWAL.raw("request")
CHANNEL = "0123456789abcdef" * 2
REPLY_TOPIC, CORRELATION = Vector("sealed_call")["reply_topic"], Vector("sealed_call").raw("correlation")
LIMIT = 65_536


def _signed(kind: str, payload: bytes) -> bytes:
    return encode_envelope(sign_envelope(kind, payload, SIGNER.public.id, SIGNER))


def _index(data: bytes) -> None:
    declared(lambda: _accept(data))
    declared(lambda: _accept(b"\0" + _signed(INDEX_TYPE, data)))


def _accept(payload: bytes) -> None:
    body = decode_blob(payload, LIMIT)
    if isinstance(body, bytes):
        envelope = decode_envelope(body, INDEX_TYPE)
        verify(envelope, ANCHOR)
        for entry in decode_index(envelope.payload, cluster="plant", node="gw-1").objects:
            declared(lambda entry=entry: check_object(entry, b"{}"))  # type: ignore[misc]


def _blob(data: bytes) -> None:
    def run() -> None:
        body = decode_blob(data, LIMIT)
        if isinstance(body, ChunkList):
            join_chunks(body, dict.fromkeys(body.chunks, data[1:]), LIMIT)
        else:
            assert len(body) <= LIMIT

    declared(run)


def _envelope(data: bytes) -> None:
    for kind in (INDEX_TYPE, ROTATION_TYPE):
        declared(lambda kind=kind: verify(decode_envelope(data, kind), ANCHOR))  # type: ignore[misc]
    # A link of the chain that the anchor did sign, whatever it says.
    link = sign_envelope(ROTATION_TYPE, data, SIGNER.public.id, SIGNER)
    declared(lambda: follow(ANCHOR, [link]))


def _reply(data: bytes) -> None:
    declared(lambda: decode_reply(data))
    declared(lambda: open_answer(data, SEALING, REPLY_TOPIC, CORRELATION))
    sealed = seal_answer(data, SEALING.public, REPLY_TOPIC, CORRELATION)
    assert open_answer(sealed, SEALING, REPLY_TOPIC, CORRELATION) == data


def _node_request(data: bytes) -> None:
    for payload in (data, _signed(REQUEST_TYPE, data)):
        declared(
            lambda payload=payload: open_node_request(  # type: ignore[misc]
                payload, ANCHOR, node="gw-1", method="logs", now=NOW
            )
        )


def _open_call(payload: bytes) -> None:
    read_call(payload)
    open_call(payload, TRUST, cluster="plant", target="gw-1", method="logs", now=NOW)


def _operator_request(data: bytes) -> None:
    declared(lambda: _open_call(data))
    envelope = sign_envelope(OPERATOR_REQUEST_TYPE, data, "", OPERATOR)
    declared(lambda: _open_call(msgspec.msgpack.encode(SignedCall(OPERATOR_DER, envelope))))
    sealed = seal_request(data, SEALING.public, SEALING.public, REPLY_TOPIC, CORRELATION)
    assert open_request(sealed, SEALING, REPLY_TOPIC, CORRELATION)[0] == data
    declared(lambda: open_request(data, SEALING, REPLY_TOPIC, CORRELATION))


def _vouched(kind: str, payload: bytes, token: MacKey) -> bytes:
    data = pre_authentication(kind, payload)
    signatures = [Signature("token", token.sign(data)), Signature("tls", TLS.sign(data))]
    return encode_envelope(Envelope(kind, payload, signatures))


def _look(received: Received) -> None:
    received.made_with(TOKEN.request_key)
    received.possessed_key()


def _enrolment_request(data: bytes) -> None:
    kind = "application/vnd.edgeagent.enrolment-request.v1+json"
    for payload in (data, _vouched(kind, data, TOKEN.request_key)):
        declared(
            lambda payload=payload: _look(  # type: ignore[misc]
                decode_request(payload, cluster="plant", channel=CHANNEL)
            )
        )
    declared(lambda: parse_token(data.decode(errors="replace")))


def _enrolment_answer(data: bytes) -> None:
    kind = "application/vnd.edgeagent.enrolment-answer.v1+json"
    for payload in (data, _vouched(kind, data, TOKEN.answer_key)):
        declared(lambda payload=payload: decode_answer(payload, ASKED, TOKEN.answer_key))  # type: ignore[misc]


def _renewal_request(data: bytes) -> None:
    is_renewal(data)
    payload = pre_authentication(RENEWAL_REQUEST_TYPE, data)
    signed = Envelope(RENEWAL_REQUEST_TYPE, data, [Signature("", TLS.sign(payload))])
    for one in (data, encode_envelope(signed)):
        declared(
            lambda one=one: decode_renewal(one, cluster="plant").made_with(TLS.public)  # type: ignore[misc]
        )


def _renewal_answer(data: bytes) -> None:
    for payload in (data, _signed(RENEWAL_ANSWER_TYPE, data)):
        declared(
            lambda payload=payload: check_renewed(  # type: ignore[misc]
                open_renewal_answer(payload, RENEWAL_ASKED, ANCHOR), NEXT_TLS
            )
        )


def _time(data: bytes) -> None:
    declared(lambda: decode_question(data))
    nonce = TIME.raw("nonce")
    for payload in (data, _signed(TIME_TYPE, data)):
        declared(
            lambda payload=payload: ReceivedTime(  # type: ignore[misc]
                payload, cluster="plant", nonce=nonce
            ).verify(ANCHOR)
        )


def _certificate(data: bytes) -> None:
    readers: tuple[Callable[[bytes], object], ...] = (
        read_certificate_der,
        read_request,
        read_bundle,
        PrivateKey,
    )
    for read in readers:
        declared(lambda read=read: read(data))  # type: ignore[misc]


def _stream(data: bytes) -> None:
    """As it comes over the broker, then as the other side could have sealed it."""
    _, to_operator = ciphers(bytes(32), bytes(32), b"fuzz")
    carrier = Carrier(to_operator, to_operator, client=True, now=0.0)
    packets = [data, *(one.to_bytes(8) + to_operator.seal(one, data) for one in (0, SIGNALS))]
    for packet in packets:
        declared(partial(carrier.receive, packet, 0.0))
    declared(lambda: read_secret(data))


def _channels(data: bytes) -> None:
    """``data`` is a row of frames: of two bytes each, how long it is, and the frame."""
    server = Multiplexer(client=False)

    def receive() -> None:
        at = 0
        while at + 2 <= len(data):
            size = int.from_bytes(data[at : at + 2])
            frame = server.receive(data[at + 2 : at + 2 + size])
            if isinstance(frame, Open):
                server.accept(frame.channel)
                server.write(frame.channel, b"hello")
            elif isinstance(frame, Data):
                server.consumed(frame.channel, len(frame.data))
            while server.next_frame() is not None:
                pass
            at += 2 + size

    declared(receive)


def _frames() -> Iterable[bytes]:
    opened: list[AnyFrame] = [Open(0, "c", b"{}", 100, 2), Data(0, b"x"), Request(0, "r", b"{}")]
    rows: list[list[AnyFrame]] = [
        [*opened, Window(0, 10, 1), Eof(0), Close(0), Open(2, "d", b"{}", 0, 0), End("", "")],
        [*opened, Close(0), Open(4, "e", b"{}", 1, 1), Data(4, b"y")],
        [Refused(1, "r", "m")],
        [Opened(1, 1, 1)],
    ]
    for row in rows:
        yield b"".join(len(one).to_bytes(2) + one for one in map(encode_frame, row))


def _object(data: bytes) -> None:
    declared(lambda: decode_object_json(data))


def _objects() -> Iterable[bytes]:
    yield Vector("canonical").raw("canonical")
    yield Vector("secret").raw("secret")
    yield Vector("secret").raw("object")
    for kind, spec in (
        ("Pod", b'"spec":{"containers":[{"name":"c","image":"x","env":[{"name":"A","value":"b"}]}]}'),
        ("Service", b'"spec":{"selector":{"a":"b"},"ports":[{"port":80,"targetPort":"http"}]}'),
        ("NetworkPolicy", b'"spec":{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]}]}'),
        ("RoleBinding", b'"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[]'),
        ("EndpointSlice", b'"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[]'),
        ("HostFirewall", b'"spec":{}'),
        ("ClusterTrust", b'"spec":{"caBundle":[],"revokedOperators":["ab"]}'),
        ("Namespace", b'"spec":{}'),
    ):  # fmt: skip
        group = {
            "NetworkPolicy": "networking.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
            "EndpointSlice": "discovery.k8s.io/v1", "HostFirewall": "edgeagent/v1",
            "ClusterTrust": "edgeagent/v1",
        }.get(kind, "v1")  # fmt: skip
        head = f'{{"apiVersion":"{group}","kind":"{kind}","metadata":{{"name":"cluster","namespace":"d"}},'
        yield head.encode() + spec + b"}"


def _values(vector: str, *names: str) -> Callable[[], Iterable[bytes]]:
    return lambda: [Vector(vector).raw(name) for name in names]


MESSAGES: Mapping[str, Target] = {
    "index": Target(_index, _values("index", "payload", "envelope")),
    "object": Target(_object, _objects),
    "blob": Target(_blob, _values("blob", "plain", "compressed", "chunked")),
    "envelope": Target(
        _envelope,
        _values("rotation", "link", "envelope", "payload"),
    ),
    "reply": Target(
        _reply,
        _values("sealed_call", "reply", "answer"),
    ),
    "node-request": Target(_node_request, _values("node_request", "payload", "envelope")),
    "operator-request": Target(_operator_request, _values("operator_call", "payload", "call")),
    "enrolment-request": Target(_enrolment_request, _values("enrolment", "request_payload", "request")),
    "enrolment-answer": Target(_enrolment_answer, _values("enrolment", "answer_payload", "answer")),
    "renewal-request": Target(_renewal_request, _values("renewal", "request_payload", "request")),
    "renewal-answer": Target(_renewal_answer, _values("renewal", "answer_payload", "answer"), 8192),
    "stream": Target(_stream, _values("stream", "data", "data_plain", "signal_plain", "secret")),
    "channels": Target(_channels, _frames),
    "time": Target(_time, _values("time", "question", "answer_payload", "answer")),
    "certificate": Target(
        _certificate,
        lambda: [
            OPERATOR_DER,
            KEYS.raw("csr"),
            KEYS["ca"].encode(),
            KEYS["tls_key"].encode(),
        ],
    ),
}
