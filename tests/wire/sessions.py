"""A session that records what it is told, and a broker in a few lines that does what no real one would."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from edgeagent.api.clock import SystemClock
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig, Will
from tests.support.waiting import wait_for_async

CONNACK_5 = bytes([0x20, 3, 0, 0, 0])
CONNACK_3 = bytes([0x20, 2, 0, 0])
CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


def here(port: int, *, tls: bool = False, host: str = "127.0.0.1") -> BrokerAddress:
    return BrokerAddress(host=host, port=port, tls=tls)


class Recorder:
    """A session with tiny delays, and everything it has said."""

    def __init__(self, *addresses: BrokerAddress, will: Will | None = None, **config: Any) -> None:
        self.messages: list[Message] = []
        self.connections: list[Connection] = []
        self.reasons: list[str] = []
        self.session = MqttSession(
            SessionConfig(
                **{
                    "addresses": list(addresses),
                    "client_id": "client",
                    "reconnect_first": 0.01,
                    "reconnect_ceiling": 0.05,
                    **config,
                }
            ),
            clock=SystemClock(),
            rng=random.Random(1),
            on_message=self.messages.append,
            on_connect=self.connections.append,
            on_disconnect=self.reasons.append,
            will=lambda: will,
        )

    async def connected(self, times: int = 1) -> Connection:
        """Wait for the ``times``-th connection."""
        await wait_for_async(
            lambda: len(self.connections) >= times and self.session.connection,
            what=f"connection number {times}; reasons so far: {self.reasons}",
        )
        return self.connections[-1]

    async def reason(self, number: int = 1) -> str:
        """The reason why the connection was lost, or not made, for the ``number``-th time."""
        await wait_for_async(lambda: len(self.reasons) >= number, what="a disconnection")
        return self.reasons[number - 1]

    async def message(self, number: int = 1) -> Message:
        """The ``number``-th message."""
        await wait_for_async(lambda: len(self.messages) >= number, what=f"message {number}")
        return self.messages[number - 1]


@contextlib.asynccontextmanager
async def running(*recorders: Recorder) -> AsyncIterator[None]:
    """Run sessions; all of them are stopped, and have ended, at the end."""
    tasks = [asyncio.create_task(recorder.session.run()) for recorder in recorders]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


class Wire:
    """The broker's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def packet(self) -> tuple[int, bytes]:
        """The next packet's type and body; IncompleteReadError where the client hung up."""
        head = await self.reader.readexactly(1)
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return head[0] >> 4, await self.reader.readexactly(length)

    async def expect(self, kind: int) -> bytes:
        """The body of the next packet, which must be of this type."""
        found, body = await self.packet()
        assert found == kind, found
        return body

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


def publish(topic: str, payload: bytes = b"") -> bytes:
    """A PUBLISH packet of MQTT 5, QoS 0."""
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + b"\x00" + payload
    return b"\x30" + remaining(len(body)) + body


def remaining(length: int) -> bytes:
    """MQTT's variable length."""
    out = bytearray()
    while True:
        length, byte = divmod(length, 128)
        out.append(byte | (128 if length else 0))
        if not length:
            return bytes(out)


class Scripted:
    """A TCP server that plays ``script`` on each connection; ``seen`` counts connections."""

    def __init__(self, script: Callable[[Wire], Awaitable[None]]) -> None:
        self._script = script
        self.seen = 0
        self.failure: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> "Scripted":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self.failure is not None:
            raise self.failure

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._script(Wire(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
