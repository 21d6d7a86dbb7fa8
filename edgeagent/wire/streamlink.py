"""Channels joined to their carrier and to a session that comes and goes: what runs a stream over MQTT.

The same for both sides. Frames are made when they can be published, so that channels take turns and nothing
waits in between; a few publications at most are under way. May not know of keys or topics.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.wire.channelframes import MAX_FRAME_BYTES
from edgeagent.wire.channelio import Channels
from edgeagent.wire.channels import ProtocolError
from edgeagent.wire.stream import LOST_SECONDS, MAX_FRAMES, PACKET_BYTES, PING_SECONDS, Carrier

log = logging.getLogger(__name__)

UNDER_WAY = 3
"""Publications of one stream that the broker has not acknowledged."""
LINGER_SECONDS = 10.0
"""So long the end may take to arrive."""
QUIET_SECONDS = PING_SECONDS + 10.0
"""A client that has heard nothing for so long says so."""


def _no_pace(_size: int) -> float:
    return 0.0


class StreamLink:
    """Runs one stream. ``publish`` brings a packet to the other side's topic, or raises.

    ``pace`` takes so many bytes and says how many seconds to wait before they are sent
    (``edgeagent.node.pace.Pace.reserve``). Signals are taken too, but do not wait: they are small, and the
    other side gives up who says nothing. ``on_pause`` is told why the other side cannot be reached for now,
    ``on_resume`` that it can again.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        client: bool,
        publish: Callable[[bytes], Awaitable[None]],
        clock: Clock,
        pace: Callable[[int], float] = _no_pace,
        on_pause: Callable[[str], None] = lambda _reason: None,
        on_resume: Callable[[], None] = lambda: None,
    ) -> None:
        self._wake = asyncio.Event()
        self.channels = Channels(client=client, on_frames=self._wake.set)
        self._carrier = carrier
        self._client = client
        self._publish = publish
        self._clock = clock
        self._pace = pace
        self._frames: list[bytes] = []
        """What goes into the next data packet, at ``_turn_at``."""
        self._turn_at: float | None = None
        self._on_pause = on_pause
        self._on_resume = on_resume
        self._connected = True
        self._paused = False
        self._slots = asyncio.Semaphore(UNDER_WAY)
        self._publishing: set[asyncio.Task[None]] = set()
        self._over_at: float | None = None

    def receive(self, packet: bytes) -> None:
        """A packet came in; what is not the other side's is passed over."""
        now = self._clock.monotonic()
        heard = self._carrier.heard
        try:
            frames = self._carrier.receive(packet, now)
            for frame in frames:
                self.channels.receive(frame)
        except (InvalidObjectError, ProtocolError) as error:
            self.channels.end("ProtocolError", f"the other side does not keep to the protocol: {error}")
        if self._paused and self._carrier.heard != heard:
            self._paused = False
            self._on_resume()
        self._wake.set()

    def disconnected(self, reason: str) -> None:
        """There is no session for now."""
        self._connected = False
        self._pause(reason)

    def connected(self) -> None:
        """There is one again, and what is published to this side arrives."""
        if not self._connected:
            self._connected = True
            self.reconnected()

    def reconnected(self) -> None:
        """What was under way may have been lost: it is asked for again."""
        self._carrier.reconnected()
        self._wake.set()

    async def run(self) -> None:
        """Until the stream is over, on both sides as far as that can be known."""
        try:
            while not self._done():
                now = self._clock.monotonic()
                self._carrier.tick(now)
                if self._carrier.is_lost(now):
                    self.channels.cut(
                        "Timeout", f"nothing was heard of the other side for {LOST_SECONDS:.0f} s"
                    )
                    return
                if self._client and now >= self._carrier.heard_at + QUIET_SECONDS:
                    self._pause("the node does not answer")
                packet = self._next(now) if self._connected else None
                if packet is None:
                    await self._wait(now)
                    continue
                await self._slots.acquire()
                task = asyncio.create_task(self._send(packet))
                self._publishing.add(task)
                task.add_done_callback(self._sent)
        finally:
            self.channels.cut("Cancelled", "the stream was given up")  # no effect where it is over
            for task in self._publishing:
                task.cancel()

    def _done(self) -> bool:
        """Whether there is nothing more to say, or it may be that nobody hears it."""
        if self.channels.over is None:
            return False
        now = self._clock.monotonic()
        if self._over_at is None:
            self._over_at = now
            self._carrier.acknowledge()
        if now >= self._over_at + LINGER_SECONDS or self.channels.is_cut:
            return True
        if self.channels.ended_there:
            return not self._publishing and not self._carrier.has_signals
        return self.channels.nothing_to_send and not self._frames and self._carrier.all_arrived

    def _next(self, now: float) -> bytes | None:
        if (signal := self._carrier.next_signal()) is not None:
            self._pace(len(signal))
            return signal
        while self._has_turn(now):
            self._turn_at = None
            if self._frames:
                # Sealed only now, for a packet says what has come: that is to be no older than it must.
                self._carrier.send(self._frames)
                self._frames = []
            if (packet := self._carrier.next_data(now)) is not None:
                return packet
            # What was to be sent again has come meanwhile.
        return None

    def _has_turn(self, now: float) -> bool:
        """Whether a data packet may go out now; if there is something for one, its turn is reserved."""
        if self._turn_at is None:
            size = self._carrier.next_size
            if not size and self._carrier.may_send:
                self._frames = self._next_frames()
                size = sum(len(one) for one in self._frames)
            if not size:
                return False
            self._turn_at = now + self._pace(size)
        return now >= self._turn_at

    def _next_frames(self) -> list[bytes]:
        frames: list[bytes] = []
        room = PACKET_BYTES
        while room >= MAX_FRAME_BYTES and len(frames) < MAX_FRAMES:
            frame = self.channels.next_frame()
            if frame is None:
                break
            frames.append(frame)
            room -= len(frame)
        return frames

    async def _send(self, packet: bytes) -> None:
        try:
            await self._publish(packet)
        except PermanentError as error:
            self.channels.cut(
                error.reason or "BrokerRefused", f"the broker does not take the stream: {error}"
            )
        except EdgeAgentError as error:
            # Whatever was lost is asked for again: after a new connection, or in a few seconds.
            log.debug("a packet of a stream was not sent: %s", error)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._publishing.discard(task)
        self._slots.release()
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a packet of a stream met a bug", exc_info=error)
            self.channels.cut("InternalError", f"{type(error).__name__}; see the log")

    def _pause(self, reason: str) -> None:
        if not self._paused and self.channels.over is None:
            self._paused = True
            self._on_pause(reason)

    async def _wait(self, now: float) -> None:
        """For something to do, or for the time of it."""
        until = self._carrier.next_tick()
        if self._connected and self._turn_at is not None:
            until = min(until, self._turn_at)
        if self._client and not self._paused:
            until = min(until, self._carrier.heard_at + QUIET_SECONDS)
        if self._over_at is not None:
            until = min(until, self._over_at + LINGER_SECONDS)
        waking = asyncio.ensure_future(self._wake.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.0, until - now)))
        try:
            await asyncio.wait({waking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (waking, sleeping):
                one.cancel()
        self._wake.clear()
