"""Channels for coroutines: read and write, and wait where there is nothing to read or no room to write.

What a service in the node and an operator's program work with. It knows no socket and no broker: a carrier
hands frames in by ``Channels.receive`` and takes them by ``next_frame`` once ``on_frames`` told it that
there are some.

    channel = await channels.open("port", b'{"port":80}')      # or: channel = await channels.accept()
    await channel.write(b"…")                                   # waits for credit and room
    while data := await channel.read(): …                       # b"" at the end of the other side's bytes
    await channel.request("resize", b'{"columns":80,"rows":24}')
    kind, value = await channel.next_request()                  # None once the channel is closed
    channel.close()

All of it on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.wire.channelframes import (
    MAX_DATA_BYTES,
    Close,
    Data,
    End,
    Eof,
    Open,
    Opened,
    Refused,
    Request,
)
from edgeagent.wire.channels import MAX_CHANNELS, Multiplexer


class StreamEndedError(EdgeAgentError):
    """The stream came to its end: the other side said so, or it cannot be reached any more.

    ``reason`` as Kubernetes' StatusReason, empty where all went well.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message or "the stream has ended")
        self.reason = reason


class ChannelClosedError(EdgeAgentError):
    """The other side takes nothing of this channel any more; others go on."""


class Channel:
    """One channel of bytes, both ways. ``kind`` and ``value`` (JSON) are what it was opened with."""

    def __init__(self, channels: "Channels", number: int, kind: str, value: bytes) -> None:
        self.kind = kind
        self.value = value
        self._channels = channels
        self._mux = channels.mux
        self._number = number
        self._unread: deque[bytearray] = deque()
        self._asked: deque[tuple[str, bytes]] = deque()
        self._changed = asyncio.Event()
        self._opened = False
        self._refused: PermanentError | None = None
        self._eof = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the other side has closed it."""
        return self._closed

    def accept(self) -> None:
        """Take a channel that the other side wants to open (``Channels.accept`` gave it)."""
        self._opened = True
        self._mux.accept(self._number)
        self._channels.send()

    def refuse(self, reason: str, message: str) -> None:
        """Do not take it, for ``reason`` (a StatusReason) and with words for a person."""
        self._closed = True
        self._mux.refuse(self._number, reason, message)
        self._channels.send()

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at their end. StreamEndedError where the stream was cut before."""
        await self._until(lambda: bool(self._unread) or self._eof or self._closed)
        if not self._unread:
            return b""
        data = bytes(self._unread.popleft())
        self._mux.consumed(self._number, len(data))
        self._channels.send()
        return data

    async def write(self, data: bytes) -> None:
        """Queue ``data``, and wait while there is no room: until the other side has read what was before.

        ChannelClosedError where nobody takes it, StreamEndedError where the stream was cut.
        """
        view = memoryview(data)
        while view:
            await self._until(lambda: self._closed or self._mux.room(self._number) > 0)
            if self._closed:
                raise ChannelClosedError("the other side has closed the channel")
            view = view[self._mux.write(self._number, bytes(view[: self._mux.room(self._number)])) :]
            self._channels.send()

    async def request(self, kind: str, value: bytes = b"{}") -> None:
        """Say something about the channel, behind the bytes before it; ``value`` is JSON. Errors as
        ``write``.
        """
        await self._until(lambda: self._closed or self._mux.may_request(self._number))
        if self._closed:
            raise ChannelClosedError("the other side has closed the channel")
        self._mux.request(self._number, kind, value)
        self._channels.send()

    async def next_request(self) -> tuple[str, bytes] | None:
        """The next thing the other side says; None once it has closed the channel."""
        await self._until(lambda: bool(self._asked) or self._closed)
        if not self._asked:
            return None
        asked = self._asked.popleft()
        self._mux.answered(self._number)
        self._channels.send()
        return asked

    def end_writing(self) -> None:
        """No more bytes come from here; the other side reads ``b""`` after what is queued."""
        self._mux.end_writing(self._number)
        self._channels.send()

    def close(self) -> None:
        """Be done with it once what is queued was sent; what comes in is passed over."""
        self._closed = True
        self._unread.clear()
        self._mux.close(self._number)
        self._changed.set()
        self._channels.send()

    async def drained(self) -> None:
        """Wait until all that was queued is on its way, which takes the other side's reading."""
        await self._until(lambda: self._mux.drained(self._number))

    async def wait_closed(self) -> None:
        """Wait until the other side closes it (or this side did). StreamEndedError as in ``read``."""
        await self._until(lambda: self._closed)

    async def wait_opened(self) -> None:
        """Wait for the other side's answer to an opening; PermanentError with its reason where it refuses."""
        await self._until(lambda: self._opened or self._refused is not None)
        if self._refused is not None:
            raise self._refused

    def take(self, frame: Opened | Refused | Data | Eof | Close | Request) -> None:
        """For ``Channels`` alone: a frame about this channel."""
        match frame:
            case Opened():
                self._opened = True
            case Refused():
                self._refused = PermanentError(frame.message or "refused", reason=frame.reason)
                self._closed = True
            case Data():
                # Joined: a window of frames of a byte each would take many times its size.
                if self._unread and len(self._unread[-1]) + len(frame.data) <= MAX_DATA_BYTES:
                    self._unread[-1] += frame.data
                else:
                    self._unread.append(bytearray(frame.data))
            case Eof():
                self._eof = True
            case Close():
                self._closed = True
            case Request():
                self._asked.append((frame.kind, frame.value))
        self._changed.set()

    def wake(self) -> None:
        """For ``Channels`` alone: there may be room, or an end."""
        self._changed.set()

    async def _until(self, there: Callable[[], bool]) -> None:
        while not there():
            self._channels.check()
            self._changed.clear()
            await self._changed.wait()


