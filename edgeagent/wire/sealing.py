"""Secrets on their way to one node: a Secret in, a SealedSecret out, and back.

The ciphertext is bound to cluster, node and the object's identity: a broker cannot move it to another.
"""

from edgeagent.api.objects.config import SealedSecret, Secret
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.keys import SealingKey, seal


def _context(cluster: str, node: str, secret: Secret | SealedSecret) -> bytes:
    meta = secret.metadata
    return canonical_json([cluster, node, meta.namespace, meta.name, meta.uid, meta.resource_version])


def seal_secret(secret: Secret, public: bytes, *, cluster: str, node: str) -> SealedSecret:
    """``secret`` so that only the holder of ``public``'s private half can read it."""
    sealed = seal(public, canonical_json(secret), _context(cluster, node, secret))
    return SealedSecret(api_version="edgeagent/v1", metadata=secret.metadata, sealed=sealed)


def unseal_secret(sealed: SealedSecret, key: SealingKey, *, cluster: str, node: str) -> Secret:
    """The Secret; PermanentError where it was not sealed to this node as this object."""
    return decode_json(key.unseal(sealed.sealed, _context(cluster, node, sealed)), Secret)
