"""The unix socket as a door for streams: what opens one, what does not, and how each of them ends."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.node import NodeStatus
from edgeagent.cli.localclient import LocalError
from edgeagent.cli.localstreams import open_local_stream
from edgeagent.node.localapi import LocalApi
from edgeagent.node.localstreams import AT_ONCE, MAX_BODY_BYTES
from edgeagent.node.reads import NodeReads
from edgeagent.node.streams.service import Serve, StreamRequest
from edgeagent.wire.channelio import Channel, Channels, StreamEndedError
from edgeagent.wire.streamapi import ExecPrivate, StreamParams
from tests.node.usagekit import usage_reads
from tests.support.waiting import wait_for_async


class Echo:
    """Sends back what comes, in every channel; ``open_now`` streams are being served."""

    def __init__(self) -> None:
        self.open_now = 0
        self.private: list[bytes] = []

    async def open(self, request: StreamRequest) -> Serve:
        """What the pod's name asks for."""
        self.private.append(request.private)
        name = decode_json(bytes(request.params), StreamParams).pod
        if name == "absent":
            raise PermanentError('pods "absent" not found', reason="NotFound")
        if name == "bug":
            raise KeyError("bug")
        return partial(self._serve, name)

    async def _serve(self, name: str, channels: Channels) -> None:
        self.open_now += 1
        try:
            if name == "failing":
                raise PermanentError("it broke", reason="Conflict")
            while True:
                channel = await channels.accept()
                channel.accept()
                while data := await channel.read():
                    await channel.write(data)
                channel.end_writing()
                if name == "once":
                    return
        finally:
            self.open_now -= 1


