"""Channels over a connected stream socket: what carries a stream between programs of one machine.

Each frame has its length before it, four bytes, big-endian. Nothing is sealed and nothing is resumed: the
kernel carries it, and who may connect decides who may speak. The same for both sides.
"""

import asyncio
import socket

from edgeagent.api.errors import InvalidObjectError
from edgeagent.wire.channelframes import MAX_FRAME_BYTES
from edgeagent.wire.channelio import Channels
from edgeagent.wire.channels import ProtocolError

UPGRADE = "edgeagent-channels"
"""The protocol's name in an HTTP ``Upgrade``."""
HEADER_BYTES = 4
READ_BYTES = 65_536
SEND_BYTES = 65_536
"""So much is handed to the socket at a time: frames beyond are made once it has taken that."""


class SocketLink:
    """Runs one stream on ``connection``, which it closes. ``received``: what was read from it already."""

    def __init__(self, connection: socket.socket, *, client: bool, received: bytes = b"") -> None:
        connection.setblocking(False)
        self._connection = connection
        self._wake = asyncio.Event()
        self._buffer = bytearray(received)
        self.channels = Channels(client=client, on_frames=self._wake.set)

    async def run(self) -> None:
        """Until the stream is over, and the other side was told if it was this one that ended it."""
        receiving = asyncio.create_task(self._receive())
        try:
            await self._send(receiving)
        finally:
            self.channels.cut("Cancelled", "the stream was given up")  # no effect where it is over
            receiving.cancel()
            # Closed once the loop waits for it no longer, also where this is cancelled a second time.
            receiving.add_done_callback(lambda _: self._connection.close())
            await asyncio.gather(receiving, return_exceptions=True)

    async def _send(self, receiving: "asyncio.Task[None]") -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while packet := self._packet():
                try:
                    await loop.sock_sendall(self._connection, packet)
                except OSError as error:
                    # The other side reads no more; what it said before, its end among it, still counts.
                    await asyncio.wait({receiving})
                    self._lost(error)
                    return
            if self.channels.over is not None and self._said_all():
                return
            await self._wake.wait()

    def _said_all(self) -> bool:
        return self.channels.ended_there or self.channels.is_cut or self.channels.nothing_to_send

    def _packet(self) -> bytes:
        packet = bytearray()
        while len(packet) < SEND_BYTES and (frame := self.channels.next_frame()) is not None:
            packet += len(frame).to_bytes(HEADER_BYTES, "big") + frame
        return bytes(packet)

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._take()
                data = await loop.sock_recv(self._connection, READ_BYTES)
                if not data:
                    self._lost(None)
                    return
                self._buffer += data
        except OSError as error:
            self._lost(error)
        except (InvalidObjectError, ProtocolError) as error:
            self.channels.end("ProtocolError", f"the other side does not keep to the protocol: {error}")
            self._wake.set()

    def _take(self) -> None:
        """Hand over every frame that is whole."""
        while len(self._buffer) >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
            if size > MAX_FRAME_BYTES:
                raise InvalidObjectError("frame", f"{size} bytes, more than the {MAX_FRAME_BYTES} allowed")
            if len(self._buffer) < HEADER_BYTES + size:
                return
            frame = bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + size])
            del self._buffer[: HEADER_BYTES + size]
            self.channels.receive(frame)
            self._wake.set()

    def _lost(self, error: OSError | None) -> None:
        why = f": {error.strerror}" if error is not None else ""
        self.channels.cut("Disconnected", f"the other side has closed the connection{why}")
        self._wake.set()
