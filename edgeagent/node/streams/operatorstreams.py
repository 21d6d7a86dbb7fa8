"""The streams that operators have with this node through the broker: opened by their calls, bounded, ended.

All of them share a bandwidth, and each has only a few publications under way, so that what the node itself
has to say (status, events) waits for no chatty container. Who may have a stream was judged when it was
opened, and is judged again when the bindings change. May not know what a stream is about: services do
(``service``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.objects.decode import decode_json
from edgeagent.node.pace import Pace
from edgeagent.node.streams.service import STOPPING, Serve, Services, StreamRequest, end_all, run_stream
from edgeagent.wire.authority import NODE_METHODS
from edgeagent.wire.rpc import RpcError
from edgeagent.wire.stream import Carrier
from edgeagent.wire.streamapi import StreamParams
from edgeagent.wire.streamlink import StreamLink

if TYPE_CHECKING:
    from edgeagent.wire.operatorcalls import OperatorCall
    from edgeagent.wire.streamkey import StreamAnswer

log = logging.getLogger(__name__)

BURST_BYTES = 65_536

Unseal = Callable[[bytes, bytes], Awaitable[bytes]]
"""``Unsealer.unseal_stream``."""


class Publisher(Protocol):
    """The part of an MQTT session that streams need."""

    async def publish(self, topic: str, payload: bytes, *, correlation: bytes = b"") -> None:
        """Send a packet."""


class Limits(msgspec.Struct, frozen=True):
    """``bandwidth`` in bytes a second; how many streams there may be, in all, of one operator and of a
    method.
    """

    bandwidth: float
    streams: int
    of_one: int
    of_method: Mapping[str, int]


class _Stream(msgspec.Struct, frozen=True):
    """One stream, whose it is, and what serves it."""

    call: "OperatorCall"
    link: StreamLink
    task: asyncio.Task[None]


class OperatorStreams:
    """``unseal`` is None where no plugin can open what is sealed to this node.

    ``clock`` says what time it is as certificates are judged by it.
    """

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        services: Services,
        unseal: Unseal | None,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._services = services
        self._unseal = unseal
        self._limits = limits
        self._clock = clock
        self._pace = Pace(clock, rate=limits.bandwidth, burst=min(BURST_BYTES, limits.bandwidth))
        self._session: Publisher | None = None
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._opening: list[OperatorCall] = []
        self._check: Callable[[OperatorCall], None] | None = None
        """What the streams were judged by last."""
        self._stopped = False

    @property
    def methods(self) -> "dict[str, Callable[[OperatorCall], Awaitable[StreamAnswer]]]":
        """What opens a stream, by the method of the call."""
        return dict.fromkeys(self._services, self.open)

    def use(self, session: Publisher) -> None:
        """Publish to this session from now on."""
        self._session = session

    async def open(self, call: "OperatorCall") -> "StreamAnswer":
        """Begin the stream of a call that was admitted; what the operator is to be answered.

        RpcError where there are too many or the agent stops, else the error of the service or of unsealing.
        """
        self._check_running()
        self._check_room(call)
        self._opening.append(call)
        try:
            return await self._opened(call)
        finally:
            self._opening.remove(call)

    def _check_running(self) -> None:
        if self._stopped:
            raise RpcError("ServiceUnavailable", STOPPING)

    def _check_room(self, call: "OperatorCall") -> None:
        calls = [*self._opening, *(one.call for one in self._streams.values())]
        of_one = sum(one.operator == call.operator for one in calls)
        if len(calls) >= self._limits.streams or of_one >= self._limits.of_one:
            raise RpcError(
                "TooManyRequests",
                f"the node has {len(calls)} streams open, {of_one} of them of {call.operator}:"
                " end some, or raise [remote] max_streams there",
            )
        method = call.request.method
        of_method = sum(one.request.method == method for one in calls)
        if of_method >= self._limits.of_method.get(method, self._limits.streams):
            raise RpcError(
                "TooManyRequests",
                f"the node has {of_method} streams of {method!r} open, and keeps the rest of its"
                f" {self._limits.streams} for others: end some, or raise [remote] max_streams there",
            )

    async def _opened(self, call: "OperatorCall") -> "StreamAnswer":
        # Imported only now, as all that needs cryptography.
        from edgeagent.wire.streamkey import StreamAnswer, ciphers, new_half, read_secret, stream_context

        request = call.request
        params = decode_json(bytes(request.params), NODE_METHODS[request.method].params)
        assert isinstance(params, StreamParams)
        if self._unseal is None:
            raise PermanentError(
                "this node has no plugin that opens what is sealed to it", reason="NoUnsealer"
            )
        context = stream_context(self._cluster, self._node, request.user, request.method, request.nonce)
        secret = read_secret(await self._unseal(params.sealed, context))
        serve = await self._services[request.method].open(
            StreamRequest(request.params, bytes(secret.private), call.operator)
        )
        self._check_running()
        if self._check is not None:
            # The right may have gone since the call was admitted, with nothing here yet to be judged.
            self._check(call)
        half = new_half()
        to_node, to_operator = ciphers(secret.half, half, context)
        link = StreamLink(
            Carrier(to_operator, to_node, client=False, now=self._clock.monotonic()),
            client=False,
            publish=lambda packet: self._publish(request.reply_topic, packet, request.nonce),
            clock=self._clock,
            pace=self._pace.reserve,
        )
        key = request.user, request.nonce
        task = asyncio.create_task(self._run(key, call, serve, link))
        self._streams[key] = _Stream(call, link, task)
        return StreamAnswer(half=half)

    async def _publish(self, topic: str, packet: bytes, nonce: str) -> None:
        if self._session is None:
            raise TemporaryError("not connected to a broker", reason="Disconnected")
        await self._session.publish(topic, packet, correlation=nonce.encode())

    async def _run(self, key: tuple[str, str], call: "OperatorCall", serve: Serve, link: StreamLink) -> None:
        carrying = asyncio.create_task(link.run())
        expiring = asyncio.create_task(self._expire(call, link))
        try:
            await run_stream(serve, link.channels)
            await carrying  # until the other side knows, or a little longer than it may take
        except Exception:
            log.exception("a stream of %s met a bug", key[0])
        finally:
            for one in (carrying, expiring):
                one.cancel()
            await asyncio.wait({carrying, expiring})
            self._streams.pop(key, None)
            over = link.channels.over
            log.info("a stream of %s has ended%s", key[0], f": {over}" if over and over.reason else "")

    async def _expire(self, call: "OperatorCall", link: StreamLink) -> None:
        """End the stream when the operator's certificate runs out."""
        # More than once only where it became earlier meanwhile; what became later is judged by ``judge``.
        while (left := call.not_after - self._clock.now()) > 0:
            await self._clock.sleep(left)
        try:
            call.check_certificate(self._clock.now())
        except EdgeAgentError as error:
            _end(call, link, error)

    def deliver(self, user: str, stream: str, packet: bytes) -> None:
        """A packet came in; one for a stream that there is not, is passed over."""
        if (found := self._streams.get((user, stream))) is not None:
            found.link.receive(packet)

    def connected(self) -> None:
        """There is a session again, and it is subscribed to what operators say."""
        for one in self._streams.values():
            one.link.connected()

    def disconnected(self, reason: str) -> None:
        """There is no session."""
        for one in self._streams.values():
            one.link.disconnected(reason)

    def judge(self, check: "Callable[[OperatorCall], None]") -> None:
        """End the streams whose call ``check`` raises EdgeAgentError for: who has lost the right.

        What is being opened meanwhile is judged by it too.
        """
        self._check = check
        for one in list(self._streams.values()):
            if one.link.channels.over is not None:
                continue
            try:
                check(one.call)
            except EdgeAgentError as error:
                _end(one.call, one.link, error)

    async def stop(self) -> None:
        """End all of them, and let the other sides know as far as that is quick; open none from now on."""
        self._stopped = True
        await end_all({one.task: one.link.channels for one in self._streams.values()})


def _end(call: "OperatorCall", link: StreamLink, error: EdgeAgentError) -> None:
    """End the stream of who may not have it any more, with the reason said."""
    log.warning("a stream of %s ends: %s", call.operator, error)
    link.channels.end(getattr(error, "reason", "") or "Forbidden", str(error))