class Door:
    """A node's socket with an echo behind it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "api.sock"
        self.echo = Echo()
        reads = NodeReads(name="n1", pods=None, status=NodeStatus, usage=usage_reads())
        self.api = LocalApi(self.path, reads, {"echo": self.echo}, dict)

    async def post(self, path: str, head: str = "", body: bytes = b"") -> tuple[int, str]:
        """A request by hand: the status and what it says."""
        return await asyncio.to_thread(self._post, path, head, body)

    def _post(self, path: str, head: str, body: bytes) -> tuple[int, str]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: node\r\n{head}\r\n".encode() + body)
            answer = b""
            while data := connection.recv(65_536):
                answer += data
                if b"\r\n\r\n" in answer and answer.rstrip().endswith(b"}"):
                    break
        said, _, rest = answer.partition(b"\r\n\r\n")
        return int(said.split()[1]), str(json.loads(rest)["message"])


@asynccontextmanager
async def opened(door: Door, pod: str = "web") -> AsyncIterator[Channels]:
    """A stream of the echo."""
    async with open_local_stream(
        door.path, "echo", StreamParams(namespace="shop", pod=pod), ExecPrivate(command=["a"])
    ) as channels:
        yield channels


def with_door(directory: Path, scenario: Callable[[Door], Awaitable[None]]) -> None:
    async def main() -> None:
        door = Door(directory)
        door.api.start()
        try:
            async with asyncio.timeout(30):
                await scenario(door)
        finally:
            await door.api.stop()
        assert door.echo.open_now == 0

    asyncio.run(main())


async def echoed(channel: Channel, data: bytes) -> bytes:
    """What comes back."""
    writing = asyncio.ensure_future(channel.write(data))
    found = bytearray()
    while len(found) < len(data):
        found += await channel.read()
    await writing
    return bytes(found)


def test_a_stream_and_its_good_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(door: Door) -> None:
        async with opened(door, "once") as channels:
            channel = await channels.open("anything")
            data = bytes(range(256)) * 2000
            assert await echoed(channel, data) == data
            channel.end_writing()
            assert await channel.read() == b""
            assert (await channels.ended()).reason == ""
        assert decode_json(door.echo.private[0], ExecPrivate) == ExecPrivate(command=["a"])

    caplog.set_level("INFO")
    with_door(tmp_path, scenario)
    assert "of user 0 opens echo in shop/once" in caplog.text
    assert "local: echo in shop/once has ended" in caplog.text


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        ("absent", "NotFound", 'pods "absent" not found'),
        ("bug", "InternalError", "KeyError; see the agent's log"),
    ],
)
def test_a_service_that_opens_nothing(tmp_path: Path, pod: str, reason: str, words: str) -> None:
    async def scenario(door: Door) -> None:
        with pytest.raises(LocalError, match=words) as caught:
            async with opened(door, pod):
                pytest.fail("it is open")
        assert caught.value.reason == reason

    with_door(tmp_path, scenario)


def test_a_service_that_fails_later_says_why(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        async with opened(door, "failing") as channels:
            over = await channels.ended()
            assert (over.reason, str(over)) == ("Conflict", "it broke")

    with_door(tmp_path, scenario)


def test_who_leaves_ends_the_service(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        async with opened(door) as channels:
            await channels.open("anything")
            assert door.echo.open_now == 1
        await wait_for_async(lambda: door.echo.open_now == 0, what="the end of the service")

    with_door(tmp_path, scenario)


def test_who_goes_without_a_word_ends_the_service_too(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        stack = AsyncExitStack()
        channels = await stack.enter_async_context(opened(door))
        await channels.open("anything")
        channels.cut("Test", "as if the program were killed")
        await wait_for_async(lambda: door.echo.open_now == 0, what="the end of the service")
        await stack.aclose()

    with_door(tmp_path, scenario)


def test_an_agent_that_stops_says_so(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        async with opened(door) as channels:
            channel = await channels.open("anything")
            await door.api.stop()
            with pytest.raises(StreamEndedError, match="the agent stops") as caught:
                await channel.read()
            assert caught.value.reason == "ServiceUnavailable"
            assert door.echo.open_now == 0

    with_door(tmp_path, scenario)


def test_no_more_streams_than_the_agent_can_bear_and_reads_go_on(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(AT_ONCE):
                await stack.enter_async_context(opened(door))
            await wait_for_async(lambda: door.echo.open_now == AT_ONCE, what="all of them")
            with pytest.raises(LocalError, match=f"{AT_ONCE} streams are open already") as caught:
                async with opened(door):
                    pytest.fail("it is open")
            assert caught.value.reason == "TooManyRequests"
            status, _ = await door.post("/api/v1/pods", "Content-Length: 0\r\n")
            assert status == 405, "whoever asks is answered"
        await wait_for_async(lambda: door.echo.open_now == 0, what="all to end")
        async with opened(door) as channels:
            assert await echoed(await channels.open("anything"), b"again") == b"again"

    with_door(tmp_path, scenario)


UPGRADE = "Connection: Upgrade\r\nUpgrade: edgeagent-channels\r\n"


@pytest.mark.parametrize(
    ("path", "head", "body", "status", "words"),
    [
        ("/edge/v1/streams/echo", "Content-Length: 2\r\n", b"{}", 426, "needs Upgrade"),
        ("/edge/v1/streams/echo", "Content-Length: 2\r\nUpgrade: websocket\r\n", b"{}", 426, "needs Upgrade"),
        ("/edge/v1/streams/echo", UPGRADE, b"", 411, "Content-Length"),
        ("/edge/v1/streams/echo", UPGRADE + "Content-Length: -5\r\n", b"", 411, "Content-Length"),
        ("/edge/v1/streams/echo", UPGRADE + f"Content-Length: {MAX_BODY_BYTES + 1}\r\n", b"", 413, "bytes"),
        ("/edge/v1/streams/echo", UPGRADE + "Content-Length: 2\r\n", b"[]", 400, "expected"),
        ("/edge/v1/streams/echo", UPGRADE + "Content-Length: 2\r\n", b"{}", 400, "required field is missing"),
        (
            "/edge/v1/streams/sing",
            UPGRADE + "Content-Length: 13\r\n",
            b'{"params":{}}',
            404,
            "no stream 'sing'",
        ),
        ("/edge/v1/streams/a/b", UPGRADE + "Content-Length: 2\r\n", b"{}", 404, "no such path"),
        ("/api/v1/pods", UPGRADE + "Content-Length: 2\r\n", b"{}", 405, "can be posted to"),
    ],
)
def test_what_opens_no_stream(
    tmp_path: Path, path: str, head: str, body: bytes, status: int, words: str
) -> None:
    async def scenario(door: Door) -> None:
        code, said = await door.post(path, head, body)
        assert code == status
        assert words in said

    with_door(tmp_path, scenario)


def test_noise_after_the_upgrade_ends_that_stream_alone(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        async with opened(door) as other:
            body = b'{"params":{"namespace":"shop","pod":"web"}}'
            head = f"POST /edge/v1/streams/echo HTTP/1.1\r\n{UPGRADE}Content-Length: {len(body)}\r\n\r\n"

            def noise() -> bytes:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(10)
                    connection.connect(str(door.path))
                    connection.sendall(head.encode() + body)
                    said = b""
                    while b"\r\n\r\n" not in said:
                        said += connection.recv(65_536)
                    assert said.startswith(b"HTTP/1.1 101 ")
                    connection.sendall(b"\xff" * 100)
                    while data := connection.recv(65_536):
                        said += data
                    return said

            assert b"ProtocolError" in await asyncio.to_thread(noise)
            assert await echoed(await other.open("anything"), b"well") == b"well"

    with_door(tmp_path, scenario)
