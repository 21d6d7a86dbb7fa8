"""Channels: whatever is said in whatever order, each channel brings its own bytes, and none holds another
up.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.wire.channelframes import (
    MAX_DATA_BYTES,
    MAX_FRAME_BYTES,
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
from edgeagent.wire.channelio import Channels
from edgeagent.wire.channels import (
    MAX_CHANNELS,
    OUT_BYTES,
    WINDOW_BYTES,
    WINDOW_REQUESTS,
    Multiplexer,
    ProtocolError,
)


@dataclass
class _Half:
    """One end of one channel: what was written to it, and what came out of it."""

    written: bytearray = field(default_factory=bytearray)
    asked: list[bytes] = field(default_factory=list)
    read: bytearray = field(default_factory=bytearray)
    answered: list[bytes] = field(default_factory=list)
    unread: deque[bytes] = field(default_factory=deque)
    open: bool = False
    refused: bool = False
    ended: bool = False
    closed: bool = False
    their_eof: bool = False
    their_close: bool = False


class _Side:
    """A multiplexer, its frames on their way to the other side, and its ends of the channels."""

    def __init__(self, *, client: bool) -> None:
        self.mux = Multiplexer(client=client)
        self.under_way: deque[bytes] = deque()
        self.ends: dict[int, _Half] = {}
        self.offered: list[int] = []

    def pump(self) -> bool:
        frame = self.mux.next_frame()
        if frame is not None:
            assert len(frame) <= MAX_FRAME_BYTES
            self.under_way.append(frame)
        return frame is not None

    def take(self, data: bytes) -> None:
        frame = self.mux.receive(data)
        match frame:
            case Open():
                self.ends[frame.channel] = _Half()
                self.offered.append(frame.channel)
            case Opened():
                self.ends[frame.channel].open = True
            case Refused():
                self.ends[frame.channel].refused = True
            case Data():
                self.ends[frame.channel].unread.append(frame.data)
            case Eof():
                self.ends[frame.channel].their_eof = True
            case Close():
                self.ends[frame.channel].their_close = True
            case Request():
                self.ends[frame.channel].answered.append(frame.value)
                self.mux.answered(frame.channel)

    def read(self, number: int) -> None:
        end = self.ends[number]
        if end.unread:
            data = end.unread.popleft()
            end.read += data
            self.mux.consumed(number, len(data))


SIDES = st.sampled_from([0, 1])


class _Machine(RuleBasedStateMachine):
    """Two sides with a carrier between them that loses nothing; the model is what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [_Side(client=True), _Side(client=False)]
        self.count = 0

    def _pick(self, side: int, data: st.DataObject, *, among: str) -> int | None:
        one = self.sides[side]
        numbers = {
            "open": [number for number, end in one.ends.items() if end.open and not end.closed],
            "offered": one.offered,
            "any": list(one.ends),
        }[among]
        return data.draw(st.sampled_from(numbers)) if numbers else None

    @rule(side=SIDES)
    def opens(self, side: int) -> None:
        one = self.sides[side]
        try:
            number = one.mux.open("c", b"{}")
        except PermanentError:
            return
        one.ends[number] = _Half()

    @rule(side=SIDES, data=st.data(), agrees=st.booleans())
    def answers(self, side: int, data: st.DataObject, agrees: bool) -> None:
        one = self.sides[side]
        number = self._pick(side, data, among="offered")
        if number is None:
            return
        one.offered.remove(number)
        if agrees:
            one.mux.accept(number)
            one.ends[number].open = True
        else:
            one.mux.refuse(number, "No", "no")
            one.ends[number].refused = True

    @rule(side=SIDES, data=st.data(), size=st.sampled_from([1, 100, 20_000, 100_000]))
    def writes(self, side: int, data: st.DataObject, size: int) -> None:
        one = self.sides[side]
        number = self._pick(side, data, among="open")
        if number is None:
            return
        self.count += 1
        chunk = self.count.to_bytes(4) * (size // 4 + 1)
        taken = one.mux.write(number, chunk[:size])
        one.ends[number].written += chunk[:taken]

    @rule(side=SIDES, data=st.data())
    def requests(self, side: int, data: st.DataObject) -> None:
        one = self.sides[side]
        number = self._pick(side, data, among="open")
        if number is not None and one.mux.may_request(number):
            self.count += 1
            one.mux.request(number, "r", str(self.count).encode())
            one.ends[number].asked.append(str(self.count).encode())

    @rule(side=SIDES, data=st.data())
    def ends_writing(self, side: int, data: st.DataObject) -> None:
        number = self._pick(side, data, among="open")
        if number is not None:
            self.sides[side].mux.end_writing(number)
            self.sides[side].ends[number].ended = True

    @rule(side=SIDES, data=st.data())
    def closes(self, side: int, data: st.DataObject) -> None:
        number = self._pick(side, data, among="any")
        if number is not None:
            self.sides[side].mux.close(number)
            self.sides[side].ends[number].closed = True
            if number in self.sides[side].offered:
                self.sides[side].offered.remove(number)

    @rule(side=SIDES, data=st.data())
    def reads(self, side: int, data: st.DataObject) -> None:
        number = self._pick(side, data, among="any")
        if number is not None:
            self.sides[side].read(number)

    @rule(side=SIDES, times=st.integers(1, 20))
    def pumps(self, side: int, times: int) -> None:
        for _ in range(times):
            self.sides[side].pump()

    @rule(side=SIDES, times=st.integers(1, 20))
    def delivers(self, side: int, times: int) -> None:
        for _ in range(times):
            if self.sides[side].under_way:
                self.sides[1 - side].take(self.sides[side].under_way.popleft())

    @invariant()
    def bounded(self) -> None:
        for one in self.sides:
            for number, end in one.ends.items():
                assert sum(map(len, end.unread)) <= WINDOW_BYTES
                assert one.mux.room(number) <= OUT_BYTES

    @invariant()
    def each_its_own_bytes(self) -> None:
        for side, one in enumerate(self.sides):
            for number, end in one.ends.items():
                other = self.sides[1 - side].ends.get(number)
                if other is not None:
                    assert other.written.startswith(bytes(end.read))
                    assert end.answered == other.asked[: len(end.answered)]

    @precondition(lambda self: self.count > 0)
    @rule()
    def everything_arrives(self) -> None:
        """Read on and nothing is left: no credit is lost, whatever happened before."""
        busy = True
        while busy:
            busy = False
            for one in self.sides:
                while one.offered:
                    number = one.offered.pop()
                    one.mux.accept(number)
                    one.ends[number].open = True
                    busy = True
            for side, one in enumerate(self.sides):
                while one.pump():
                    busy = True
                while one.under_way:
                    self.sides[1 - side].take(one.under_way.popleft())
                    busy = True
            for one in self.sides:
                for number in one.ends:
                    while one.ends[number].unread:
                        one.read(number)
                        busy = True
        for side, one in enumerate(self.sides):
            for number, end in one.ends.items():
                other = self.sides[1 - side].ends[number]
                if end.closed or other.closed or end.refused or other.refused:
                    continue
                assert bytes(end.read) == bytes(other.written)
                assert end.answered == other.asked
                assert end.their_eof == other.ended
                assert one.mux.drained(number)

    def teardown(self) -> None:
        if self.count:
            self.everything_arrives()
        for side, one in enumerate(self.sides):
            for number, end in one.ends.items():
                other = self.sides[1 - side].ends.get(number)
                if self.count and other is not None and (end.closed or other.closed):
                    assert not one.mux.knows(number), "closed on one side, it is closed on both"


TestChannels = _Machine.TestCase
TestChannels.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def pair() -> tuple[Multiplexer, Multiplexer, int]:
    """Two sides with one open channel."""
    client, server = Multiplexer(client=True), Multiplexer(client=False)
    number = client.open("c")
    relay(client, server)
    server.accept(number)
    relay(server, client)
    return client, server, number


def relay(source: Multiplexer, sink: Multiplexer) -> list[AnyFrame | None]:
    taken = []
    while (frame := source.next_frame()) is not None:
        taken.append(sink.receive(frame))
    return taken


def test_a_reader_who_does_not_read_stops_its_own_channel_alone() -> None:
    client, server, slow = pair()
    quick = client.open("c")
    relay(client, server)
    server.accept(quick)
    relay(server, client)
    sent = 0
    while taken := client.write(slow, bytes(50_000)):
        sent += taken
        relay(client, server)
    assert sent == WINDOW_BYTES + OUT_BYTES
    assert client.write(quick, b"hello") == 5
    assert relay(client, server) == [Data(quick, b"hello")]


def test_no_more_credit_is_given_than_was_used() -> None:
    client, server, number = pair()
    for _ in range(20):
        client.write(number, bytes(OUT_BYTES))
        for frame in relay(client, server):
            assert isinstance(frame, Data)
            server.consumed(number, len(frame.data))
        relay(server, client)
    unread = 0
    while client.write(number, bytes(OUT_BYTES)):
        unread += sum(len(frame.data) for frame in relay(client, server) if isinstance(frame, Data))
        relay(server, client)
    assert 0 < unread <= WINDOW_BYTES


def test_a_channel_that_is_closed_on_one_side_is_gone_on_both() -> None:
    client, server, number = pair()
    client.write(number, b"last")
    client.close(number)
    server.write(number, b"in vain")
    assert relay(client, server) == [Data(number, b"last"), Close(number)]
    assert relay(server, client) == [None]
    assert not client.knows(number)
    assert not server.knows(number)


def test_channels_take_turns() -> None:
    client, server, first = pair()
    second = client.open("c")
    relay(client, server)
    server.accept(second)
    relay(server, client)
    client.write(first, bytes(OUT_BYTES))
    client.write(second, bytes(OUT_BYTES))
    order = [frame.channel for frame in relay(client, server) if isinstance(frame, Data)]
    assert order[:4] == [first, second, first, second]


def test_requests_have_a_credit_of_their_own() -> None:
    client, server, number = pair()
    for _ in range(WINDOW_REQUESTS):
        client.request(number, "resize")
    assert not client.may_request(number)
    relay(client, server)
    for _ in range(WINDOW_REQUESTS):
        server.answered(number)
    relay(server, client)
    assert client.may_request(number)


def test_more_channels_than_may_be_are_refused_and_no_more_are_asked_for() -> None:
    client, server = Multiplexer(client=True), Multiplexer(client=False, max_channels=2)
    numbers = [client.open("c") for _ in range(MAX_CHANNELS)]
    with pytest.raises(PermanentError, match="open already"):
        client.open("c")
    relay(client, server)
    refused = [frame.channel for frame in relay(server, client) if isinstance(frame, Refused)]
    assert refused == numbers[2:]


def test_the_end_drops_what_waits_and_comes_at_once() -> None:
    client, server, number = pair()
    client.write(number, bytes(1000))
    client.end("Forbidden", "no more")
    assert relay(client, server) == [End("Forbidden", "no more")]
    assert server.next_frame() is None
    assert client.end_taken


@pytest.mark.parametrize(
    "frame",
    [
        Data(0, b"x" * MAX_DATA_BYTES),
        Request(0, "k", b"{}"),
        Opened(0, 1, 1),
        Refused(0, "r", "m"),
        Open(0, "again", b"{}", 1, 1),
        Open(3, "odd", b"{}", 1, 1),
        Window(0, 2**31, 0),
        Eof(0),
        Data(8, b"x"),
        Close(6),
    ],
)
def test_who_does_not_keep_to_the_rules_is_found_out(frame: AnyFrame) -> None:
    _, server, _ = pair()
    for _ in range(WINDOW_REQUESTS + 1):  # the first few are within the rules for some
        try:
            server.receive(encode_frame(frame))
        except ProtocolError:
            return
    pytest.fail("it was taken")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", encode_frame(Data(0, bytes(MAX_DATA_BYTES + 1))), encode_frame(Data(0, b"")),
     encode_frame(Data(2**32, b"x")), encode_frame(Request(0, "", b"")), encode_frame(Window(0, -1, 0)),
     encode_frame(End("x" * 100, "")), encode_frame(Open(0, "k", bytes(5000), 1, 1)),
     bytes(MAX_FRAME_BYTES + 1)],
)  # fmt: skip
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidObjectError):
        decode_frame(data)


def test_a_window_of_tiny_frames_takes_no_more_memory_than_one_of_large_ones() -> None:
    """Each piece of bytes has a head of its own: of two bytes at a time a window would be thirty times as
    large.
    """

    async def pieces() -> list[bytes]:
        channels = Channels(client=False, on_frames=lambda: None)
        channels.receive(encode_frame(Open(0, "port", b"{}", WINDOW_BYTES, 1)))
        channel = await channels.accept()
        channel.accept()
        for number in range(WINDOW_BYTES // 2):
            channels.receive(encode_frame(Data(0, number.to_bytes(2))))
        channels.receive(encode_frame(Eof(0)))
        found = []
        while data := await channel.read():
            found.append(data)
        return found

    found = asyncio.run(pieces())
    assert b"".join(found) == b"".join(number.to_bytes(2) for number in range(WINDOW_BYTES // 2))
    assert len(found) <= WINDOW_BYTES // MAX_DATA_BYTES + 1
