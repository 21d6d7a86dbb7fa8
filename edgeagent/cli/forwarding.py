"""Local TCP ports that lead into a pod: every connection is a channel of one stream.

May not know what carries the stream, nor how its pod was found.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.cli.console import READ_BYTES
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, ChannelClosedError, Channels, StreamEndedError
from edgeagent.wire.channels import MAX_CHANNELS
from edgeagent.wire.streamapi import PORT, PortChannel

LOCALHOST = "localhost"
AT_ONCE = MAX_CHANNELS - 2
"""Connections that are forwarded at a time; one more waits. Those that end take a moment to."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A local port, 0 for any that is free, and the pod's port that it leads to."""

    local: int
    remote: int


async def forward_ports(
    channels: Channels,
    ports: Sequence[Forwarded],
    addresses: Sequence[str],
    *,
    say: Callable[[str], None],
    complain: Callable[[str], None],
) -> None:
    """Listen on all ``addresses``, and forward until the stream ends: StreamEndedError.

    ``localhost`` stands for 127.0.0.1 and, where there is IPv6, ::1. PermanentError where a port cannot be
    listened on; then nothing is.
    """
    forwarder = _Forwarder(channels, say, complain)
    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            for listener in _listeners(port, addresses):
                stack.callback(listener.close)
                server = await asyncio.start_server(forwarder.serve(port, listener), sock=listener)
                stack.callback(server.close)
                host, number = listener.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                say(f"Forwarding from {shown}:{number} -> {port.remote}")
        stack.push_async_callback(forwarder.stop)
        raise await channels.ended()


def _listeners(port: Forwarded, addresses: Sequence[str]) -> list[socket.socket]:
    """A socket for each address; those of ``localhost`` have one port, and one of them is enough."""
    made: list[socket.socket] = []
    number = port.local
    try:
        for address in addresses:
            hosts = ["127.0.0.1", "::1"] if address == LOCALHOST else [address]
            failures: list[OSError] = []
            for host in hosts:
                try:
                    made.append(_listener(host, number))
                except OSError as error:
                    failures.append(error)
                    continue
                number = made[-1].getsockname()[1]
            if len(failures) == len(hosts):
                wanted = f"{address}:{port.local}"
                raise PermanentError(
                    f"unable to listen on {wanted}: {failures[0].strerror or failures[0]};"
                    f" give another local port, as in :{port.remote} for any that is free"
                ) from None
    except BaseException:
        for listener in made:
            listener.close()
        raise
    return made


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


class _Forwarder:
    def __init__(
        self, channels: Channels, say: Callable[[str], None], complain: Callable[[str], None]
    ) -> None:
        self._channels = channels
        self._say = say
        self._complain = complain
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, port: Forwarded, listener: socket.socket) -> _Serve:
        """What takes the connections to one listener."""
        number = listener.getsockname()[1]

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(number, port.remote, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return connected

    async def stop(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(
        self, local: int, remote: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with self._room:
                self._say(f"Handling connection for {local}")
                channel = await self._channels.open(PORT, canonical_json(PortChannel(port=remote)))
                try:
                    await _both_ways(channel, reader, writer)
                finally:
                    channel.close()
            writer.close()  # what is left to be sent is sent
        except StreamEndedError:
            pass  # whoever waits for the end of the stream says so
        except (EdgeAgentError, OSError) as error:
            self._complain(f"an error occurred forwarding {local} -> {remote}: {error}")
        finally:
            if not writer.is_closing():
                writer.transport.abort()


async def _both_ways(channel: Channel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until both sides have ended what they send, or one has gone."""
    there = asyncio.create_task(_to_pod(channel, reader))
    back = asyncio.create_task(_from_pod(channel, writer))
    gone = asyncio.create_task(channel.wait_closed())
    try:
        waiting: set[asyncio.Task[None]] = {there, back}
        while waiting:
            done, _ = await asyncio.wait({*waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            waiting -= done
            if gone.done():
                await back  # what was said before the end is still read
                return
    finally:
        tasks = (there, back, gone)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_pod(channel: Channel, reader: asyncio.StreamReader) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            await channel.write(data)
    except ChannelClosedError:
        return  # the pod takes no more; what it still says is read
    channel.end_writing()


async def _from_pod(channel: Channel, writer: asyncio.StreamWriter) -> None:
    while data := await channel.read():
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
