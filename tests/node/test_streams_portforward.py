"""Ports of a pod: both ways, half closed, given up; nothing is left of a connection that ended."""

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import msgspec
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.streams.portforward import READ_BYTES, PortForwardService
from edgeagent.node.streams.service import StreamRequest, run_stream
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, ChannelClosedError, Channels
from edgeagent.wire.channels import OUT_BYTES, WINDOW_BYTES
from edgeagent.wire.streamapi import PortChannel, PortForwardParams
from tests.support.waiting import wait_for_async

POD = Pod(
    api_version="v1", metadata=ObjectMeta(name="web", namespace="d", uid="u"), spec=PodSpec(containers=[])
)


class Pods:
    """The part of a PodManager that is needed: one pod, whose process is this one."""

    def __init__(self) -> None:
        self.state: Any = "running"
        self.is_wanted = True
        self.news = self
        self.changed = asyncio.Event()

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod."""
        return POD if (namespace, name) == ("d", "web") else None

    def containers_of(self, uid: str) -> list[ContainerRecord]:
        """A container that is the process of this test."""
        return [ContainerRecord(id="c", name="c", image="i", labels={}, state=self.state, pid=os.getpid())]

    def wanted(self, uid: str) -> Pod | None:
        """Unless it was deleted."""
        return POD if self.is_wanted else None

    def phase(self, uid: str) -> str:
        """As long as it runs."""
        return "Running"

    @contextlib.contextmanager
    def of(self, uid: str) -> Iterator[asyncio.Event]:
        """One event for all."""
        yield self.changed


class Direct:
    """Both sides of a stream, frame by frame from one to the other."""

    def __init__(self) -> None:
        self.client = Channels(client=True, on_frames=lambda: self._later(self._to_node))
        self.node = Channels(client=False, on_frames=lambda: self._later(self._to_client))

    def _later(self, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(work)

    def _to_node(self) -> None:
        while (frame := self.client.next_frame()) is not None:
            self.node.receive(frame)

    def _to_client(self) -> None:
        while (frame := self.node.next_frame()) is not None:
            self.client.receive(frame)


@contextlib.asynccontextmanager
async def forwarded(pods: Pods) -> AsyncIterator[Channels]:
    """A stream to the pod."""
    service = PortForwardService(cast(PodManager, pods))
    params = canonical_json(PortForwardParams(namespace="d", pod="web"))
    serve = await service.open(StreamRequest(msgspec.Raw(params)))
    direct = Direct()
    serving = asyncio.create_task(run_stream(serve, direct.node))
    yield direct.client
    direct.client.end()
    await asyncio.wait_for(serving, 10)


async def port(channels: Channels, number: int) -> Channel:
    return await channels.open("port", canonical_json(PortChannel(port=number)))


class Server:
    """Listens; each connection is handled by ``handle`` and counted while it is open."""

    def __init__(
        self, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        self._handle = handle
        self.ended = asyncio.Event()

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handle(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()
            self.ended.set()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(within())


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer once all was heard."""
    writer.write((await reader.read()).upper())
    await writer.drain()


async def wait_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing, until the other side hangs up entirely."""
    with contextlib.suppress(ConnectionError):
        while True:
            await reader.read(10)
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)


def test_half_a_close_is_half_a_close_and_much_arrives_whole() -> None:
    async def work() -> None:
        async with Server(shout) as number, forwarded(Pods()) as channels:
            channel = await port(channels, number)
            text = b"abcdefgh" * 100_000
            writing = asyncio.create_task(channel.write(text))
            await writing
            channel.end_writing()
            came = b""
            while data := await channel.read():
                came += data
            assert came == text.upper()

    run(work)


def test_an_answer_before_the_question_has_ended_arrives() -> None:
    """As of a web server that refuses a large upload: it answers, and takes no more."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        connection = writer.get_extra_info("socket")
        await wait_for_async(lambda: not writer.transport.get_write_buffer_size() and not unsent(connection))
        # With bytes unread, its end is a reset.

    def unsent(connection: socket.socket) -> int:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    # More than the channel takes before somebody reads it: the rest is in the kernel when the reset comes.
    answer = b"413 " + bytes(WINDOW_BYTES + OUT_BYTES + 2 * READ_BYTES)

    async def work() -> None:
        server = Server(refuse)
        async with server as number, forwarded(Pods()) as channels:
            channel = await port(channels, number)

            async def upload() -> None:
                with contextlib.suppress(ChannelClosedError):
                    while True:
                        await channel.write(bytes(16_000))

            uploading = asyncio.create_task(upload())
            await server.ended.wait()
            came = b""
            while data := await channel.read():
                came += data
            assert came == answer
            await channel.wait_closed()
            await uploading

    run(work)


def test_who_gives_a_connection_up_has_it_closed_though_the_pod_would_not() -> None:
    async def work() -> None:
        server = Server(wait_for_ever)
        before = len(os.listdir("/proc/self/fd"))
        async with server as number, forwarded(Pods()) as channels:
            channel = await port(channels, number)
            channel.end_writing()
            assert await channel.read()
            channel.close()
            await server.ended.wait()
        assert len(os.listdir("/proc/self/fd")) <= before + 1

    run(work)


def test_the_end_of_the_stream_closes_its_connections() -> None:
    async def work() -> None:
        server = Server(wait_for_ever)
        async with server as number:
            async with forwarded(Pods()) as channels:
                channel = await port(channels, number)
                await channel.write(b"hello")
                assert await channel.read()
            await server.ended.wait()

    run(work)


def test_a_pod_that_is_deleted_ends_the_stream() -> None:
    async def work() -> None:
        pods = Pods()
        async with forwarded(pods) as channels:
            pods.is_wanted = False
            pods.changed.set()
            over = await channels.ended()
            assert over.reason == "NotFound"

    run(work)


def test_a_pod_between_two_runs_refuses_and_the_stream_goes_on() -> None:
    async def work() -> None:
        pods = Pods()
        async with Server(shout) as number, forwarded(pods) as channels:
            pods.state = "exited"
            with pytest.raises(PermanentError, match="no container of the pod is running"):
                await port(channels, number)
            pods.state = "running"
            channel = await port(channels, number)
            await channel.write(b"hello")
            channel.end_writing()
            assert await channel.read() == b"HELLO"
        with pytest.raises(PermanentError, match="not found"):
            await PortForwardService(None).open(
                StreamRequest(msgspec.Raw(canonical_json(PortForwardParams(namespace="d", pod="web"))))
            )

    run(work)
