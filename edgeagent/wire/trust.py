"""Which key to believe: the one pinned at enrolment, and what it has signed over to since.

A rotation is a statement "key ``to`` follows me", signed by the key before it. A node that slept through
several follows the chain link by link from the key it has; it never jumps.
"""

from collections.abc import Sequence

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import (
    ROTATION_TYPE,
    Envelope,
    pre_authentication,
    sign_envelope,
)
from edgeagent.wire.keys import SigningKey, VerifyKey


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key`` (raw Ed25519) takes over as key number ``serial`` of ``cluster``; the first has number 1."""

    cluster: str
    serial: int
    key: bytes


def rotate(cluster: str, serial: int, old: SigningKey, new: VerifyKey) -> Envelope:
    """The statement, signed by ``old``, that ``new`` is key number ``serial``."""
    payload = canonical_json(Rotation(cluster=cluster, serial=serial, key=new.raw))
    return sign_envelope(ROTATION_TYPE, payload, old.public.id, old)


def follow(anchor: TrustAnchor, chain: Sequence[Envelope]) -> TrustAnchor:
    """The newest anchor that ``chain`` leads to from ``anchor``; links before it are passed over.

    PermanentError where a link that should extend the anchor is not signed by it.
    """
    for link in chain:
        if link.payload_type != ROTATION_TYPE:
            raise PermanentError("the key chain holds something that is no rotation", reason="BadKeyChain")
        rotation = decode_json(link.payload, Rotation)
        if rotation.cluster != anchor.cluster or rotation.serial <= anchor.serial:
            continue
        if rotation.serial != anchor.serial + 1 or not _signed_by(VerifyKey(anchor.key), link):
            raise PermanentError(
                f"signing key {rotation.serial} is not signed over by key {anchor.serial}",
                reason="BadKeyChain",
            )
        anchor = TrustAnchor(cluster=anchor.cluster, serial=rotation.serial, key=rotation.key)
    return anchor


def verify(envelope: Envelope, anchor: TrustAnchor) -> TrustAnchor:
    """The anchor to keep from now on, once ``envelope`` is shown to be signed by the chain's newest key.

    PermanentError (reason ``BadSignature`` or ``BadKeyChain``) otherwise: nothing of it may be used.
    """
    newest = follow(anchor, envelope.chain)
    if not _signed_by(VerifyKey(newest.key), envelope):
        raise PermanentError("not signed by the cluster's signing key", reason="BadSignature")
    return newest


def _signed_by(key: VerifyKey, envelope: Envelope) -> bool:
    data = pre_authentication(envelope.payload_type, envelope.payload)
    return any(s.key_id == key.id and key.verifies(s.signature, data) for s in envelope.signatures)
