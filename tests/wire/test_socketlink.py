"""Channels over a real socket: bytes both ways, a reader who is slow, ends, cuts, and what is no frame."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from edgeagent.wire.channelframes import MAX_FRAME_BYTES
from edgeagent.wire.channelio import Channel, Channels, StreamEndedError
from edgeagent.wire.channels import OUT_BYTES, WINDOW_BYTES
from edgeagent.wire.socketlink import HEADER_BYTES, SocketLink


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(main())


@asynccontextmanager
async def links() -> AsyncIterator[tuple[Channels, Channels, list["asyncio.Task[None]"]]]:
    """Both sides, and what runs them; both have ended when the block has."""
    ours, theirs = socket.socketpair()
    client, server = SocketLink(ours, client=True), SocketLink(theirs, client=False)
    tasks = [asyncio.ensure_future(link.run()) for link in (client, server)]
    try:
        yield client.channels, server.channels, tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (ours.fileno(), theirs.fileno()) == (-1, -1), "closed"


async def pair(client: Channels, server: Channels) -> tuple[Channel, Channel]:
    """A channel, from both sides."""
    opening = asyncio.ensure_future(client.open("echo"))
    offered = await server.accept()
    offered.accept()
    return await opening, offered


async def read_all(channel: Channel) -> bytes:
    """To the end."""
    found = bytearray()
    while data := await channel.read():
        found += data
    return bytes(found)


def test_megabytes_both_ways() -> None:
    async def scenario() -> None:
        async with links() as (client, server, tasks):
            mine, theirs = await pair(client, server)
            sent = os.urandom(3_000_000)

            async def send(channel: Channel) -> None:
                await channel.write(sent)
                channel.end_writing()

            sending = [asyncio.ensure_future(send(channel)) for channel in (mine, theirs)]
            assert list(await asyncio.gather(read_all(mine), read_all(theirs))) == [sent, sent]
            await asyncio.gather(*sending)
            await client.finish()
            await asyncio.gather(*tasks)
            over = server.over
            assert over is not None
            assert over.reason == ""

    run(scenario)


def test_a_reader_who_does_not_read_holds_up_its_own_channel_alone() -> None:
    async def scenario() -> None:
        async with links() as (client, server, _):
            slow, unread = await pair(client, server)
            quick, read = await pair(client, server)
            writing = asyncio.ensure_future(slow.write(bytes(1_000_000)))
            # It is read whole although the other is full.
            reading = asyncio.ensure_future(read_all(read))
            await quick.write(b"x" * 500_000)
            quick.end_writing()
            assert len(await reading) == 500_000
            assert not writing.done()
            held = sum(map(len, unread._unread))
            assert held <= WINDOW_BYTES
            assert client.mux.room(slow._number) == 0, f"and no more than {OUT_BYTES} wait on this side"
            writing.cancel()

    run(scenario)


def test_a_reason_reaches_the_other_side_and_both_links_end() -> None:
    async def scenario() -> None:
        async with links() as (client, server, tasks):
            mine, _ = await pair(client, server)
            server.end("Forbidden", "no more")
            with pytest.raises(StreamEndedError, match="no more") as caught:
                await mine.read()
            assert caught.value.reason == "Forbidden"
            await asyncio.gather(*tasks)

    run(scenario)


def test_the_other_side_goes_without_a_word() -> None:
    async def scenario() -> None:
        async with links() as (client, server, tasks):
            mine, _ = await pair(client, server)
            tasks[1].cancel()
            with pytest.raises(StreamEndedError) as caught:
                await mine.read()
            assert caught.value.reason == "Disconnected"
            await tasks[0]
            assert client.is_cut

    run(scenario)


@pytest.mark.parametrize(
    "noise",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(HEADER_BYTES, "big"),
        (3).to_bytes(HEADER_BYTES, "big") + b"\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_frame_ends_the_stream(noise: bytes) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        link = SocketLink(theirs, client=False)
        with ours:
            ours.setblocking(False)
            running = asyncio.ensure_future(link.run())
            await asyncio.get_running_loop().sock_sendall(ours, noise)
            assert (await link.channels.ended()).reason == "ProtocolError"
            await running
            said = await asyncio.get_running_loop().sock_recv(ours, 65_536)
            assert b"ProtocolError" in said

    run(scenario)


def test_bytes_that_came_with_the_handshake_count() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        other, _unused = socket.socketpair()
        first = SocketLink(other, client=True)
        opening = asyncio.ensure_future(first.channels.open("echo"))
        await asyncio.sleep(0)
        frame = first.channels.next_frame()
        assert frame is not None
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        other.close()
        _unused.close()
        received = len(frame).to_bytes(HEADER_BYTES, "big") + frame
        link = SocketLink(theirs, client=False, received=received)
        with ours:
            running = asyncio.ensure_future(link.run())
            assert (await link.channels.accept()).kind == "echo"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(scenario)


def test_a_good_end_stays_one_though_something_was_to_be_said_still() -> None:
    """The other side has said its end and closed the socket; what is written then meets a broken pipe."""

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        server = SocketLink(theirs, client=False)
        serving = asyncio.ensure_future(server.run())
        server.channels.end()
        await serving
        client = SocketLink(ours, client=True)
        opening = asyncio.ensure_future(client.channels.open("echo"))
        await asyncio.sleep(0)
        await client.run()
        with pytest.raises(StreamEndedError):
            await opening
        over = client.channels.over
        assert over is not None
        assert over.reason == "", str(over)

    run(scenario)
