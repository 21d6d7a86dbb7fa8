"""The trust anchor as data: what a node stores and a join file carries, without any cryptography."""

import msgspec


class TrustAnchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Ed25519 signing key (raw) a node believes, and its number in the chain; the first has number 1."""

    cluster: str
    serial: int
    key: bytes
