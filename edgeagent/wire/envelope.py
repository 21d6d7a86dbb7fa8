"""Signed bytes: DSSE (https://github.com/secure-systems-lab/dsse) with Ed25519, in a MessagePack wrapper.

The payload's type is under the signature, so that bytes signed as one thing are never taken for another.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from edgeagent.api.errors import InvalidObjectError

INDEX_TYPE = "application/vnd.edgeagent.index.v1+json"
ROTATION_TYPE = "application/vnd.edgeagent.key-rotation.v1+json"
REQUEST_TYPE = "application/vnd.edgeagent.request.v1+json"
MAX_CHAIN = 64
"""How many key rotations an envelope may carry."""
MAX_SIGNATURES = 8
"""Each costs whoever checks them a computation, before anything is known to be authentic."""


class Signer(Protocol):
    """Whatever signs: ``edgeagent.wire.keys.SigningKey`` is one."""

    def sign(self, data: bytes) -> bytes:
        """A signature over ``data``."""


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """One signature and the id of the key that made it."""

    key_id: str
    signature: bytes


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """Payload, its type, its signatures, and the rotations that lead from older keys to the signer's."""

    payload_type: str
    payload: bytes
    signatures: list[Signature]
    chain: list["Envelope"] = []


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: the exact bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(
    payload_type: str, payload: bytes, key_id: str, key: Signer, chain: Sequence[Envelope] = ()
) -> Envelope:
    """``payload`` signed by ``key``."""
    signature = Signature(key_id, key.sign(pre_authentication(payload_type, payload)))
    return Envelope(payload_type, payload, [signature], list(chain))


def encode_envelope(envelope: Envelope) -> bytes:
    """The bytes of an envelope."""
    return msgspec.msgpack.encode(envelope)


def decode_envelope(data: bytes, payload_type: str) -> Envelope:
    """An envelope of the type wanted, not yet verified; raises InvalidObjectError."""
    try:
        envelope = msgspec.msgpack.decode(data, type=Envelope)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidObjectError("", f"not a signed envelope: {error}") from None
    check_envelope(envelope, payload_type)
    return envelope


def check_envelope(envelope: Envelope, payload_type: str) -> None:
    """InvalidObjectError unless it is of the type wanted, and within what may be looked at unverified."""
    if envelope.payload_type != payload_type:
        raise InvalidObjectError("payloadType", f"expected {payload_type}")
    if len(envelope.chain) > MAX_CHAIN:
        raise InvalidObjectError("chain", f"more than {MAX_CHAIN} entries")
    if any(len(signed.signatures) > MAX_SIGNATURES for signed in (envelope, *envelope.chain)):
        raise InvalidObjectError("signatures", f"more than {MAX_SIGNATURES} entries")
    if any(link.chain for link in envelope.chain):
        raise InvalidObjectError("chain", "chains within the chain are not allowed")
