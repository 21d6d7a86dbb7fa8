"""Streams at the node's unix socket: the services behind the broker, for who sits at the node.

Nothing is sealed, and nobody is judged: the socket is root's, and the file system says who may open it. What
was opened, by which process, is told in the agent's log.
"""

import asyncio
import logging
import socket
import struct

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.node.streams.service import Serve, Services, StreamRequest, end_all, run_stream
from edgeagent.wire.socketlink import SocketLink
from edgeagent.wire.streamapi import StreamParams

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 262_144
AT_ONCE = 16
_CREDENTIALS = struct.Struct("iii")
"""``struct ucred`` of unix(7): process, user, group."""


class StreamBody(KubernetesStruct, frozen=True):
    """What is said to open a stream: ``params`` and what is ``private``, as ``edgeagent.wire.streamapi``."""

    params: msgspec.Raw
    private: msgspec.Raw = msgspec.Raw(b"{}")


class _About(StreamParams, frozen=True, forbid_unknown_fields=False):
    """Of the parameters of any stream, what the log tells."""

    container: str = ""


class OpenedStream(msgspec.Struct, frozen=True):
    """A stream that may begin: what serves it, and what is said about it in the log."""

    serve: Serve
    words: str


class LocalStreams:
    """Opens streams, runs them, and ends them all when the agent stops."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._running: dict[asyncio.Task[None], SocketLink] = {}
        self._stopped = False

    async def open(self, method: str, body: bytes) -> OpenedStream:
        """A stream of ``method``. The errors of the service, and PermanentError where there is no such
        method or there are too many streams.
        """
        service = self._services.get(method)
        if service is None:
            known = ", ".join(sorted(self._services))
            raise PermanentError(f"there is no stream {method[:40]!r} here, only {known}", reason="NotFound")
        if len(self._running) >= AT_ONCE:
            raise PermanentError(
                f"{len(self._running)} streams are open already: end some", reason="TooManyRequests"
            )
        wanted = decode_json(body, StreamBody, limit=MAX_BODY_BYTES)
        about = decode_json(bytes(wanted.params), _About)
        serve = await service.open(StreamRequest(wanted.params, bytes(wanted.private)))
        words = f"{method} in {'/'.join(filter(None, (about.namespace, about.pod, about.container)))}"
        return OpenedStream(serve, words)

    def begin(self, stream: OpenedStream, connection: socket.socket) -> None:
        """Run it on ``connection``, which is this object's from now on."""
        if self._stopped:
            connection.close()
            return
        log.info("local: %s opens %s", _peer(connection), stream.words)
        link = SocketLink(connection, client=False)
        task = asyncio.get_running_loop().create_task(self._run(stream, link))
        self._running[task] = link

    async def _run(self, stream: OpenedStream, link: SocketLink) -> None:
        carrying = asyncio.create_task(link.run())
        try:
            await run_stream(stream.serve, link.channels)
            await carrying  # until the other side was told
        except Exception:
            log.exception("a local stream met a bug")
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)
            task = asyncio.current_task()
            if task is not None:
                self._running.pop(task, None)
            over = link.channels.over
            log.info("local: %s has ended%s", stream.words, f": {over}" if over and over.reason else "")

    async def stop(self) -> None:
        """End all of them, and let the other sides know as far as that is quick."""
        self._stopped = True
        await end_all({task: link.channels for task, link in self._running.items()})


def _peer(connection: socket.socket) -> str:
    """Who is at the other end, as the kernel knows them."""
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return "somebody"
    process, user, _ = _CREDENTIALS.unpack(packed)
    return f"process {process} of user {user}"
