"""Calls that the broker carries and cannot read: sealed to the hub, and answered sealed to the caller.

A sealed payload begins with a byte that no JSON begins with. Inside a sealed request stands the caller's
X25519 key for the answers. Both are bound to the reply topic and the correlation data. This keeps a
Secret on its way to the hub, or a log on its way back, from whoever owns the broker. Who the caller is, is
said by the signature inside (``edgeagent.wire.operatorcalls``).
"""

from edgeagent.api.errors import PermanentError
from edgeagent.wire.keys import SealingKey, seal

SEALED = b"\x01"
KEY_BYTES = 32
SEALED_OVERHEAD = 128
"""What sealing adds to a payload, at most."""


def _context(reply_topic: str, correlation: bytes) -> bytes:
    return reply_topic.encode() + b"\0" + correlation


def is_sealed(payload: bytes) -> bool:
    """Whether a request or an answer is one of these."""
    return payload.startswith(SEALED)


def seal_request(
    payload: bytes, hub: bytes, answers_to: bytes, reply_topic: str, correlation: bytes
) -> bytes:
    """``payload`` for the hub's public key; ``answers_to`` is the caller's own."""
    return SEALED + seal(hub, answers_to + payload, _context(reply_topic, correlation))


def open_request(sealed: bytes, key: SealingKey, reply_topic: str, correlation: bytes) -> tuple[bytes, bytes]:
    """The payload, and the key to seal the answers to; PermanentError where it is for another hub."""
    plain = key.unseal(sealed.removeprefix(SEALED), _context(reply_topic, correlation))
    if len(plain) < KEY_BYTES:
        raise PermanentError("the request is cut short", reason="Invalid")
    return plain[KEY_BYTES:], plain[:KEY_BYTES]


def seal_answer(payload: bytes, answers_to: bytes, reply_topic: str, correlation: bytes) -> bytes:
    """An answer that only the caller can read."""
    return SEALED + seal(answers_to, payload, _context(reply_topic, correlation))


def open_answer(sealed: bytes, key: SealingKey, reply_topic: str, correlation: bytes) -> bytes:
    """The answer; PermanentError where it is another's, or was changed."""
    return key.unseal(sealed.removeprefix(SEALED), _context(reply_topic, correlation))
