"""Calls signed by the operator who makes them, so that neither the broker nor the hub can make one up.

What is signed names the cluster, whom it is for, the method and where the answer goes; it lives for half a
minute and counts once. The signature is ECDSA P-256 with SHA-256 by the key of the operator's own TLS
certificate, which comes with it. Imports ``cryptography``: a node does so when the first call is there.
"""

import hashlib
import secrets
from collections.abc import Collection

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.authority import USER_PREFIX
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import (
    MAX_CERTIFICATE_BYTES,
    PrivateKey,
    check_chain,
    read_certificate,
    read_certificate_der,
    verifies,
)
from edgeagent.wire.envelope import Envelope, check_envelope, pre_authentication, sign_envelope
from edgeagent.wire.privatecalls import KEY_BYTES
from edgeagent.wire.rpc import MAX_RPC_BYTES
from edgeagent.wire.topics import Topics

OPERATOR_REQUEST_TYPE = "application/vnd.edgeagent.operator-request.v1+json"
CALL_SECONDS = 30.0
"""How long a signed call counts."""
MAX_NONCE = 64


class OperatorRequest(KubernetesStruct, frozen=True):
    """A call as it is signed: ``user`` is the certificate's common name, ``target`` ``hub`` or a node.

    ``expires`` in seconds since the epoch; ``nonce`` is used once. ``answers_to`` is the X25519 key to seal
    the answer to (``edgeagent.wire.privatecalls``), empty for none.
    """

    cluster: str
    user: str
    target: str
    method: str
    nonce: str
    expires: float
    reply_topic: str
    params: msgspec.Raw
    answers_to: bytes = b""


class SignedCall(msgspec.Struct, frozen=True, array_like=True):
    """The operator's certificate (DER) and the signed request, in MessagePack."""

    certificate: bytes
    envelope: Envelope


class OperatorCall(msgspec.Struct, frozen=True):
    """A call that is shown to be an operator's: ``operator`` is the name that bindings know.

    ``serial`` is that of the certificate, ``not_after`` its end in seconds since the epoch.
    """

    operator: str
    serial: str
    not_after: float
    request: OperatorRequest

    def check_certificate(self, now: float) -> None:
        """PermanentError with reason ``Unauthorized`` where the certificate has run out since."""
        if now >= self.not_after:
            raise _unauthorized(
                f"the certificate of operator {self.operator} ran out at {rfc3339(self.not_after)}:"
                " get a new operator file with `edgehub operator add`"
            )


class OperatorTrust(msgspec.Struct, frozen=True):
    """Whose certificates count: CA certificates (PEM), and the serial numbers that are revoked."""

    bundle: str
    revoked: Collection[str] = ()


class OperatorSigner:
    """Signs as one operator, by certificate and key (PEM); PermanentError where they are none."""

    def __init__(self, cluster: str, user: str, certificate: str, key: str) -> None:
        self._cluster = cluster
        self._user = user
        self._key = PrivateKey(key)
        self._certificate = read_certificate(certificate)
        if not self._certificate.fits(self._key):
            raise PermanentError("the operator's certificate is not for its private key", reason="BadKey")

    def sign(
        self,
        target: str,
        method: str,
        params: bytes,
        *,
        now: float,
        reply_topic: str,
        answers_to: bytes = b"",
        nonce: str = "",
    ) -> bytes:
        """A call of ``method`` at ``target``, with ``params`` as JSON, that counts from ``now`` on.

        ``nonce`` is from ``new_nonce``, where something else names the call too.
        """
        request = OperatorRequest(
            cluster=self._cluster,
            user=self._user,
            target=target,
            method=method,
            nonce=nonce or new_nonce(),
            expires=now + CALL_SECONDS,
            reply_topic=reply_topic,
            params=msgspec.Raw(params),
            answers_to=answers_to,
        )
        return self.sign_request(request)

    def sign_request(self, request: OperatorRequest) -> bytes:
        """The bytes that hub and node verify."""
        envelope = sign_envelope(
            OPERATOR_REQUEST_TYPE, canonical_json(request), _key_id(self._certificate.public_key), self._key
        )
        return msgspec.msgpack.encode(SignedCall(self._certificate.der, envelope))


