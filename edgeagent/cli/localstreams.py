"""Streams from a technician's program to a pod of this machine, through the agent's unix socket.

    async with open_local_stream(path, EXEC, ExecParams(…), ExecPrivate(…)) as channels: …

The same channels as over the broker (``edgeagent.cli.hubstreams``), and the same commands work with them.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from http.client import HTTPException, parse_headers
from io import BytesIO
from pathlib import Path

import msgspec

from edgeagent.cli.localclient import TIMEOUT_SECONDS, failure_of, unreachable
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channels
from edgeagent.wire.socketlink import UPGRADE, SocketLink
from edgeagent.wire.streamapi import StreamParams

GOODBYE_SECONDS = 3.0
"""How long the end of a stream may take to arrive, once this side does not want it any more."""
_MAX_HEAD_BYTES = 65_536
_MAX_FAILURE_BYTES = 1_000_000
_END_OF_HEAD = b"\r\n\r\n"


@contextlib.asynccontextmanager
async def open_local_stream(
    path: Path, method: str, params: StreamParams, private: msgspec.Struct | None = None
) -> AsyncIterator[Channels]:
    """The channels of a stream of ``method`` (``edgeagent.wire.streamapi``) of the agent at ``path``.

    LocalError where nothing was opened. Left early, it ends the stream.
    """
    body = canonical_json({"params": params, "private": private if private is not None else {}})
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            received = await _upgraded(path, connection, f"/edge/v1/streams/{method}", body)
    except (OSError, TimeoutError, HTTPException, ValueError) as error:
        connection.close()
        raise unreachable(path, error) from None
    except BaseException:
        connection.close()
        raise
    link = SocketLink(connection, client=True, received=received)
    running = asyncio.create_task(link.run())
    try:
        yield link.channels
    finally:
        link.channels.end("ClientClosed", "the program has ended the stream")
        await asyncio.wait({running}, timeout=GOODBYE_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _upgraded(path: Path, connection: socket.socket, url: str, body: bytes) -> bytes:
    """Ask for the stream; what came after the answer that grants it."""
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, str(path))
    head = (
        f"POST {url} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    await loop.sock_sendall(connection, head.encode("ascii") + body)
    answer = b""
    while _END_OF_HEAD not in answer:
        answer += await _more(connection, len(answer), _MAX_HEAD_BYTES)
    said, _, rest = answer.partition(_END_OF_HEAD)
    first, _, fields = said.partition(b"\r\n")
    words = first.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise HTTPException("its answer is not HTTP")
    status = int(words[1])
    if status == 101:
        return rest
    length = int(parse_headers(BytesIO(fields + _END_OF_HEAD)).get("Content-Length", "0"))
    while len(rest) < length:
        rest += await _more(connection, len(rest), _MAX_FAILURE_BYTES)
    raise failure_of(status, rest)


async def _more(connection: socket.socket, known: int, limit: int) -> bytes:
    if known > limit:
        raise HTTPException("its answer is too long")
    data = await asyncio.get_running_loop().sock_recv(connection, 65_536)
    if not data:
        raise HTTPException("the connection was closed")
    return data
