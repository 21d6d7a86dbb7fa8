"""A carrier of channel frames that loses and repeats nothing, over topics that may: a state machine without
any I/O.

A packet is its number (8 bytes) and what ``StreamCipher`` sealed under that number, so that whoever owns
the broker can only delay or cut. There are packets of two sorts. *Data* are counted from 0: they have
frames, are kept until the other side says that it has them, and are sent again, the same bytes, when it
asks. *Signals* are counted from 2^63: they say what has come so far, and ask. What does not open, or came
before, is passed over; a gap is asked for again (go-back-N), and behind the last packet a signal asks
whether all has come. So it is after a connection that was lost, on either side.

Whoever has heard nothing new of the other side for ``LOST_SECONDS`` gives the stream up. The client asks in
time for an answer (``PING_SECONDS``), so that both hear of each other where nothing else is to be said.
"""

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.wire.channelframes import MAX_FRAME_BYTES

NUMBER_BYTES = 8
SIGNALS = 2**63
"""The number of the first signal."""
MAX_FRAMES = 64
PACKET_BYTES = 24_576
"""Frames in one data packet have no more bytes together."""
MAX_PACKET_BYTES = PACKET_BYTES + 1_024
MAX_UNACKNOWLEDGED = 12
"""Data packets that are kept until the other side has them; before that, no more are made."""
ACKNOWLEDGE_EVERY = 4
ACKNOWLEDGE_SECONDS = 0.1
"""So long a packet may wait for one the other way that can say that it has come."""
PROBE_SECONDS = 5.0
PING_SECONDS = 20.0
LOST_SECONDS = 60.0


class Cipher(Protocol):
    """What ``edgeagent.wire.keys.StreamCipher`` does, for one way of a stream."""

    def seal(self, number: int, data: bytes) -> bytes:
        """Seal a packet; a number is used once."""

    def open(self, number: int, sealed: bytes) -> bytes:
        """What was sealed; PermanentError where it was not, or not under this number."""


class Signal(IntEnum):
    """What a signal is for."""

    ACKNOWLEDGE = 0
    PROBE = 1
    """Answer: acknowledge, or ask again for what has not come."""
    AGAIN = 2
    """Send everything from ``received`` on again."""


class _DataPacket(msgspec.Struct, frozen=True, array_like=True, tag=1):
    received: int
    frames: list[bytes]


