"""Enrolment by token: what a device and the hub say to each other over a broker that neither believes.

The token's text is ``ID.SECRET``, as kubeadm's bootstrap tokens are
(https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/). The secret never travels. Two
keys are derived from it: one authenticates the request, the other the answer (HMAC-SHA256), so that whoever
owns the broker, or answers in its place, can change neither and make up neither. The request is also signed
by the TLS key that is to be certified, and holds the certificate request that this key signed: the hub
certifies no key that the device does not hold.

Nothing in either message is a secret; who repeats a captured request gets what the device got, and can do
nothing with it without the device's private keys.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import require, validate_label
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.certificates import PrivateKey, read_request, verifies
from edgeagent.wire.clientid import is_client_id
from edgeagent.wire.envelope import (
    Envelope,
    Signature,
    decode_envelope,
    encode_envelope,
    pre_authentication,
)
from edgeagent.wire.join import KEY_BYTES, BrokerAddress
from edgeagent.wire.keys import derive_key

REQUEST_TYPE = "application/vnd.edgeagent.enrolment-request.v1+json"
ANSWER_TYPE = "application/vnd.edgeagent.enrolment-answer.v1+json"
MAX_REQUEST_BYTES = 8_192
MAX_ANSWER_BYTES = 262_144
MAX_MESSAGE = 500
"""How long the text of a refusal may be, in characters."""
MAX_CSR_BYTES = 2_048
MAX_BROKERS = 16
NONCE_BYTES = 16

TOKEN, POSSESSION = "token", "tls"
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 letters, without those that are taken for each other."""
_ID_LENGTH, _SECRET_LENGTH = 6, 26
_TOKEN = re.compile(rf"([{_ALPHABET}]{{{_ID_LENGTH}}})\.([{_ALPHABET}]{{{_SECRET_LENGTH}}})", re.ASCII)
_CHANNEL = re.compile(r"[0-9a-f]{32}", re.ASCII)


class MacKey:
    """One of the two keys of a token (32 raw bytes)."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def sign(self, data: bytes) -> bytes:
        """HMAC-SHA256 (RFC 2104) over ``data``."""
        return hmac.digest(self.raw, data, hashlib.sha256)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` was made with this key; in constant time."""
        return hmac.compare_digest(self.sign(data), signature)


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as people pass it on. The secret has 130 bits, and is in no representation but ``text``."""

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """``ID.SECRET``."""
        return f"{self.id}.{self.secret}"

    @property
    def request_key(self) -> MacKey:
        """What authenticates requests made with this token."""
        return self._derived("request")

    @property
    def answer_key(self) -> MacKey:
        """What authenticates the answers to them."""
        return self._derived("answer")

    def _derived(self, purpose: str) -> MacKey:
        return MacKey(
            derive_key(self.secret.encode(), f"edgeagent/v1 enrolment {purpose} {self.id}".encode())
        )


def new_token() -> TokenText:
    """A new token from the system's randomness."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH + _SECRET_LENGTH))
    return TokenText(text[:_ID_LENGTH], text[_ID_LENGTH:])


def parse_token(text: str) -> TokenText:
    """A token from its text; PermanentError, which does not repeat the text, where it is none."""
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        raise PermanentError(
            f"that is no token: expected {_ID_LENGTH} and {_SECRET_LENGTH} letters and digits with a dot"
            " between, as `edgehub token create` prints them",
            reason="Invalid",
        )
    return TokenText(found[1], found[2])


def new_channel() -> str:
    """The MQTT client id of one device's enrolment: 32 random hex digits."""
    return secrets.token_hex(16)


def is_channel(text: str) -> bool:
    """Whether ``text`` can be what ``new_channel`` gives."""
    return _CHANNEL.fullmatch(text) is not None


def fingerprint(public_key: bytes) -> str:
    """What people compare: 128 bits of a public key's SHA-256 (SPKI in DER), in groups of four hex digits."""
    text = digest(public_key)[:32]
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


class EnrolmentRequest(KubernetesStruct, frozen=True):
    """``token`` is its id; ``channel`` the enrolment's MQTT client id, ``client_id`` that of later sessions.

    ``csr`` is DER for a P-256 key, with the node's name; ``sealing_key`` a raw public X25519 key.
    """

    cluster: str
    node: str
    token: str
    channel: str
    csr: bytes
    sealing_key: bytes
    client_id: str
    nonce: bytes


