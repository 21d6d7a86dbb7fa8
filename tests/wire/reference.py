"""The formats of docs/wire.md once more, in few lines and from primitives alone: a second implementation.

Imports nothing of edgeagent: what both make alike is not one program's habit.
"""

import base64
import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

Packed = str | bytes | list["Packed"]
SEAL_INFO = b"edgeagent/v1 seal"


def canonical(value: object) -> bytes:
    """Compact JSON with sorted keys, in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def b64(data: bytes) -> str:
    """Bytes as they stand in JSON."""
    return base64.b64encode(data).decode()


def pack(value: Packed) -> bytes:
    """MessagePack of text, bytes and arrays, each in the shortest form."""
    if isinstance(value, list):
        size = len(value)
        head = bytes([0x90 | size]) if size < 16 else b"\xdc" + struct.pack(">H", size)
        return head + b"".join(pack(item) for item in value)
    if isinstance(value, bytes):
        return _head(len(value), (0xC4, 0xC5, 0xC6)) + value
    data = value.encode()
    if len(data) < 32:
        return bytes([0xA0 | len(data)]) + data
    return _head(len(data), (0xD9, 0xDA, 0xDB)) + data


def _head(size: int, tags: tuple[int, int, int]) -> bytes:
    if size < 1 << 8:
        return bytes([tags[0], size])
    if size < 1 << 16:
        return bytes([tags[1]]) + struct.pack(">H", size)
    return bytes([tags[2]]) + struct.pack(">I", size)


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b" ".join([b"DSSEv1", str(len(name)).encode(), name, str(len(payload)).encode(), payload])


def key_id(public: bytes) -> str:
    """The first 16 hex digits of a public key's SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def ed25519_public(private: bytes) -> bytes:
    """The public half (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def signed(kind: str, payload: bytes, private: bytes, chain: list[Packed] | None = None) -> list[Packed]:
    """An envelope's array with one Ed25519 signature."""
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(pae(kind, payload))
    return [kind, payload, [[key_id(ed25519_public(private)), signature]], chain or []]


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869), for at most 255 blocks."""
    pseudo = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    made = block = b""
    while len(made) < size:
        block = hmac.digest(pseudo, block + info + bytes([len(made) // 32 + 1]), hashlib.sha256)
        made += block
    return made[:size]


def x25519_public(private: bytes) -> bytes:
    """The public half (RFC 7748)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed(private: bytes, public: bytes) -> bytes:
    """The secret that both sides have (RFC 7748)."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def seal(recipient: bytes, ephemeral: bytes, data: bytes, context: bytes) -> bytes:
    """``data`` for the public X25519 key ``recipient``, with the private key ``ephemeral`` of this once."""
    sender = x25519_public(ephemeral)
    key = hkdf(agreed(ephemeral, recipient), sender + recipient, SEAL_INFO)
    return sender + ChaCha20Poly1305(key).encrypt(bytes(12), data, context)


def unseal(private: bytes, sealed: bytes, context: bytes) -> bytes:
    """What was sealed."""
    sender = sealed[:32]
    key = hkdf(agreed(private, sender), sender + x25519_public(private), SEAL_INFO)
    return ChaCha20Poly1305(key).decrypt(bytes(12), sealed[32:], context)


def mac_key(token_id: str, secret: str, purpose: str) -> bytes:
    """One of a token's two keys; ``purpose`` is ``request`` or ``answer``."""
    return hkdf(secret.encode(), b"", f"edgeagent/v1 enrolment {purpose} {token_id}".encode())


def stream_keys(operator_half: bytes, node_half: bytes, context: bytes) -> tuple[bytes, bytes]:
    """What seals a stream's packets to the node, and what seals those to the operator."""
    both = operator_half + node_half
    return hkdf(both, b"", context + b"to node"), hkdf(both, b"", context + b"to operator")


def stream_packet(key: bytes, number: int, plain: bytes) -> bytes:
    """A packet of a stream."""
    nonce = struct.pack(">IQ", 0, number)
    return struct.pack(">Q", number) + ChaCha20Poly1305(key).encrypt(nonce, plain, None)