class _SignalPacket(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """``received``: all data below it has come; ``sent``: all data below it is on its way."""

    kind: int
    received: int
    sent: int


_decoder = msgspec.msgpack.Decoder(_DataPacket | _SignalPacket)
_encode = msgspec.msgpack.Encoder().encode


class Carrier:
    """One side. ``client`` asks in time whether the other is there; times are of one monotonic clock, in
    seconds.
    """

    def __init__(self, outgoing: Cipher, incoming: Cipher, *, client: bool, now: float) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._client = client
        self._kept: deque[bytes] = deque()
        self._first = 0
        """The number of the oldest data packet that is kept."""
        self._cursor = 0
        """The number of the data packet that is to go out next."""
        self._signals = 0
        self._wanted: set[Signal] = set()
        self._received = 0
        self._acknowledged = 0
        """What the other side was told last has come."""
        self._acknowledge_at: float | None = None
        self._their_signal = SIGNALS - 1
        self._asked_again = -1
        self._probe_at: float | None = None
        self._ping_at = now + PING_SECONDS
        self.heard_at = now
        self.heard = 0
        """Packets that show that the other side is there: those that nobody can have kept and sent again."""
        self.passed_over = 0
        """Packets that did not open, or came before."""

    @property
    def may_send(self) -> bool:
        """Whether there is room for one more data packet."""
        return len(self._kept) < MAX_UNACKNOWLEDGED

    @property
    def has_signals(self) -> bool:
        """Whether something is to be said that is no data."""
        return bool(self._wanted)

    @property
    def all_arrived(self) -> bool:
        """Whether the other side has said that it has everything."""
        return not self._kept

    def send(self, frames: Sequence[bytes]) -> None:
        """Put frames into the next data packet, of ``PACKET_BYTES`` together at most, where ``may_send``."""
        assert self.may_send, "more than the other side has acknowledged"
        number = self._first + len(self._kept)
        packet = _encode(_DataPacket(self._received, list(frames)))
        self._kept.append(number.to_bytes(NUMBER_BYTES) + self._outgoing.seal(number, packet))
        self._told()

    def next_packet(self, now: float) -> bytes | None:
        """What is to be published next, or None."""
        return self.next_signal() or self.next_data(now)

    @property
    def next_size(self) -> int:
        """How many bytes ``next_data`` would have; 0 for none."""
        at = self._cursor - self._first
        return len(self._kept[at]) if at < len(self._kept) else 0

    def next_signal(self) -> bytes | None:
        """What is to be said that is no data, or None."""
        for kind in (Signal.AGAIN, Signal.PROBE, Signal.ACKNOWLEDGE):
            if kind in self._wanted:
                self._wanted -= {kind, Signal.ACKNOWLEDGE}
                return self._signal(kind)
        return None

    def next_data(self, now: float) -> bytes | None:
        """The data packet that goes out next, for the first time or again, or None."""
        at = self._cursor - self._first
        if at >= len(self._kept):
            return None
        self._cursor += 1
        if at + 1 == len(self._kept):
            self._probe_at = now + PROBE_SECONDS
        return self._kept[at]

    def _signal(self, kind: Signal) -> bytes:
        number = SIGNALS + self._signals
        self._signals += 1
        self._told()
        packet = _encode(_SignalPacket(kind, self._received, self._cursor))
        return number.to_bytes(NUMBER_BYTES) + self._outgoing.seal(number, packet)

    def _told(self) -> None:
        self._acknowledged, self._acknowledge_at = self._received, None
        self._wanted.discard(Signal.ACKNOWLEDGE)

    def receive(self, packet: bytes, now: float) -> list[bytes]:
        """The frames that a packet brings, each once and in order; none where it is passed over.

        InvalidObjectError where the other side sealed what is no packet: nothing it says counts any more.
        """
        opened = self._open(packet)
        if opened is None:
            self.passed_over += 1
            return []
        number, content = opened
        if number >= SIGNALS or number == self._received:
            # Data that came before, or is ahead of a gap, whoever owns the broker can repeat for ever.
            self.heard += 1
            self.heard_at = now
            self._ping_at = now + PING_SECONDS
        self._arrived(content.received, now)
        if isinstance(content, _SignalPacket):
            self._their_signal = number
            self._take_signal(content)
            return []
        if number > self._received:
            self._ask_again()
            return []
        if number < self._received:
            # Repeated: most likely it was not heard that it had come.
            self._acknowledge_soon(now)
            self.passed_over += 1
            return []
        self._received += 1
        if self._received - self._acknowledged >= ACKNOWLEDGE_EVERY:
            self._wanted.add(Signal.ACKNOWLEDGE)
        self._acknowledge_soon(now)
        return content.frames

    def _open(self, packet: bytes) -> tuple[int, _DataPacket | _SignalPacket] | None:
        """None for what somebody else made, or a signal that came before."""
        if not NUMBER_BYTES < len(packet) <= MAX_PACKET_BYTES:
            return None
        number = int.from_bytes(packet[:NUMBER_BYTES])
        if SIGNALS <= number <= self._their_signal:
            return None
        try:
            plain = self._incoming.open(number, packet[NUMBER_BYTES:])
        except PermanentError:
            return None
        try:
            content = _decoder.decode(plain)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidObjectError("packet", f"not one of a stream: {error}") from None
        if isinstance(content, _SignalPacket) != (number >= SIGNALS):
            raise InvalidObjectError("packet", "data under the number of a signal, or a signal as data")
        if isinstance(content, _DataPacket) and (
            len(content.frames) > MAX_FRAMES or any(len(one) > MAX_FRAME_BYTES for one in content.frames)
        ):
            raise InvalidObjectError("packet.frames", "too many, or too large")
        return number, content

    def _arrived(self, received: int, now: float) -> None:
        if not 0 <= received <= self._first + len(self._kept):
            raise InvalidObjectError("packet.received", "more than was sent")
        while self._first < received:
            self._kept.popleft()
            self._first += 1
            self._probe_at = now + PROBE_SECONDS if self._kept else None
        self._cursor = max(self._cursor, self._first)

    def _take_signal(self, signal: _SignalPacket) -> None:
        if signal.kind == Signal.AGAIN:
            self._cursor = max(self._first, min(self._cursor, signal.received))
        elif signal.kind == Signal.PROBE:
            if signal.sent > self._received:
                self._asked_again = -1
                self._ask_again()
            else:
                self._wanted.add(Signal.ACKNOWLEDGE)

    def _ask_again(self) -> None:
        """Once for each gap: what was under way behind it would ask as often."""
        if self._asked_again != self._received:
            self._asked_again = self._received
            self._wanted.add(Signal.AGAIN)

    def _acknowledge_soon(self, now: float) -> None:
        if self._acknowledge_at is None:
            self._acknowledge_at = now + ACKNOWLEDGE_SECONDS

    def acknowledge(self) -> None:
        """Say now what has come."""
        if self._received > self._acknowledged:
            self._wanted.add(Signal.ACKNOWLEDGE)

    def reconnected(self) -> None:
        """What was under way may be lost, both ways: ask for it, and have the other side ask."""
        self._wanted |= {Signal.AGAIN, Signal.PROBE}

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._acknowledge_at is not None and now >= self._acknowledge_at:
            self._acknowledge_at = None
            self._wanted.add(Signal.ACKNOWLEDGE)
        if self._probe_at is not None and now >= self._probe_at:
            self._probe_at = now + PROBE_SECONDS
            self._wanted.add(Signal.PROBE)
        if self._client and now >= self._ping_at:
            self._ping_at = now + PROBE_SECONDS
            self._wanted.add(Signal.PROBE)

    def is_lost(self, now: float) -> bool:
        """Whether nothing was heard for too long."""
        return now >= self.heard_at + LOST_SECONDS

    def next_tick(self) -> float:
        """When ``tick`` has something to do, or the stream is lost, unless something comes before."""
        times = [self.heard_at + LOST_SECONDS]
        times += [one for one in (self._acknowledge_at, self._probe_at) if one is not None]
        if self._client:
            times.append(self._ping_at)
        return min(times)