class EnrolmentAnswer(KubernetesStruct, frozen=True):
    """``request`` is the SHA-256 of the request's payload; ``reason`` and ``message`` say why it is denied.

    Approved: ``certificate`` and ``ca`` as PEM, ``trust`` the signing key to pin, ``brokers`` where to go.
    """

    cluster: str
    node: str
    nonce: bytes
    request: str
    state: Literal["approved", "pending", "denied"]
    reason: str = ""
    message: str = ""
    certificate: str = ""
    ca: str = ""
    trust: TrustAnchor | None = None
    brokers: list[BrokerAddress] = []


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in: its fields are fit, but nothing of it is shown to be authentic yet."""

    request: EnrolmentRequest
    envelope: Envelope

    @property
    def digest(self) -> str:
        """What an answer to it must name."""
        return digest(self.envelope.payload)

    def made_with(self, key: MacKey) -> bool:
        """Whether whoever made it has the token that ``key`` is derived from."""
        return _is_signed(self.envelope, TOKEN, key)

    def possessed_key(self) -> bytes:
        """The key to certify (public, SPKI in DER); PermanentError unless whoever asks holds it."""
        asked = read_request(self.request.csr)
        require(asked.common_name == self.request.node, "csr", "is for another name than the request")
        data = pre_authentication(self.envelope.payload_type, self.envelope.payload)
        signatures = (s.signature for s in self.envelope.signatures[:2] if s.key_id == POSSESSION)
        if not any(verifies(asked.public_key, signature, data) for signature in signatures):
            raise PermanentError(
                "the request is not signed by the key that it wants certified", reason="NoProofOfPossession"
            )
        return asked.public_key


def encode_request(request: EnrolmentRequest, token: MacKey, key: PrivateKey) -> bytes:
    """The bytes of a request, with the proof of the token and of the key."""
    payload = canonical_json(request)
    data = pre_authentication(REQUEST_TYPE, payload)
    signatures = [Signature(TOKEN, token.sign(data)), Signature(POSSESSION, key.sign(data))]
    return encode_envelope(Envelope(REQUEST_TYPE, payload, signatures))


def decode_request(data: bytes, *, cluster: str, channel: str) -> Received:
    """A request that came in on ``channel``; PermanentError where it can be none."""
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_REQUEST_BYTES} allowed")
    envelope = decode_envelope(data, REQUEST_TYPE)
    require(not envelope.chain, "chain", "a request has none")
    request = decode_json(envelope.payload, EnrolmentRequest, limit=MAX_REQUEST_BYTES)
    require(request.cluster == cluster, "cluster", f"this is cluster {cluster!r}")
    require(is_channel(channel) and request.channel == channel, "channel", "is not where the request came in")
    validate_label(request.node, "node")
    require(len(request.token) == _ID_LENGTH, "token", "is the id of none")
    require(len(request.sealing_key) == KEY_BYTES, "sealingKey", f"must have {KEY_BYTES} bytes")
    require(len(request.nonce) == NONCE_BYTES, "nonce", f"must have {NONCE_BYTES} bytes")
    require(is_client_id(request.client_id, cluster, request.node), "clientId", "is not the node's own")
    require(len(request.csr) <= MAX_CSR_BYTES, "csr", f"must have at most {MAX_CSR_BYTES} bytes")
    return Received(request, envelope)


def encode_answer(answer: EnrolmentAnswer, token: MacKey | None) -> bytes:
    """The bytes of an answer. Without ``token``, which nobody has to believe, it can only be a refusal."""
    payload = canonical_json(answer)
    signatures = []
    if token is not None:
        signatures.append(Signature(TOKEN, token.sign(pre_authentication(ANSWER_TYPE, payload))))
    elif answer.state != "denied":
        raise ValueError("an answer that nobody vouches for grants nothing")
    return encode_envelope(Envelope(ANSWER_TYPE, payload, signatures))


def decode_answer(data: bytes, asked: bytes, token: MacKey) -> tuple[EnrolmentAnswer, bool]:
    """The answer to the request ``asked`` (its bytes), and whether who has the token vouches for it.

    PermanentError where it is no answer to that request, or grants something that nobody vouches for.
    A refusal that nobody vouches for is what a hub says that does not know the token.
    """
    if len(data) > MAX_ANSWER_BYTES:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_ANSWER_BYTES} allowed")
    envelope = decode_envelope(data, ANSWER_TYPE)
    request_envelope = decode_envelope(asked, REQUEST_TYPE)
    request = msgspec.json.decode(request_envelope.payload, type=EnrolmentRequest)
    answer = decode_json(envelope.payload, EnrolmentAnswer, limit=MAX_ANSWER_BYTES)
    about = (answer.cluster, answer.node, answer.nonce, answer.request)
    if about != (request.cluster, request.node, request.nonce, digest(request_envelope.payload)):
        raise PermanentError("the answer is to another request", reason="WrongRequest")
    authentic = _is_signed(envelope, TOKEN, token)
    if not authentic and (envelope.signatures or answer.state != "denied"):
        raise PermanentError("the answer was not made with the token", reason="BadSignature")
    require(
        len(answer.message) <= MAX_MESSAGE and len(answer.reason) <= MAX_MESSAGE, "message", "is too long"
    )
    require(len(answer.brokers) <= MAX_BROKERS, "brokers", f"more than {MAX_BROKERS}")
    return answer, authentic


def _is_signed(envelope: Envelope, key_id: str, key: MacKey) -> bool:
    data = pre_authentication(envelope.payload_type, envelope.payload)
    return any(s.key_id == key_id and key.verifies(s.signature, data) for s in envelope.signatures[:2])
