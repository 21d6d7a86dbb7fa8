"""A broker that somebody else owns: between a node and the real one, it passes on what its owner likes.

It has the real broker's certificate. What a node sends and gets goes through a ``Behaviour``, which may be
another from one connection to the next; ``Behaviour`` itself is honest. Enough MQTT 5 to serve paho.
"""

import asyncio
import contextlib
import os
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tests.support.proc import free_port
from tests.wire.sessions import CONNACK_5, remaining

PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ = 3, 8, 10, 12


@dataclass(frozen=True, slots=True)
class Packet:
    """One MQTT packet: the first byte, and what comes after the length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The packet's type."""
        return self.first >> 4

    @property
    def raw(self) -> bytes:
        """As it is sent."""
        return bytes([self.first]) + remaining(len(self.body)) + self.body

    def _cut(self) -> tuple[int, int]:
        """Of a PUBLISH: where the topic ends, and where the payload begins."""
        (length,) = struct.unpack_from("!H", self.body)
        at = 2 + length + (2 if self.first & 6 else 0)
        size = shift = 0
        while True:
            byte = self.body[at]
            at, size, shift = at + 1, size | (byte & 127) << shift, shift + 7
            if byte < 128:
                return 2 + length, at + size

    @property
    def topic(self) -> str:
        """Of a PUBLISH; empty for others."""
        return self.body[2 : self._cut()[0]].decode() if self.kind == PUBLISH else ""

    @property
    def payload(self) -> bytes:
        """Of a PUBLISH."""
        return self.body[self._cut()[1] :]

    def with_payload(self, payload: bytes) -> "Packet":
        """The same PUBLISH with other content."""
        return replace(self, body=self.body[: self._cut()[1]] + payload)

    def once(self) -> "Packet":
        """The same PUBLISH as QoS 0, which may be sent at any time and as often as one likes."""
        end, begin = self._cut()
        properties = self.body[end + (2 if self.first & 6 else 0) : begin]
        return Packet(self.first & ~0x0E, self.body[:end] + properties + self.payload)


def publish(topic: str | bytes, payload: bytes, *, properties: bytes = b"", first: int = 0x31) -> Packet:
    """A PUBLISH of QoS 0, retained."""
    name = topic if isinstance(topic, bytes) else topic.encode()
    return Packet(
        first, struct.pack("!H", len(name)) + name + remaining(len(properties)) + properties + payload
    )


class Peer:
    """One connection of a node's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def packet(self) -> Packet:
        """The next packet; IncompleteReadError where the other side hung up."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return Packet(first, await self._reader.readexactly(length))

    async def send(self, data: bytes) -> None:
        """Raw bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def acknowledge(self) -> None:
        """Take all that comes, until the other side is gone, and answer as any broker would."""
        while True:
            packet = await self.packet()
            if packet.kind == PUBLISH and packet.first & 6:
                (length,) = struct.unpack_from("!H", packet.body)
                await self.send(b"\x40\x02" + packet.body[2 + length : 4 + length])
            elif packet.kind in (SUBSCRIBE, UNSUBSCRIBE):
                count = _filters(packet)
                answer = packet.body[:2] + b"\0" + (b"\1" if packet.kind == SUBSCRIBE else b"\0") * count
                await self.send(bytes([0x90 if packet.kind == SUBSCRIBE else 0xB0, len(answer)]) + answer)
            elif packet.kind == PINGREQ:
                await self.send(b"\xd0\x00")


def _filters(packet: Packet) -> int:
    at, count = 3 + packet.body[2], 0
    while at < len(packet.body):
        (length,) = struct.unpack_from("!H", packet.body, at)
        at += 2 + length + (1 if packet.kind == SUBSCRIBE else 0)
        count += 1
    return count


class Behaviour:
    """Honest. ``rounds`` counts what a test waits for: whatever the behaviour did to the node."""

    def __init__(self) -> None:
        self.rounds = 0

    async def serve(self, peer: Peer, upstream: Callable[[], "asyncio.Future[Peer]"]) -> None:
        """A connection from its CONNECT on."""
        real = await upstream()
        await _first(self._up(peer, real), self._down(peer, real))

    async def _up(self, peer: Peer, real: Peer) -> None:
        while True:
            await real.send((await peer.packet()).raw)

    async def _down(self, peer: Peer, real: Peer) -> None:
        while True:
            for packet in self.towards_node(await real.packet()):
                await peer.send(packet.raw)

    def towards_node(self, packet: Packet) -> Iterable[Packet]:
        """What the node gets in place of a packet of the real broker's."""
        return [packet]


