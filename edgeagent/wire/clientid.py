"""MQTT client ids that cannot be guessed: of two sessions with one id the newer wins (ADR 0008)."""

import re

from edgeagent.wire.canonical import digest

_MARK = re.compile(r"[0-9a-f]{16}", re.ASCII)


def client_id(cluster: str, name: str, secret: bytes) -> str:
    """The id of ``name``'s sessions: constant for a private key, known to its owner and the broker alone."""
    return f"{cluster}.{name}.{digest(b'client id' + secret)[:16]}"


def is_client_id(text: str, cluster: str, name: str) -> bool:
    """Whether ``text`` can be what ``client_id`` gives for ``name``, with whatever secret."""
    prefix = f"{cluster}.{name}."
    return text.startswith(prefix) and _MARK.fullmatch(text[len(prefix) :]) is not None
