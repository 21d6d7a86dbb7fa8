"""A node's word for its WireGuard key, so that whoever owns the broker cannot put another in its place.

The node signs cluster, node and key with its TLS key, which the hub knows since the enrolment or the last
renewal. What is signed has no date: a key stands until the node signs another, and an old one is of no use
to anybody but that node. Imports ``cryptography``: a node does so when it has a new key to sign.
"""

from collections.abc import Iterable

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import require
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.certificates import PrivateKey, verifies
from edgeagent.wire.envelope import decode_envelope, encode_envelope, pre_authentication, sign_envelope

NETWORK_KEY_TYPE = "application/vnd.edgeagent.network-key.v1+json"
MAX_NETWORK_KEY_BYTES = 1_024


class NetworkKey(KubernetesStruct, frozen=True):
    """``public_key`` is the node's for WireGuard, in base64, as its status has it."""

    cluster: str
    node: str
    public_key: str


def encode_network_key(said: NetworkKey, key: PrivateKey) -> bytes:
    """The bytes of the proof, signed by the node's TLS key."""
    return encode_envelope(
        sign_envelope(NETWORK_KEY_TYPE, canonical_json(said), digest(key.public)[:16], key)
    )


def check_network_key(data: bytes, expected: NetworkKey, keys: Iterable[bytes]) -> None:
    """Return if the holder of one of ``keys`` (SPKI in DER) has signed ``expected``.

    InvalidObjectError where ``data`` is no proof, PermanentError where it is of somebody or something else.
    """
    if len(data) > MAX_NETWORK_KEY_BYTES:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_NETWORK_KEY_BYTES} allowed")
    envelope = decode_envelope(data, NETWORK_KEY_TYPE)
    require(not envelope.chain, "chain", "a TLS key has none")
    require(len(envelope.signatures) == 1, "signatures", "must be one")
    signed = pre_authentication(envelope.payload_type, envelope.payload)
    if not any(verifies(key, envelope.signatures[0].signature, signed) for key in keys):
        raise PermanentError("it is not signed with the TLS key of the node", reason="WrongKey")
    if decode_json(envelope.payload, NetworkKey, limit=MAX_NETWORK_KEY_BYTES) != expected:
        raise PermanentError("what is signed is another key, node or cluster", reason="WrongKey")
