"""Keys: Ed25519 to sign and verify, X25519 to seal and unseal.

Of the modules that use ``cryptography`` the one that nodes load as soon as they verify something.

Sealing is ECIES: an ephemeral X25519 key, HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439). The
context that a ciphertext belongs to is authenticated with it, so that it cannot be moved elsewhere.
"""

import hashlib
import secrets

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edgeagent.api.errors import PermanentError

_SEAL_INFO = b"edgeagent/v1 seal"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class VerifyKey:
    """A public Ed25519 key (32 raw bytes)."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _KEY_BYTES:
            raise PermanentError(f"a signing key has {_KEY_BYTES} bytes, not {len(raw)}")
        self.raw = raw
        self.id = hashlib.sha256(raw).hexdigest()[:16]

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` was made over ``data`` by this key's private half."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private Ed25519 key (32 raw bytes)."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = VerifyKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key from the system's randomness."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    def sign(self, data: bytes) -> bytes:
        """A 64-byte signature over ``data`` (RFC 8032)."""
        return self._key.sign(data)


class SealingKey:
    """A node's private X25519 key (32 raw bytes); ``public`` is what others seal to."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._key = X25519PrivateKey.from_private_bytes(raw)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "SealingKey":
        """A new key from the system's randomness."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What ``seal`` was given; PermanentError where the key, the bytes or the context differ."""
        if len(sealed) < _KEY_BYTES + 16:
            raise PermanentError("the sealed data is cut short", reason="UnsealFailed")
        ephemeral, ciphertext = sealed[:_KEY_BYTES], sealed[_KEY_BYTES:]
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            return _cipher(shared, ephemeral, self.public).decrypt(bytes(12), ciphertext, context)
        except (InvalidTag, ValueError):
            raise PermanentError(
                "the data was not sealed to this node's key for this object, or it was changed",
                reason="UnsealFailed",
            ) from None


class StorageKey:
    """A key (32 raw bytes) for what lies on one's own disk: ChaCha20-Poly1305 with random nonces (RFC 8439).

    Nonces have 96 bits: good for 2^32 encryptions.
    """

    def __init__(self, raw: bytes) -> None:
        """ValueError where ``raw`` has another length."""
        self.raw = raw
        self.id = hashlib.sha256(b"edgeagent/v1 storage" + raw).digest()[:8]
        self._cipher = ChaCha20Poly1305(raw)

    @classmethod
    def generate(cls) -> "StorageKey":
        """A new key from the system's randomness."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        """``data`` bound to ``context``; 28 bytes longer."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, context)

    def decrypt(self, encrypted: bytes, context: bytes) -> bytes:
        """What ``encrypt`` was given; PermanentError where the key, the bytes or the context differ."""
        nonce, ciphertext = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, context)
        except (InvalidTag, ValueError):
            raise PermanentError(
                "it was encrypted for another place or with another key, or changed", reason="DecryptFailed"
            ) from None


class StreamCipher:
    """A key (32 raw bytes) for what goes one way of one stream: ChaCha20-Poly1305, the number for a nonce.

    A number may be used once: whoever seals counts.
    """

    def __init__(self, raw: bytes) -> None:
        """ValueError where ``raw`` has another length."""
        self._cipher = ChaCha20Poly1305(raw)

    def seal(self, number: int, data: bytes) -> bytes:
        """``data`` as the packet of this ``number`` (below 2^64); 16 bytes longer."""
        return self._cipher.encrypt(number.to_bytes(_NONCE_BYTES), data, None)

    def open(self, number: int, sealed: bytes) -> bytes:
        """What ``seal`` was given; PermanentError where the key or the number differ, or it was changed."""
        try:
            return self._cipher.decrypt(number.to_bytes(_NONCE_BYTES), sealed, None)
        except (InvalidTag, ValueError):
            raise PermanentError("it was not sealed with this stream's key", reason="DecryptFailed") from None


def derive_key(secret: bytes, purpose: bytes) -> bytes:
    """A key of 32 bytes for one ``purpose`` from ``secret``, which must be random (HKDF-SHA256, no salt)."""
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=purpose).derive(secret)


def seal(public: bytes, data: bytes, context: bytes) -> bytes:
    """Encrypt ``data`` to the X25519 key ``public``, bound to ``context``; 48 bytes longer than ``data``.

    PermanentError where nothing can be sealed to such a key.
    """
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # of another length, or one of the points that give the same secret to everybody
        raise PermanentError("what is to be sealed to is no X25519 key", reason="BadKey") from None
    # A fixed nonce is sound: every message has a key of its own, through its ephemeral half.
    return sender + _cipher(shared, sender, public).encrypt(bytes(12), data, context)


def _cipher(shared: bytes, sender: bytes, recipient: bytes) -> ChaCha20Poly1305:
    key = HKDF(SHA256(), 32, salt=sender + recipient, info=_SEAL_INFO).derive(shared)
    return ChaCha20Poly1305(key)
