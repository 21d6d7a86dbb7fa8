"""The frames of which channels are made: MessagePack arrays that begin with the number of their kind.

After RFC 4254, section 5 (the connection protocol of SSH). A frame says one thing about one channel; none
is larger than ``MAX_FRAME_BYTES``. May not know in which order frames may come: ``edgeagent.wire.channels``
does.
"""

import msgspec

from edgeagent.api.errors import InvalidObjectError

MAX_DATA_BYTES = 16_000
"""How much of a channel's bytes stands in one frame."""
MAX_FRAME_BYTES = 16_384
MAX_KIND = 40
"""Characters of the kind of a channel or of a request."""
MAX_VALUE_BYTES = 4_096
"""What may be said with the opening of a channel and with a request: JSON."""
MAX_REASON = 64
MAX_MESSAGE = 2_000
MAX_CREDIT = 2**31
"""More credit than this has no peer that keeps to the rules."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What all frames are."""


class Open(Frame, frozen=True, array_like=True, tag=1):
    """A channel of a ``kind`` is wanted. ``value`` is JSON; ``window`` may be sent to who opens it."""

    channel: int
    kind: str
    value: bytes
    window: int
    requests: int


class Opened(Frame, frozen=True, array_like=True, tag=2):
    """The channel is there; ``window`` bytes and ``requests`` requests may be sent to who accepts it."""

    channel: int
    window: int
    requests: int


class Refused(Frame, frozen=True, array_like=True, tag=3):
    """The channel is not to be had. ``reason`` as Kubernetes' StatusReason."""

    channel: int
    reason: str
    message: str


class Data(Frame, frozen=True, array_like=True, tag=4):
    """Bytes of a channel."""

    channel: int
    data: bytes


class Window(Frame, frozen=True, array_like=True, tag=5):
    """So many bytes and requests more than before may be sent."""

    channel: int
    window: int
    requests: int


class Eof(Frame, frozen=True, array_like=True, tag=6):
    """No more bytes come; requests may."""

    channel: int


class Close(Frame, frozen=True, array_like=True, tag=7):
    """The channel is at its end for the sender, who takes nothing of it any more."""

    channel: int


class Request(Frame, frozen=True, array_like=True, tag=8):
    """A ``kind`` of thing is said about a channel, such as the size of a terminal; ``value`` is JSON."""

    channel: int
    kind: str
    value: bytes


class End(Frame, frozen=True, array_like=True, tag=9):
    """Nothing comes any more, on any channel. ``reason`` is empty where all went well."""

    reason: str
    message: str


AnyFrame = Open | Opened | Refused | Data | Window | Eof | Close | Request | End

_decoder = msgspec.msgpack.Decoder(AnyFrame)
_encode = msgspec.msgpack.Encoder().encode


def encode_frame(frame: AnyFrame) -> bytes:
    """The bytes of a frame whose parts are within their limits."""
    return _encode(frame)


def decode_frame(data: bytes) -> AnyFrame:
    """The frame, whose parts are within their limits; raises InvalidObjectError."""
    if len(data) > MAX_FRAME_BYTES:
        raise InvalidObjectError("frame", f"{len(data)} bytes, more than the {MAX_FRAME_BYTES} allowed")
    try:
        frame: AnyFrame = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidObjectError("frame", f"none that is known: {error}") from None
    _check(frame)
    return frame


def _check(frame: AnyFrame) -> None:
    if not isinstance(frame, End) and not 0 <= frame.channel < 2**32:
        raise InvalidObjectError("frame.channel", "must be below 2^32")
    match frame:
        case Open() | Request():
            if not 0 < len(frame.kind) <= MAX_KIND or len(frame.value) > MAX_VALUE_BYTES:
                raise InvalidObjectError(
                    "frame", f"a kind has 1 to {MAX_KIND} characters, a value at most {MAX_VALUE_BYTES} bytes"
                )
        case Data():
            if not 0 < len(frame.data) <= MAX_DATA_BYTES:
                raise InvalidObjectError("frame.data", f"must have 1 to {MAX_DATA_BYTES} bytes")
        case Refused() | End():
            if len(frame.reason) > MAX_REASON or len(frame.message) > MAX_MESSAGE:
                raise InvalidObjectError("frame", "a reason or message that is too long")
    if isinstance(frame, Open | Opened | Window) and not (
        0 <= frame.window <= MAX_CREDIT and 0 <= frame.requests <= MAX_CREDIT
    ):
        raise InvalidObjectError("frame.window", f"must be within 0 to {MAX_CREDIT}")
