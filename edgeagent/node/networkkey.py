"""The node's proof of its WireGuard key: made once for each key and certificate, and kept in the store.

May not be the reason that an agent loads cryptography when it starts: what was kept is only read.
"""

import base64
from typing import NamedTuple

from edgeagent.api.errors import TemporaryError
from edgeagent.node.identity import IdentityDir
from edgeagent.node.renewedfiles import RenewedFiles
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta, set_meta
from edgeagent.wire.canonical import digest

_KEPT = "network_key_proof"


class PublicKey(NamedTuple):
    """A WireGuard key in base64, and the proof that it is this node's; each empty for none."""

    key: str = ""
    proof: bytes = b""


def proven(key: str, database: Database, files: IdentityDir) -> PublicKey:
    """``key`` with its proof (``edgeagent.wire.networkkey``), by the TLS key that is in force.

    Without proof where there is no key, or no cluster. PermanentError or TemporaryError where the TLS key
    cannot be read or the proof cannot be kept.
    """
    if not key or not files.exists():
        return PublicKey(key)
    tls = RenewedFiles(files).in_force
    try:
        made_of = f"{key} {digest(tls.certificate.read_bytes())} "
        kept = get_meta(database, _KEPT)
        if kept.startswith(made_of):
            return PublicKey(key, base64.b64decode(kept.removeprefix(made_of)))
        private = tls.key.read_bytes()
    except OSError as error:
        raise TemporaryError(f"the TLS key cannot be read: {error.strerror}", reason="BadIdentity") from None
    from edgeagent.wire.certificates import PrivateKey
    from edgeagent.wire.networkkey import NetworkKey, encode_network_key

    identity = files.load()
    said = NetworkKey(cluster=identity.cluster, node=identity.node, public_key=key)
    proof = encode_network_key(said, PrivateKey(private))
    set_meta(database, [(_KEPT, made_of + base64.b64encode(proof).decode())])
    return PublicKey(key, proof)