def new_nonce() -> str:
    """A nonce that no other call has."""
    return secrets.token_hex(16)


def read_call(payload: bytes) -> OperatorRequest:
    """What a call says, of which nothing is shown to be true; raises InvalidObjectError."""
    return decode_json(_decode(payload).envelope.payload, OperatorRequest, limit=MAX_RPC_BYTES)


def open_call(
    payload: bytes, trust: OperatorTrust, *, cluster: str, target: str, method: str, now: float
) -> OperatorCall:
    """The call, shown to be an operator's, for this target and method, and in time.

    Raises InvalidObjectError where it is no signed call, or PermanentError with reason ``Unauthorized``.
    Whether the nonce is new, and whether the operator may do it, is the caller's to know.
    """
    signed = _decode(payload)
    certificate = read_certificate_der(signed.certificate)
    try:
        check_chain(certificate, trust.bundle, now=now)
    except PermanentError as error:
        raise _unauthorized(f"{error}: get a new operator file with `edgehub operator add`") from None
    name = certificate.common_name.removeprefix(USER_PREFIX)
    if name == certificate.common_name or not name:
        raise _unauthorized(f"the certificate of {certificate.common_name[:80]!r} is not an operator's")
    if certificate.serial in trust.revoked:
        raise _unauthorized(f"the certificate of operator {name} was revoked")
    envelope = signed.envelope
    data = pre_authentication(envelope.payload_type, envelope.payload)
    if not any(verifies(certificate.public_key, one.signature, data) for one in envelope.signatures):
        raise _unauthorized(f"the call is not signed by the key of operator {name}")
    request = decode_json(envelope.payload, OperatorRequest, limit=MAX_RPC_BYTES)
    if request.user != certificate.common_name:
        raise _unauthorized(f"the call says it is of {request.user[:80]!r}, but {name} signed it")
    if (request.cluster, request.target, request.method) != (cluster, target, method):
        raise _unauthorized("the call is for another node, method or cluster")
    levels = Topics(cluster).levels(request.reply_topic)
    if len(levels) != 3 or levels[:2] != ["replies", request.user] or set(levels[2]) & set("+#"):
        raise _unauthorized("the answer would not go to the operator's own reply topic")
    if len(request.answers_to) not in (0, KEY_BYTES):
        raise InvalidObjectError("answersTo", f"must have {KEY_BYTES} bytes, or be left out")
    if not 16 <= len(request.nonce) <= MAX_NONCE:
        raise InvalidObjectError("nonce", f"must have 16 to {MAX_NONCE} characters")
    _check_time(request.expires, now)
    return OperatorCall(name, certificate.serial, certificate.not_after, request)


def _check_time(expires: float, now: float) -> None:
    """A call from the future by more than its whole life is a wrong clock on one side."""
    if now > expires:
        raise _unauthorized(
            f"the call expired {now - expires:.0f} s ago by the clock here (it counts for"
            f" {CALL_SECONDS:.0f} s): is the time right on both machines?"
        )
    if not expires <= now + 2 * CALL_SECONDS:
        raise _unauthorized(
            f"the call is from the future, by {min(expires - CALL_SECONDS - now, 1e12):.0f} s by the clock"
            " here: is the time right on both machines?"
        )


def _decode(payload: bytes) -> SignedCall:
    if len(payload) > MAX_RPC_BYTES:
        raise InvalidObjectError("", f"{len(payload)} bytes, more than the {MAX_RPC_BYTES} allowed")
    try:
        signed = msgspec.msgpack.decode(payload, type=SignedCall)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidObjectError("", f"not a call that an operator signed: {error}") from None
    if len(signed.certificate) > MAX_CERTIFICATE_BYTES:
        raise InvalidObjectError("certificate", f"more than {MAX_CERTIFICATE_BYTES} bytes")
    check_envelope(signed.envelope, OPERATOR_REQUEST_TYPE)
    if signed.envelope.chain:
        raise InvalidObjectError("chain", "an operator's key has none")
    return signed


def _key_id(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()[:16]


def _unauthorized(message: str) -> PermanentError:
    return PermanentError(message, reason="Unauthorized")
