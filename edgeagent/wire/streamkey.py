"""The key of a stream: half of it is the operator's, sealed to the node, half is the node's, in its answer.

The operator's half travels in the signed call, with what is private of it (a command and its arguments), so
that hub and broker see neither. The context says for which call it is. The node's half comes back sealed to
a key that the operator has for this one session: who gets hold of the node's sealing key later cannot open
what was recorded. Imports ``cryptography``: a node does so when the first call is there.
"""

import secrets

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.keys import SealingKey, StreamCipher, derive_key, seal

HALF_BYTES = 32
_CONTEXT = b"edgeagent/v1 stream "
TO_NODE, TO_OPERATOR = b"to node", b"to operator"


class StreamSecret(KubernetesStruct, frozen=True):
    """What is sealed to the node: the operator's half of the key, and what is private of the call (JSON)."""

    half: bytes
    private: msgspec.Raw = msgspec.Raw(b"{}")


class StreamAnswer(KubernetesStruct, frozen=True):
    """What the call is answered with: the node's half of the key. The stream begins with it."""

    half: bytes


def new_half() -> bytes:
    """One side's half of a key."""
    return secrets.token_bytes(HALF_BYTES)


def stream_context(cluster: str, node: str, user: str, method: str, nonce: str) -> bytes:
    """What a stream's key is for: one call, which its ``nonce`` names."""
    return _CONTEXT + canonical_json([cluster, node, user, method, nonce])


def seal_stream(secret: StreamSecret, public: bytes, context: bytes) -> bytes:
    """For the node whose sealing key ``public`` is; PermanentError where it is none."""
    return seal(public, canonical_json(secret), context)


def unseal_stream(sealed: bytes, key: SealingKey, context: bytes) -> bytes:
    """The JSON of a StreamSecret; PermanentError where it was sealed to another node or for another call."""
    if not context.startswith(_CONTEXT):
        raise PermanentError("not the context of a stream", reason="UnsealFailed")
    return key.unseal(sealed, context)


def read_secret(plain: bytes) -> StreamSecret:
    """The secret that was unsealed; raises InvalidObjectError or PermanentError."""
    secret = decode_json(plain, StreamSecret)
    _check(secret.half)
    return secret


def ciphers(operator_half: bytes, node_half: bytes, context: bytes) -> tuple[StreamCipher, StreamCipher]:
    """What seals to the node, and what seals to the operator."""
    _check(operator_half)
    _check(node_half)
    both = operator_half + node_half
    return (
        StreamCipher(derive_key(both, context + TO_NODE)),
        StreamCipher(derive_key(both, context + TO_OPERATOR)),
    )


def _check(half: bytes) -> None:
    if len(half) != HALF_BYTES:
        raise PermanentError(
            f"half of a stream's key has {HALF_BYTES} bytes, not {len(half)}", reason="BadKey"
        )
