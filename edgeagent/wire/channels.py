"""Many channels of bytes over one carrier, as a state machine without any I/O.

Frames of the other side go in by ``receive``, frames for it come out of ``next_frame``; a carrier that
loses and repeats nothing brings them over (``edgeagent.wire.stream``, or a socket). Each side gives credit
for each channel (RFC 4254, section 5.2; for requests too), and sends no more than it was given: a channel
whose reader is slow holds no other one up, and nothing piles up in memory. What is to be sent is asked for
in turns, a frame of each channel. Channels that the client opens have even numbers, those of the server odd
ones.
"""

from collections import deque

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.wire.channelframes import (
    MAX_CREDIT,
    MAX_DATA_BYTES,
    MAX_MESSAGE,
    MAX_REASON,
    AnyFrame,
    Close,
    Data,
    End,
    Eof,
    Open,
    Opened,
    Refused,
    Request,
    Window,
    decode_frame,
    encode_frame,
)

WINDOW_BYTES = 65_536
"""Credit for a channel: so much of it is held for a reader who does not read."""
WINDOW_REQUESTS = 16
OUT_BYTES = 32_768
"""So much of a channel waits to be sent, at most."""
MAX_CHANNELS = 32
"""How many channels each side may have opened at a time."""
MAX_WAITING = 1_024
"""Answers to the other side that wait to be sent; whoever asks for more does not listen."""


