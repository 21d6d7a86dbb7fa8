"""The service ``portforward``: connections to TCP ports of a pod, as the pod itself reaches them on its
loopback.

So a program that listens on 127.0.0.1 alone is reached too, as with kubelet, and no NetworkPolicy applies;
with the host's network it is the host's loopback.
https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/
"""

import asyncio
import contextlib
import os
import socket
from functools import partial

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.node.pods.logruns import find_pod
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.streams.netns import sockets_inside
from edgeagent.node.streams.service import Serve, StreamRequest, all_of
from edgeagent.wire.channelio import Channel, ChannelClosedError, Channels, StreamEndedError
from edgeagent.wire.streamapi import PORT, PortChannel, PortForwardParams

CONNECT_SECONDS = 10.0
READ_BYTES = 16_384
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
FAMILIES = [family for family, _ in LOOPBACK]


class PortForwardService:
    """``pods`` is None where no runtime could be loaded."""

    def __init__(self, pods: PodManager | None) -> None:
        self._pods = pods

    async def open(self, request: StreamRequest) -> Serve:
        """LogError (``NotFound``) where there is no such pod, PermanentError where nothing of it runs."""
        wanted = decode_json(bytes(request.params), PortForwardParams)
        pod = find_pod(self._pods, wanted.namespace, wanted.pod)
        assert self._pods is not None
        self._process(self._pods, pod.metadata.uid)
        return partial(self._serve, self._pods, pod.metadata.uid)

    def _process(self, pods: PodManager, uid: str) -> int:
        """The process of a container that runs."""
        for one in pods.containers_of(uid):
            if one.state == "running" and one.pid > 0:
                return one.pid
        raise PermanentError("no container of the pod is running", reason="BadRequest")

    async def _serve(self, pods: PodManager, uid: str, channels: Channels) -> None:
        await all_of([self._until_gone(pods, uid), self._accept(pods, uid, channels)])

    async def _accept(self, pods: PodManager, uid: str, channels: Channels) -> None:
        async with asyncio.TaskGroup() as connections:
            while True:
                channel = await channels.accept()
                connections.create_task(self._connection(pods, uid, channel))

    async def _until_gone(self, pods: PodManager, uid: str) -> None:
        """PermanentError once the pod is not to run any more, or nothing of it will."""
        with pods.news.of(uid) as news:
            while True:
                news.clear()
                if pods.wanted(uid) is None or pods.phase(uid) in ("Succeeded", "Failed"):
                    raise PermanentError("the pod was deleted, or has ended", reason="NotFound")
                await news.wait()

    async def _connection(self, pods: PodManager, uid: str, channel: Channel) -> None:
        try:
            if channel.kind != PORT:
                raise InvalidObjectError("kind", f"no channel {channel.kind!r} here")
            port = decode_json(channel.value, PortChannel).port
            if not 0 < port < 65_536:
                raise InvalidObjectError("port", "must be from 1 to 65535")
            connection = await self._connected(self._process(pods, uid), port)
        except EdgeAgentError as error:
            channel.refuse(getattr(error, "reason", "") or "InternalError", str(error))
            return
        channel.accept()
        with connection:
            await _relay(channel, connection)
        channel.close()

    async def _connected(self, process: int, port: int) -> socket.socket:
        """Whichever of the two loopbacks somebody listens on; PermanentError where on neither."""
        loop = asyncio.get_running_loop()
        problem = ""
        with contextlib.ExitStack() as others:
            found = await sockets_inside(process, FAMILIES)
            for one in found:
                if one is not None:
                    others.enter_context(one)
            for (_, address), one in zip(LOOPBACK, found, strict=True):
                if one is None:
                    continue
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await loop.sock_connect(one, (address, port))
                except TimeoutError:
                    problem = problem or "it does not answer"
                except OSError as error:
                    problem = problem or os.strerror(error.errno or 0)
                else:
                    # The number is another's from here on, and closing this one closes nothing.
                    connected = socket.socket(fileno=one.detach())
                    connected.setblocking(False)
                    return connected
        problem = problem or "the pod has no network"
        raise PermanentError(f"port {port} of the pod: {problem}", reason="ConnectionRefused")


async def _relay(channel: Channel, connection: socket.socket) -> None:
    """Until both ways are at their end, or the operator does not want it any more."""
    copying = asyncio.ensure_future(all_of([_to_pod(channel, connection), _from_pod(channel, connection)]))
    closed = asyncio.ensure_future(channel.wait_closed())
    try:
        await asyncio.wait({copying, closed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (copying, closed):
            one.cancel()
        # Before the connection is closed: its number is another's then.
        results = await asyncio.gather(copying, closed, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(
            result, ChannelClosedError | StreamEndedError | OSError
        ):
            raise result


async def _to_pod(channel: Channel, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # That the pod takes no more is no end: what it has answered is still to be read.
    with contextlib.suppress(OSError):
        while data := await channel.read():
            await loop.sock_sendall(connection, data)
        connection.shutdown(socket.SHUT_WR)


async def _from_pod(channel: Channel, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, READ_BYTES):
        await channel.write(data)
    channel.end_writing()
