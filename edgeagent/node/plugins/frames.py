"""The talk between a process lane and its child: length-prefixed msgpack frames on a socket pair.

The parent sends one Hello, then Requests. The child answers Ready or Broken, then one Answer or Refusal to
each request. An Answer with a descriptor is sent with it (SCM_RIGHTS), at its first byte. No frame is larger
than MAX_FRAME_BYTES; whoever receives a larger one gives the connection up.
"""

from collections.abc import Iterator

import msgspec

from edgeagent.node.plugins.faults import Failure
from edgeagent.node.plugins.target import Place

HEADER_BYTES = 4
MAX_FRAME_BYTES = 16 * 1024 * 1024


class FrameError(Exception):
    """What came in is not a frame, or is too large a one."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """All that the child must know. ``section`` is the raw config, ``python_path`` the agent's PYTHONPATH."""

    plugin: str
    entry_point: str
    workers: int
    sys_path: list[str]
    python_path: str | None
    place: Place
    section: dict[str, object]


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One call; ``args`` is an array."""

    id: int
    hook: str
    method: str
    args: msgspec.Raw


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The plugin is imported and its config accepted."""


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """The plugin cannot be loaded; the child ends."""

    failure: Failure


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """What the call returned. ``with_descriptor``: one came with it, for the value's field of that name."""

    id: int
    value: msgspec.Raw
    with_descriptor: bool = False


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """What the call raised."""

    id: int
    failure: Failure


Reply = Ready | Broken | Answer | Refusal


def frame(message: msgspec.Struct) -> bytes:
    """``message`` as it goes onto the socket; FrameError where it is too large."""
    payload = msgspec.msgpack.encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"{len(payload)} bytes, more than the {MAX_FRAME_BYTES} allowed")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class FrameReader:
    """Puts frames together from bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that ``data`` completes. Raises FrameError at a header that asks for too much."""
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {size} bytes, more than the {MAX_FRAME_BYTES} allowed")
            if len(self._buffer) < HEADER_BYTES + size:
                return
            payload = bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + size])
            del self._buffer[: HEADER_BYTES + size]
            yield payload