class ProtocolError(PermanentError):
    """The other side does not keep to the rules: nothing it says counts any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="ProtocolError")


class _Channel(msgspec.Struct):
    """One channel. ``credit`` and ``requests`` are what may be sent, ``given`` what the other may still
    send.
    """

    number: int
    mine: bool
    open: bool = False
    credit: int = 0
    requests: int = 0
    given: int = WINDOW_BYTES
    given_requests: int = WINDOW_REQUESTS
    taken: int = 0
    taken_requests: int = 0
    out: "deque[bytearray | Request | Eof | Close]" = msgspec.field(default_factory=deque)
    out_bytes: int = 0
    ended: bool = False
    """Eof or Close was put in ``out``: nothing else may follow but requests, and Close."""
    closing: bool = False
    closed: bool = False
    """Close was sent."""
    their_eof: bool = False
    their_close: bool = False


class Multiplexer:
    """One side of the channels. ``client`` is whoever asked for the stream."""

    def __init__(self, *, client: bool, max_channels: int = MAX_CHANNELS) -> None:
        self._next = 0 if client else 1
        self._theirs = -1 if client else -2
        """The number of the last channel that they opened."""
        self._max_channels = max_channels
        self._channels: dict[int, _Channel] = {}
        self._first: deque[AnyFrame] = deque()
        self._turns: deque[int] = deque()
        self._end: End | None = None
        self.ended: End | None = None
        """What the other side ended everything with."""

    # What this side wants ---------------------------------------------------------------------------

    def open(self, kind: str, value: bytes = b"{}") -> int:
        """Ask for a channel; its number. PermanentError where there are too many."""
        if sum(one.mine for one in self._channels.values()) >= self._max_channels:
            raise PermanentError(
                f"there are {self._max_channels} channels open already", reason="TooManyChannels"
            )
        number = self._next
        self._next += 2
        self._channels[number] = _Channel(number, mine=True)
        self._first.append(Open(number, kind, value, WINDOW_BYTES, WINDOW_REQUESTS))
        return number

    def accept(self, number: int) -> None:
        """Let the other side have the channel that it opened; no effect on one that is gone."""
        channel = self._channels.get(number)
        if channel is not None and not channel.open and not channel.mine:
            channel.open = True
            self._first.append(Opened(number, WINDOW_BYTES, WINDOW_REQUESTS))
            self._turn(channel)

    def refuse(self, number: int, reason: str, message: str) -> None:
        """Do not, for ``reason`` (a StatusReason); no effect on one that was accepted or is gone."""
        channel = self._channels.get(number)
        if channel is not None and not channel.open and not channel.mine:
            del self._channels[number]
            self._first.append(Refused(number, reason[:MAX_REASON], message[:MAX_MESSAGE]))

    def room(self, number: int) -> int:
        """How many bytes ``write`` takes now: 0 for a channel that is gone or was ended."""
        channel = self._channels.get(number)
        if channel is None or channel.ended:
            return 0
        return max(0, OUT_BYTES - channel.out_bytes)

    def write(self, number: int, data: bytes) -> int:
        """Queue bytes of a channel; how many were taken, which is as many as there is ``room`` for."""
        count = min(len(data), self.room(number))
        if not count:
            return 0
        channel = self._channels[number]
        if channel.out and isinstance(channel.out[-1], bytearray):
            channel.out[-1] += data[:count]
        else:
            channel.out.append(bytearray(data[:count]))
        channel.out_bytes += count
        self._turn(channel)
        return count

    def may_request(self, number: int) -> bool:
        """Whether there is credit for a request, those that wait counted too."""
        channel = self._channels.get(number)
        if channel is None or channel.closing or not channel.open:
            return False
        return channel.requests > sum(isinstance(one, Request) for one in channel.out)

    def request(self, number: int, kind: str, value: bytes = b"{}") -> None:
        """Queue a request behind the bytes before it, where ``may_request`` says that there is credit."""
        assert self.may_request(number), "a request without credit"
        channel = self._channels[number]
        channel.out.append(Request(number, kind, value))
        self._turn(channel)

    def end_writing(self, number: int) -> None:
        """No more bytes come; no effect on a channel that is gone or was ended."""
        channel = self._channels.get(number)
        if channel is not None and not channel.ended:
            channel.ended = True
            channel.out.append(Eof(number))
            self._turn(channel)

    def close(self, number: int) -> None:
        """Be done with a channel, both ways, once what is queued was sent; what comes in is passed over."""
        channel = self._channels.get(number)
        if channel is None or channel.closing:
            return
        if not channel.open and not channel.mine:
            self.refuse(number, "Closed", "nobody serves this channel")
            return
        channel.ended = channel.closing = True
        channel.out.append(Close(number))
        self._turn(channel)

    def consumed(self, number: int, count: int) -> None:
        """The reader has taken ``count`` bytes: the other side may send as many again."""
        channel = self._channels.get(number)
        if channel is not None:
            channel.taken += count
            self._grant(channel)

    def answered(self, number: int) -> None:
        """A request was taken: the other side may send one more."""
        channel = self._channels.get(number)
        if channel is not None:
            channel.taken_requests += 1
            self._grant(channel)

    def end(self, reason: str = "", message: str = "") -> None:
        """End everything: what waits to be sent is dropped, and nothing that comes in counts."""
        if self._end is None:
            self._end = End(reason[:MAX_REASON], message[:MAX_MESSAGE])
            self._channels.clear()
            self._turns.clear()
            self._first.clear()
            self._first.append(self._end)

    @property
    def ending(self) -> bool:
        """Whether this side has ended everything."""
        return self._end is not None

    @property
    def end_taken(self) -> bool:
        """Whether this side has ended everything, and said so in a frame."""
        return self._end is not None and not self._first

    def knows(self, number: int) -> bool:
        """Whether a channel is there still: closed from both sides, it is gone."""
        return number in self._channels

    def drained(self, number: int) -> bool:
        """Whether all that was queued for a channel is in frames, or the channel is gone."""
        channel = self._channels.get(number)
        return channel is None or not channel.out

    # Frames -----------------------------------------------------------------------------------------

    def next_frame(self) -> bytes | None:
        """A frame to send, or None where there is none for now. In turns, so that each channel has its
        part.
        """
        if self._first:
            return encode_frame(self._first.popleft())
        for _ in range(len(self._turns)):
            channel = self._channels.get(self._turns.popleft())
            if channel is None or not channel.out or not channel.open:
                continue
            frame = self._head(channel)
            if channel.number in self._channels and channel.out:
                self._turns.append(channel.number)
            if frame is not None:
                return encode_frame(frame)
        return None

    def _head(self, channel: _Channel) -> AnyFrame | None:
        """The next frame of one channel, if it has the credit."""
        first = channel.out[0]
        if isinstance(first, bytearray):
            count = min(len(first), channel.credit, MAX_DATA_BYTES)
            if not count:
                return None
            data = bytes(first[:count])
            del first[:count]
            if not first:
                channel.out.popleft()
            channel.out_bytes -= count
            channel.credit -= count
            return Data(channel.number, data)
        if isinstance(first, Request):
            if not channel.requests:
                return None
            channel.requests -= 1
        channel.out.popleft()
        if isinstance(first, Close):
            channel.closed = True
            self._forget(channel)
        return first

    def receive(self, data: bytes) -> AnyFrame | None:
        """Take a frame; what of it is to be acted upon, or None.

        Open is to be answered by ``accept`` or ``refuse``. Raises InvalidObjectError or ProtocolError, after
        which nothing may be received any more.
        """
        frame = decode_frame(data)
        if self.ended is not None:
            raise ProtocolError("a frame came after the end")
        if isinstance(frame, End):
            self.ended = frame
            self._channels.clear()
            self._turns.clear()
            self._first.clear()
            return frame
        if self._end is not None:
            return None
        if isinstance(frame, Open):
            return self._opened_by_them(frame)
        channel = self._channels.get(frame.channel)
        if channel is None or channel.their_close:
            raise ProtocolError(f"there is no channel {frame.channel}")
        if isinstance(frame, Opened | Refused):
            return self._answered_by_them(channel, frame)
        if not channel.open:
            raise ProtocolError(f"channel {frame.channel} is not open yet")
        return self._said(channel, frame)

    def _opened_by_them(self, frame: Open) -> Open | None:
        if frame.channel <= self._theirs or (frame.channel - self._theirs) % 2:
            raise ProtocolError(f"channel {frame.channel} may not be opened")
        self._theirs = frame.channel
        if len(self._first) >= MAX_WAITING:
            raise ProtocolError("more channels are asked for than can be answered")
        if sum(not one.mine for one in self._channels.values()) >= self._max_channels:
            self._first.append(
                Refused(
                    frame.channel, "TooManyChannels", f"there are {self._max_channels} channels open already"
                )
            )
            return None
        self._channels[frame.channel] = _Channel(
            frame.channel, mine=False, credit=frame.window, requests=frame.requests
        )
        return frame

    def _answered_by_them(self, channel: _Channel, frame: Opened | Refused) -> AnyFrame | None:
        if channel.open or not channel.mine:
            raise ProtocolError(f"channel {frame.channel} was not asked for")
        if isinstance(frame, Refused):
            del self._channels[frame.channel]
            return None if channel.closing else frame
        channel.open, channel.credit, channel.requests = True, frame.window, frame.requests
        self._turn(channel)
        return None if channel.closing else frame

    def _said(self, channel: _Channel, frame: Data | Window | Eof | Close | Request) -> AnyFrame | None:
        match frame:
            case Data():
                channel.given -= len(frame.data)
                if channel.given < 0 or channel.their_eof:
                    raise ProtocolError(f"channel {frame.channel}: bytes beyond the window or the end")
            case Request():
                channel.given_requests -= 1
                if channel.given_requests < 0:
                    raise ProtocolError(f"channel {frame.channel}: requests beyond the window")
            case Window():
                channel.credit += frame.window
                channel.requests += frame.requests
                if max(channel.credit, channel.requests) > MAX_CREDIT:
                    raise ProtocolError(f"channel {frame.channel}: more credit than there can be")
                return None
            case Eof():
                if channel.their_eof:
                    raise ProtocolError(f"channel {frame.channel}: a second end")
                channel.their_eof = True
            case Close():
                was = channel.closing
                channel.their_close = True
                if channel.closed:
                    self._forget(channel)
                else:
                    # Nobody is there to take what was queued.
                    channel.out.clear()
                    channel.out_bytes = 0
                    channel.ended = channel.closing = True
                    channel.out.append(Close(channel.number))
                    self._turn(channel)
                return None if was else frame
        return None if channel.closing else frame

    def _grant(self, channel: _Channel) -> None:
        """Give credit anew once half of it is used up: not for each byte."""
        if channel.their_close or channel.closing or self._end is not None:
            return
        if channel.taken < WINDOW_BYTES // 2 and channel.taken_requests < WINDOW_REQUESTS // 2:
            return
        channel.given += channel.taken
        channel.given_requests += channel.taken_requests
        self._first.append(Window(channel.number, channel.taken, channel.taken_requests))
        channel.taken = channel.taken_requests = 0

    def _turn(self, channel: _Channel) -> None:
        if channel.open and channel.out and channel.number not in self._turns:
            self._turns.append(channel.number)

    def _forget(self, channel: _Channel) -> None:
        if channel.closed and channel.their_close:
            del self._channels[channel.number]