class Edited(Behaviour):
    """Each message for which ``change`` has something else to say is changed."""

    def __init__(self, change: Callable[[Packet], Iterable[Packet] | None]) -> None:
        super().__init__()
        self._change = change

    def towards_node(self, packet: Packet) -> Iterable[Packet]:
        """PUBLISH alone is looked at: the session itself stays whole."""
        changed = self._change(packet) if packet.kind == PUBLISH else None
        if changed is None:
            return [packet]
        self.rounds += 1
        return changed


class Reordered(Behaviour):
    """Messages come the last first, in handfuls."""

    _HANDFUL = 6
    _SECONDS = 0.3

    async def _down(self, peer: Peer, real: Peer) -> None:
        held: list[Packet] = []
        pending = asyncio.ensure_future(real.packet())
        try:
            while True:
                done, _ = await asyncio.wait([pending], timeout=self._SECONDS)
                if done:
                    packet = pending.result()
                    pending = asyncio.ensure_future(real.packet())
                    if packet.kind != PUBLISH:
                        await peer.send(packet.raw)
                        continue
                    held.append(packet)
                if held and (not done or len(held) >= self._HANDFUL):
                    self.rounds += len(held) > 1
                    for packet in reversed(held):
                        await peer.send(packet.raw)
                    held = []
        finally:
            pending.cancel()


class Saying(Behaviour):
    """No broker at all behind it: accepts each connection and says ``texts`` in turn, one a connection.

    ``connack`` comes before it. ``pace``: seconds between two bytes. ``repeat``: how often a text is said.
    """

    def __init__(
        self,
        texts: Sequence[bytes],
        *,
        connack: bytes = CONNACK_5,
        pace: float = 0.0,
        repeat: int = 1,
    ) -> None:
        super().__init__()
        self._texts = texts
        self._connack = connack
        self._pace = pace
        self._repeat = repeat
        self._position = 0

    async def serve(self, peer: Peer, upstream: Callable[[], "asyncio.Future[Peer]"]) -> None:
        """Until the node hangs up."""
        text = self._texts[self._position % len(self._texts)]
        self._position += 1
        await peer.packet()  # CONNECT
        await _first(peer.acknowledge(), self._say(peer, text))

    async def _say(self, peer: Peer, text: bytes) -> None:
        await peer.send(self._connack)
        for _ in range(self._repeat):
            if self._pace:
                for byte in text:
                    await peer.send(bytes([byte]))
                    self.rounds += 1
                    await asyncio.sleep(self._pace)
            else:
                await peer.send(text)
                self.rounds += 1
        await asyncio.Event().wait()


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Until one of them has ended; its error is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class HostileBroker:
    """A thread that listens on ``port``. ``files`` is the hub's folder, ``real`` the real broker's port."""

    def __init__(self, files: Path, real: int) -> None:
        self.port = free_port()
        self.connections = 0
        self._real = real
        self._server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_tls.load_cert_chain(files / "broker.crt", files / "broker.key")
        self._client_tls = ssl.create_default_context(cafile=str(files / "ca.crt"))
        self._client_tls.load_cert_chain(files / "hub.crt", files / "hub.key")
        self._behaviour = Behaviour()
        self._failures: list[BaseException] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)
        self._loop.close()
        assert not self._failures, self._failures

    def behave(self, behaviour: Behaviour) -> Behaviour:
        """From now on so, also towards those who are connected: they must connect anew."""

        def change() -> None:
            self._behaviour = behaviour
            for task in self._serving:
                task.cancel()

        self._loop.call_soon_threadsafe(change)
        return behaviour

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._server_tls)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        opened = [writer]

        async def upstream() -> Peer:
            real_reader, real_writer = await asyncio.open_connection(
                "127.0.0.1", self._real, ssl=self._client_tls
            )
            opened.append(real_writer)
            return Peer(real_reader, real_writer)

        try:
            await self._behaviour.serve(Peer(reader, writer), lambda: asyncio.ensure_future(upstream()))
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the connection has ended, on either side
        except BaseException as error:
            self._failures.append(error)
        finally:
            self._serving.discard(task)
            for one in opened:
                one.transport.abort()


class Memory:
    """What a process holds in memory, in bytes, and the most that it held since ``reset``."""

    def __init__(self, process: int) -> None:
        self._status = Path(f"/proc/{process}/status")
        self._references = Path(f"/proc/{process}/clear_refs")

    def reset(self) -> None:
        """The most begins anew: proc(5), ``clear_refs``."""
        with contextlib.suppress(OSError), open(os.open(self._references, os.O_WRONLY), "w") as file:
            file.write("5")

    def _read(self, name: str) -> int:
        line = next(one for one in self._status.read_text().splitlines() if one.startswith(name))
        return int(line.split()[1]) * 1024

    @property
    def now(self) -> int:
        """The resident set."""
        return self._read("VmRSS:")

    @property
    def most(self) -> int:
        """The largest that it was."""
        return self._read("VmHWM:")