class Channels:
    """One side of a stream. ``client`` is whoever asked for it; ``on_frames``: ``next_frame`` has some."""

    def __init__(
        self, *, client: bool, on_frames: Callable[[], None], max_channels: int = MAX_CHANNELS
    ) -> None:
        self.mux = Multiplexer(client=client, max_channels=max_channels)
        self._on_frames = on_frames
        self._channels: dict[int, Channel] = {}
        self._offered: deque[Channel] = deque()
        self._changed = asyncio.Event()
        self._over: StreamEndedError | None = None

    async def open(self, kind: str, value: bytes = b"{}") -> Channel:
        """A channel, once the other side has it; PermanentError with the reason where it does not want it."""
        self.check()
        number = self.mux.open(kind, value)
        channel = self._channels[number] = Channel(self, number, kind, value)
        self.send()
        try:
            await channel.wait_opened()
        except BaseException:
            channel.close()
            raise
        return channel

    async def accept(self) -> Channel:
        """The next channel that the other side wants: to ``accept`` or to ``refuse``. Raises
        StreamEndedError.
        """
        while not self._offered:
            self.check()
            self._changed.clear()
            await self._changed.wait()
        return self._offered.popleft()

    async def ended(self) -> StreamEndedError:
        """Wait for the end of the stream; what it ended with."""
        while self._over is None:
            self._changed.clear()
            await self._changed.wait()
        return self._over

    @property
    def over(self) -> StreamEndedError | None:
        """What the stream ended with, on either side; None while it goes on."""
        return self._over

    @property
    def ended_there(self) -> bool:
        """Whether it was the other side that ended the stream."""
        return self.mux.ended is not None

    @property
    def is_cut(self) -> bool:
        """Whether it is over without that either side has ended it."""
        return self._over is not None and not self.mux.ending and self.mux.ended is None

    @property
    def nothing_to_send(self) -> bool:
        """For a carrier: whether the end, if this side has brought it, was taken by ``next_frame``."""
        return self.mux.end_taken

    def end(self, reason: str = "", message: str = "") -> None:
        """End the stream at once: what waits to be sent is dropped. See ``finish``."""
        if self._over is None:
            self.mux.end(reason, message)
            self._finish(StreamEndedError(reason, message))
            self.send()

    async def finish(self, reason: str = "", message: str = "") -> None:
        """End the stream once all that was queued in any channel is on its way (the other side has to read
        it).

        StreamEndedError where the stream is cut before.
        """
        for channel in list(self._channels.values()):
            await channel.drained()
        self.end(reason, message)

    def cut(self, reason: str, message: str) -> None:
        """For a carrier: the other side cannot be reached any more."""
        self._finish(StreamEndedError(reason, message))

    def receive(self, data: bytes) -> None:
        """For a carrier: a frame of the other side. InvalidObjectError or ProtocolError where it is none."""
        frame = self.mux.receive(data)
        match frame:
            case Open():
                channel = Channel(self, frame.channel, frame.kind, frame.value)
                self._channels[frame.channel] = channel
                self._offered.append(channel)
                self._changed.set()
            case End():
                self._finish(StreamEndedError(frame.reason, frame.message))
            case Opened() | Refused() | Data() | Eof() | Close() | Request():
                if (known := self._channels.get(frame.channel)) is not None:
                    known.take(frame)
            case _:
                pass
        self._wake()
        self.send()

    def next_frame(self) -> bytes | None:
        """For a carrier: the next frame to send, or None where there is none until ``on_frames``."""
        frame = self.mux.next_frame()
        if frame is not None:
            self._wake()
        return frame

    def send(self) -> None:
        """For channels: there may be frames."""
        self._on_frames()

    def check(self) -> None:
        """Raises StreamEndedError once the stream is over."""
        if self._over is not None:
            # A new one: each that is raised gathers a traceback of its own.
            raise StreamEndedError(self._over.reason, str(self._over))

    def _finish(self, over: StreamEndedError) -> None:
        if self._over is None:
            self._over = over
            for channel in self._channels.values():
                channel.wake()
            self._channels.clear()
            self._offered.clear()
            self._changed.set()

    def _wake(self) -> None:
        for channel in self._channels.values():
            channel.wake()
        self._channels = {
            number: channel for number, channel in self._channels.items() if self.mux.knows(number)
        }
