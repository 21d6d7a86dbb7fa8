"""Local ports that lead into a pod, with real sockets on this side and channels on the other."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.forwarding import AT_ONCE, Forwarded, forward_ports
from edgeagent.wire.channelio import Channel, Channels, StreamEndedError
from edgeagent.wire.streamapi import PORT, PortChannel
from tests.cli.channelpair import Pair, served
from tests.support.waiting import wait_for_async


class Pod:
    """What listens in the pod: port 7 echoes until the end of what it reads, 9 never says a word, 13 tells
    the time and hangs up, all others refuse.
    """

    def __init__(self) -> None:
        self.open = 0
        self.most = 0
        self.failed: list[Exception] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, channels: Channels) -> None:
        """What the node does."""
        try:
            while True:
                channel = await channels.accept()
                assert channel.kind == PORT
                port = decode_json(channel.value, PortChannel).port
                if port not in (7, 9, 13):
                    channel.refuse("ConnectionRefused", f"nobody listens on port {port} of the pod")
                    continue
                channel.accept()
                task = asyncio.create_task(self._connection(channel, port))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        finally:
            for task in self.tasks:
                task.cancel()

    async def _connection(self, channel: Channel, port: int) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if port == 7:
                while data := await channel.read():
                    await channel.write(data)
                channel.end_writing()
                await channel.wait_closed()
            elif port == 9:
                await channel.wait_closed()
            else:
                await channel.write(b"noon\n")
                channel.close()
        except StreamEndedError as over:
            self.failed.append(over)
        finally:
            self.open -= 1


class Forwarding:
    """``forward_ports`` under way, and what it said."""

    def __init__(self, pod: Pod, pair: Pair) -> None:
        self.pod, self.pair = pod, pair
        self.said: list[str] = []
        self.complaints: list[str] = []

    def port(self, remote: int) -> int:
        """The local port that leads to ``remote``."""
        [found] = [
            one for one in self.said if one.startswith("Forwarding from 127") and one.endswith(f" {remote}")
        ]
        return int(found.split()[2].rpartition(":")[2])


@contextlib.asynccontextmanager
async def forwarding(*remotes: int, address: str = "127.0.0.1") -> AsyncIterator[Forwarding]:
    pod = Pod()
    async with served(pod.serve) as pair:
        mine = Forwarding(pod, pair)
        running = asyncio.create_task(
            forward_ports(
                pair.mine, [Forwarded(0, remote) for remote in remotes], [address],
                say=mine.said.append, complain=mine.complaints.append,
            )
        )  # fmt: skip
        await wait_for_async(lambda: _true(len(mine.said) >= len(remotes)))
        try:
            yield mine
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _true(value: object) -> bool:
    return bool(value)


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


def test_bytes_go_both_ways_and_each_end_is_told() -> None:
    async def main() -> None:
        async with forwarding(7, 13) as it:
            reader, writer = await _connect(it.port(7))
            sent = bytes(range(256)) * 4096
            writer.write(sent)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 20) == sent
            writer.close()
            reader, writer = await _connect(it.port(13))
            assert await asyncio.wait_for(reader.read(), 20) == b"noon\n"
            writer.close()
            await wait_for_async(lambda: _true(it.pod.open == 0))
            assert it.said.count(f"Handling connection for {it.port(7)}") == 1
            assert it.complaints == []

    asyncio.run(main())


def test_whoever_goes_is_missed_on_the_other_side() -> None:
    async def main() -> None:
        async with forwarding(9) as it:
            _, writer = await _connect(it.port(9))
            await wait_for_async(lambda: _true(it.pod.open == 1))
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            await wait_for_async(lambda: _true(it.pod.open == 0))

    asyncio.run(main())


def test_a_port_that_nobody_listens_on_ends_the_connection_and_no_other() -> None:
    async def main() -> None:
        async with forwarding(80, 7) as it:
            reader, writer = await _connect(it.port(80))
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
            local = it.port(80)
            assert it.complaints == [
                f"an error occurred forwarding {local} -> 80: nobody listens on port 80 of the pod"
            ]
            reader, writer = await _connect(it.port(7))
            writer.write(b"still there")
            assert await asyncio.wait_for(reader.readexactly(11), 20) == b"still there"
            writer.close()

    asyncio.run(main())


def test_a_connection_that_does_not_read_holds_no_other_up_and_nothing_piles_up() -> None:
    async def main() -> None:
        async with forwarding(7) as it:
            _, stuck = await _connect(it.port(7))
            stuck.write(bytes(60_000_000))  # and its echo is never read
            reader, writer = await _connect(it.port(7))
            for _ in range(20):
                writer.write(b"ping")
                assert await asyncio.wait_for(reader.readexactly(4), 20) == b"ping"
            assert stuck.transport.get_write_buffer_size() > 1_000_000
            writer.close()
            stuck.transport.abort()

    asyncio.run(main())


def test_more_connections_than_there_are_channels_wait_for_their_turn() -> None:
    async def main() -> None:
        async with forwarding(7) as it:
            connections = [await _connect(it.port(7)) for _ in range(AT_ONCE + 5)]
            for _, writer in connections:
                writer.write(b"hello")
            await wait_for_async(lambda: _true(it.pod.open == AT_ONCE))
            for reader, writer in connections:
                assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
                writer.close()
            await wait_for_async(lambda: _true(it.pod.open == 0))
            assert it.pod.most == AT_ONCE
            assert it.complaints == []

    asyncio.run(main())


def test_the_end_of_the_stream_ends_everything() -> None:
    async def main() -> None:
        pod = Pod()
        async with served(pod.serve) as pair:
            said: list[str] = []
            running = asyncio.create_task(
                forward_ports(
                    pair.mine, [Forwarded(0, 9)], ["127.0.0.1"], say=said.append, complain=said.append
                )
            )
            await wait_for_async(lambda: _true(said))
            port = int(said[0].split()[2].rpartition(":")[2])
            reader, writer = await _connect(port)
            await wait_for_async(lambda: _true(pod.open == 1))
            pair.theirs.end("NotFound", "the pod is gone")
            with pytest.raises(StreamEndedError, match="the pod is gone"):
                await asyncio.wait_for(running, 20)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
            with pytest.raises(OSError, match="Connect call failed"):
                await _connect(port)

    asyncio.run(main())


def test_localhost_is_both_families_at_one_port() -> None:
    async def main() -> None:
        async with forwarding(7, address="localhost") as it:
            await wait_for_async(lambda: _true(len(it.said) == 2))
            local = it.port(7)
            assert it.said == [
                f"Forwarding from 127.0.0.1:{local} -> 7",
                f"Forwarding from [::1]:{local} -> 7",
            ]
            reader, writer = await asyncio.open_connection("::1", local)
            writer.write(b"six")
            assert await asyncio.wait_for(reader.readexactly(3), 20) == b"six"
            writer.close()

    asyncio.run(main())


def test_a_port_in_use_is_told_with_what_to_do_and_nothing_is_left_listening() -> None:
    async def main() -> None:
        pod = Pod()
        async with served(pod.serve) as pair:
            with socket.socket() as taken, socket.socket() as free:
                for one in (taken, free):
                    one.bind(("127.0.0.1", 0))
                taken.listen()
                number, other = taken.getsockname()[1], free.getsockname()[1]
                free.close()
                said: list[str] = []
                with pytest.raises(PermanentError, match=f"127.0.0.1:{number}: Address already in use.*:80"):
                    await forward_ports(
                        pair.mine, [Forwarded(other, 7), Forwarded(number, 80)], ["127.0.0.1"],
                        say=said.append, complain=said.append,
                    )  # fmt: skip
                with pytest.raises(OSError, match="Connect call failed"):
                    await _connect(other)

    asyncio.run(main())
