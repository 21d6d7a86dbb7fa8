"""Renewing a node's certificate: what the node asks, and what the hub answers, over whichever broker.

Nothing rests on TLS here, for the certificate in use may have run out and the CA may be another by now. The
request is signed by the node's TLS key, which the hub knows since the enrolment or the last renewal; the
answer by the cluster's signing key, which the node follows from the one it pinned. An answer names the
request it is to, so that an old one is of no use. A request repeated by somebody else gets what the node got:
a certificate for a key that only the node has.
"""

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import require, validate_label
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.certificates import (
    Certificate,
    PrivateKey,
    check_chain,
    read_bundle,
    read_request,
    verifies,
)
from edgeagent.wire.envelope import (
    Envelope,
    Signature,
    Signer,
    decode_envelope,
    encode_envelope,
    pre_authentication,
    sign_envelope,
)
from edgeagent.wire.signedtime import LATEST
from edgeagent.wire.trust import verify

RENEWAL_REQUEST_TYPE = "application/vnd.edgeagent.renewal-request.v1+json"
RENEWAL_ANSWER_TYPE = "application/vnd.edgeagent.renewal-answer.v1+json"
MAX_RENEWAL_BYTES = 16_384
MAX_RENEWAL_ANSWER_BYTES = 262_144
MAX_CERTIFICATE_BYTES = 4_096
"""Of the request for a certificate, and of the certificate in use."""
NONCE_BYTES = 16
MAX_MESSAGE = 500
RENEW = "renew"
"""The method, below ``hub/rpc/<node>/``."""


class RenewalRequest(KubernetesStruct, frozen=True):
    """``csr`` (DER) is for the new key; empty where the node says that the signing key is in use now.

    ``certificate`` (DER) is the one in use, ``nonce`` 16 random bytes.
    """

    cluster: str
    node: str
    certificate: bytes
    nonce: bytes
    csr: bytes = b""


class RenewalAnswer(KubernetesStruct, frozen=True):
    """``request`` is the SHA-256 of the request's payload; ``reason`` is empty where it was granted.

    ``certificate`` is PEM, the node's own first, and empty where only a key was confirmed; ``ca`` holds the
    CAs to believe, as PEM. ``time`` is when it was answered, in seconds since the epoch, 0 where it is
    not said: a node that was away for years has no other way to learn it before it is let in.
    """

    cluster: str
    node: str
    request: str
    certificate: str = ""
    ca: str = ""
    reason: str = ""
    message: str = ""
    time: float = 0.0


class ReceivedRenewal:
    """A request as it came in: its fields are fit, but nothing is shown about who made it."""

    def __init__(self, request: RenewalRequest, envelope: Envelope) -> None:
        self.request = request
        self.digest = digest(envelope.payload)
        """What the answer must name."""
        self.wanted = read_request(request.csr).public_key if request.csr else b""
        """The key to certify (SPKI in DER), empty for none."""
        self._envelope = envelope

    def made_with(self, public_key: bytes) -> bool:
        """Whether the holder of this key (SPKI in DER) made it."""
        data = pre_authentication(self._envelope.payload_type, self._envelope.payload)
        return any(verifies(public_key, one.signature, data) for one in self._envelope.signatures[:1])


def encode_renewal(request: RenewalRequest, key: PrivateKey) -> bytes:
    """The bytes of a request, signed by the node's TLS key."""
    payload = canonical_json(request)
    signature = Signature(
        digest(key.public)[:16], key.sign(pre_authentication(RENEWAL_REQUEST_TYPE, payload))
    )
    return encode_envelope(Envelope(RENEWAL_REQUEST_TYPE, payload, [signature]))


def is_renewal(data: bytes) -> bool:
    """Whether what came in at a door for several kinds of requests is one of these, fit or not."""
    # The payload's type is the first element of the envelope; a fault in it is for the decoder to name.
    return RENEWAL_REQUEST_TYPE.encode() in data[:128]


def decode_renewal(data: bytes, *, cluster: str) -> ReceivedRenewal:
    """A request to ``cluster``; InvalidObjectError or PermanentError where it can be none."""
    if len(data) > MAX_RENEWAL_BYTES:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_RENEWAL_BYTES} allowed")
    envelope = decode_envelope(data, RENEWAL_REQUEST_TYPE)
    require(not envelope.chain, "chain", "a request has none")
    request = decode_json(envelope.payload, RenewalRequest, limit=MAX_RENEWAL_BYTES)
    require(request.cluster == cluster, "cluster", f"this is cluster {cluster!r}")
    validate_label(request.node, "node")
    require(len(request.nonce) == NONCE_BYTES, "nonce", f"must have {NONCE_BYTES} bytes")
    for path, value in (("certificate", request.certificate), ("csr", request.csr)):
        require(len(value) <= MAX_CERTIFICATE_BYTES, path, f"more than {MAX_CERTIFICATE_BYTES} bytes")
    if request.csr:
        name = read_request(request.csr).common_name
        require(name == request.node, "csr", "is for another name than the request")
    return ReceivedRenewal(request, envelope)


def encode_renewal_answer(answer: RenewalAnswer, key_id: str, key: Signer, chain: list[Envelope]) -> bytes:
    """The bytes of an answer, signed by the cluster's signing key, with the chain that led to it."""
    payload = canonical_json(answer)
    return encode_envelope(sign_envelope(RENEWAL_ANSWER_TYPE, payload, key_id, key, chain))


def open_renewal_answer(data: bytes, asked: bytes, anchor: TrustAnchor) -> RenewalAnswer:
    """The hub's own answer to the request ``asked`` (its bytes), granted or not.

    InvalidObjectError or PermanentError where it is not authentic, or to another request.
    """
    if len(data) > MAX_RENEWAL_ANSWER_BYTES:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_RENEWAL_ANSWER_BYTES} allowed")
    envelope = decode_envelope(data, RENEWAL_ANSWER_TYPE)
    verify(envelope, anchor)
    answer = decode_json(envelope.payload, RenewalAnswer, limit=MAX_RENEWAL_ANSWER_BYTES)
    payload = decode_envelope(asked, RENEWAL_REQUEST_TYPE).payload
    request = msgspec.json.decode(payload, type=RenewalRequest)
    if (answer.cluster, answer.node, answer.request) != (request.cluster, request.node, digest(payload)):
        raise PermanentError("the answer is to another request", reason="WrongRequest")
    require(0 <= answer.time < LATEST, "time", "is none that can be")
    for path, text in (("reason", answer.reason), ("message", answer.message)):
        require(len(text) <= MAX_MESSAGE, path, f"more than {MAX_MESSAGE} characters")
    return answer


def check_renewed(answer: RenewalAnswer, key: PrivateKey) -> Certificate:
    """The node's new certificate, shown to be for its key and name, and valid under the CAs that come along.

    PermanentError where it is not. The clock is not asked: a node's may be years off.
    """
    own, *between = read_bundle(answer.certificate)
    if not own.fits(key) or own.common_name != answer.node:
        raise PermanentError("the certificate is not for this node's new key", reason="BadCertificate")
    check_chain(own, answer.ca, now=(own.not_before + own.not_after) / 2, between=between)
    return own
