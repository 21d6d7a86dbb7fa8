"""Streams from an operator's program to a pod, over the broker: opened by a signed call, then channels.

    async with open_stream(hub, "exec", ExecParams(…), ExecPrivate(…)) as channels: …

A connection that is lost for a short time, on either side, costs nothing but that time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec

from edgeagent.api.clock import Clock, SystemClock
from edgeagent.cli.hubconnection import HubConnection
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channels
from edgeagent.wire.hubapi import NodeKeyParams, NodeKeyResult
from edgeagent.wire.operatorcalls import new_nonce
from edgeagent.wire.stream import Carrier
from edgeagent.wire.streamapi import StreamParams
from edgeagent.wire.streamkey import (
    StreamAnswer,
    StreamSecret,
    ciphers,
    new_half,
    seal_stream,
    stream_context,
)
from edgeagent.wire.streamlink import StreamLink
from edgeagent.wire.topics import Topics

GOODBYE_SECONDS = 3.0
"""How long the end of a stream may take to arrive, once this side does not want it any more."""


class _Early:
    """Hears a stream before its key is known. The node may begin at once: what it says then it says again."""

    def __init__(self) -> None:
        self.link: StreamLink | None = None

    def receive(self, packet: bytes) -> None:
        if self.link is not None:
            self.link.receive(packet)

    def connected(self) -> None:
        if self.link is not None:
            self.link.connected()

    def disconnected(self, reason: str) -> None:
        if self.link is not None:
            self.link.disconnected(reason)


@contextlib.asynccontextmanager
async def open_stream(
    hub: HubConnection,
    method: str,
    params: StreamParams,
    private: msgspec.Struct | None = None,
    *,
    on_pause: Callable[[str], None] = lambda _reason: None,
    on_resume: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
) -> AsyncIterator[Channels]:
    """The channels of a stream of ``method`` (``edgeagent.wire.streamapi``); ``private`` only the node can
    read.

    ``on_pause`` is told why the node cannot be reached for now, ``on_resume`` that it can again; after a
    minute the stream ends. Left early, it ends the stream. Errors as of ``HubConnection.call``: where
    nothing was opened.
    """
    clock = clock or SystemClock()
    where = await hub.call(
        "nodekey", NodeKeyParams(method=method, namespace=params.namespace, pod=params.pod), NodeKeyResult
    )
    nonce, half = new_nonce(), new_half()
    context = stream_context(hub.cluster, where.node, hub.user, method, nonce)
    secret = StreamSecret(half=half, private=msgspec.Raw(canonical_json(private) if private else b"{}"))
    sealed = msgspec.structs.replace(params, sealed=seal_stream(secret, where.key, context))
    topic = Topics(hub.cluster).stream(where.node, hub.user, nonce)
    early = _Early()
    with hub.listening(nonce.encode(), early):
        answer = await hub.call(method, sealed, StreamAnswer, target=where.node, nonce=nonce)
        outgoing, incoming = ciphers(half, answer.half, context)
        link = StreamLink(
            Carrier(outgoing, incoming, client=True, now=clock.monotonic()),
            client=True,
            publish=lambda packet: hub.publish(topic, packet),
            clock=clock,
            on_pause=on_pause,
            on_resume=on_resume,
        )
        early.link = link
        link.reconnected()  # what came before the answer did was not heard
        running = asyncio.create_task(link.run())
        try:
            yield link.channels
        finally:
            link.channels.end("ClientClosed", "the operator's program has ended the stream")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await asyncio.shield(running)
            running.cancel()
            await asyncio.wait({running})
