"""Canonical bytes and digests: the same object is the same bytes on every machine."""

import hashlib

import msgspec


def canonical_json(value: object) -> bytes:
    """``value`` (structs, dicts, lists, …) as compact JSON, its keys sorted as RFC 8785 sorts ASCII names."""
    return msgspec.json.encode(value, order="sorted")


def digest(data: bytes) -> str:
    """SHA-256 of ``data`` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether ``text`` can be what ``digest`` gives."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")
