"""Calls to the hub over MQTT: one session, one reply topic, any number of calls at once.

An operator file says where the broker is and who the caller is. A call has a deadline, and an error says
what was being waited for and what to look at. Nothing is sent again by itself: the caller knows whether a
call may be repeated.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import msgspec

from edgeagent.api.clock import Clock, SystemClock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.operatorfile import tls_context
from edgeagent.wire.authority import HUB_TARGET
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import OperatorFile
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.operatorcalls import OperatorSigner
from edgeagent.wire.privatecalls import is_sealed, open_answer, seal_request
from edgeagent.wire.rpc import MAX_RPC_BYTES, Reply, RpcError, decode_reply
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig
from edgeagent.wire.topics import Topics

T = TypeVar("T")

REQUEST_SECONDS = 10.0
"""How long connecting may take, and how long the hub may take to answer."""
GOODBYE_SECONDS = 1.0
"""How long the end of a watch may take to be told to the hub."""
KEEPALIVE_SECONDS = 30
"""Shorter than a node's: a person looks on. Also what a TLS handshake may take."""
END_SECONDS = 5.0
"""How much later than agreed the hub's end of a watch may come."""
QUEUED_REPLIES = 10_000
"""How many answers of one call may wait to be read before the call is given up."""


class HubUnreachableError(TemporaryError):
    """No broker could be reached, or the hub behind it does not answer."""


class Stream(Protocol):
    """What goes on after a call: it hears what comes in with its ``correlation``, and of the connection."""

    def receive(self, packet: bytes) -> None:
        """A packet came in."""

    def connected(self) -> None:
        """There is a connection again, and what is sent to this side arrives."""

    def disconnected(self, reason: str) -> None:
        """There is none."""


class _Call:
    """One call: the answers not yet read, and whether the hub has sent its last."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Reply | Exception] = asyncio.Queue(QUEUED_REPLIES)
        self.ended = False


class HubConnection:
    """A connection to the hub, as a context; calls by name are ``edgeagent.cli.hubclient.HubClient``'s.

    ``timeout`` None waits for ever. Raises HubUnreachableError where the broker or the hub cannot be
    reached, RpcError with what the hub answered, PermanentError where asking again cannot help.
    """

    def __init__(
        self,
        operator: OperatorFile,
        *,
        timeout: float | None = REQUEST_SECONDS,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._operator = operator
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._topics = Topics(operator.cluster)
        session = secrets.token_hex(8)
        self._replies = self._topics.replies(operator.user, session)
        self._calls: dict[bytes, asyncio.Queue[Reply | Exception]] = {}
        self._streams: dict[bytes, Stream] = {}
        self._key = SealingKey.generate() if operator.hub_key else None
        self._signer: OperatorSigner | None = None
        self._ready = asyncio.Event()
        self._subscribing: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[Exception] | None = None
        self._failures: list[str] = []
        self.disconnected = ""
        """Why the connection was lost last; empty while there is one."""
        self._session = MqttSession(
            SessionConfig(
                addresses=operator.brokers,
                client_id=f"edgectl-{session}",
                tls=tls_context(operator),
                keepalive=KEEPALIVE_SECONDS,
                reconnect_first=1.0,
                reconnect_ceiling=30.0,
            ),
            clock=self._clock,
            rng=rng or random.Random(),  # noqa: S311 - spreads reconnections, guards nothing
            on_message=self._on_message,
            on_connect=self._on_connect,
            on_disconnect=self._on_disconnect,
        )

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self._operator.cluster

    @property
    def user(self) -> str:
        """The operator's name at the broker."""
        return self._operator.user

    @property
    def brokers(self) -> str:
        """The addresses that are tried, for a person."""
        return ", ".join(f"{broker.host}:{broker.port}" for broker in self._operator.brokers)

    async def __aenter__(self) -> Self:
        self._broken = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._session.run())
        self._running.add_done_callback(self._session_ended)
        try:
            await self._first_connection()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _first_connection(self) -> None:
        """Wait until the answers can come, or for the first reason why they cannot."""
        assert self._broken is not None
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            both: set[asyncio.Future[Any]] = {ready, self._broken}
            await asyncio.wait(both, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                raise self._broken.result()
            if not ready.done():
                raise HubUnreachableError(
                    f"no connection to the broker {self.brokers} within {self._timeout:g}s"
                    f"{self._why()}: is the address right, and can this machine reach it?"
                )
        finally:
            ready.cancel()

    def _why(self) -> str:
        return f" ({'; '.join(self._failures)})" if self._failures else ""

    async def connected(self) -> None:
        """Wait, without a deadline, until there is a connection (again)."""
        assert self._running is not None
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            both: set[asyncio.Future[Any]] = {ready, self._running}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._running.done():
                raise PermanentError("the connection was given up")
        finally:
            ready.cancel()

    async def _stop(self) -> None:
        for task in (self._subscribing, self._running):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, EdgeAgentError):
                    await task
        self._ready.clear()

    # What the session says --------------------------------------------------------------------------

    def _session_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error if isinstance(error, Exception) else PermanentError(str(error)))

    def _on_connect(self, connection: Connection) -> None:
        if connection.version < 5:
            where = f"{connection.address.host}:{connection.address.port}"
            self._fail(
                PermanentError(f"the broker {where} speaks MQTT 3.1.1 only; calls to the hub need MQTT 5")
            )
            return
        self._subscribing = asyncio.create_task(self._subscribe())

    async def _subscribe(self) -> None:
        try:
            await self._session.subscribe([self._replies])
        except TemporaryError:
            return  # the connection was lost again, which the session reports by itself
        except PermanentError as error:
            self._fail(
                PermanentError(
                    f"{error}: is the operator file's user {self._operator.user!r} that of its certificate?"
                )
            )
            return
        self.disconnected = ""
        self._ready.set()
        for stream in self._streams.values():
            stream.connected()

    def _on_disconnect(self, reason: str) -> None:
        self.disconnected = reason
        had = self._ready.is_set()
        self._ready.clear()
        for queue in self._calls.values():
            _put(
                queue,
                HubUnreachableError(
                    f"the connection to the broker was lost: {reason}", reason="Disconnected"
                ),
            )
        for stream in self._streams.values():
            stream.disconnected(reason)
        if had or reason == "stopped":
            return
        self._failures.append(reason)
        if len(self._failures) >= len(self._operator.brokers):
            # Each address was tried once. A person would rather know than wait for a broker to come back.
            self._fail(HubUnreachableError(f"no broker can be reached: {'; '.join(self._failures)}"))

    def _fail(self, error: Exception) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(error)
        if isinstance(error, PermanentError):
            for queue in self._calls.values():
                _put(queue, error)

    def _on_message(self, message: Message) -> None:
        if (stream := self._streams.get(message.correlation)) is not None:
            stream.receive(message.payload)
            return
        queue = self._calls.get(message.correlation)
        if queue is None:
            return  # the answer to a call that was given up
        if self._key is not None and not is_sealed(message.payload):
            return  # a sealed call is answered sealed: this is of somebody who could not read it
        try:
            _put(queue, decode_reply(self._opened(message)))
        except RpcError as error:
            _put(queue, error)
        except EdgeAgentError as error:
            _put(queue, PermanentError(f"the hub's answer cannot be read: {error}"))

    def _opened(self, message: Message) -> bytes:
        if self._key is None:
            return message.payload
        return open_answer(message.payload, self._key, self._replies, message.correlation)

    # Calls ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        params: msgspec.Struct,
        kind: type[T],
        *,
        target: str = HUB_TARGET,
        lasts: float | None = None,
        nonce: str = "",
    ) -> AsyncIterator[AsyncIterator[T]]:
        """A call under way: the broker has it when the context is entered; its answers are iterated over.

        ``target`` is the node that is to serve it, if the hub is not. ``nonce`` names the call, where
        something else is tied to it.

        Each answer must come within the time-out. A call that ``lasts`` so many seconds may be silent for
        all of them, ends by itself if the hub does not end it, and is cancelled there where it is left
        early.
        """
        correlation = secrets.token_bytes(16)
        call = _Call()
        self._calls[correlation] = call.queue
        try:
            await self._send(target, method, canonical_json(params), correlation, nonce)
            yield self._answers(call, method, kind, lasts)
        finally:
            del self._calls[correlation]
            if lasts is not None and not call.ended:
                await self._cancel(correlation)

    async def _answers(
        self, call: "_Call", method: str, kind: type[T], lasts: float | None
    ) -> AsyncIterator[T]:
        expected = 0
        end = None if lasts is None else asyncio.get_running_loop().time() + lasts + END_SECONDS
        while not call.ended:
            try:
                async with asyncio.timeout(self._timeout) if end is None else asyncio.timeout_at(end):
                    reply = await call.queue.get()
            except TimeoutError:
                if end is not None:
                    call.ended = True  # the hub was to say so; it may have been restarted
                    return
                raise self._no_answer(method) from None
            if isinstance(reply, Exception):
                call.ended = isinstance(reply, RpcError)
                raise reply
            if reply.sequence < expected:
                continue  # delivered twice
            if reply.sequence > expected:
                raise TemporaryError(f"{method}: an answer of the hub got lost on the way", reason="Gap")
            expected += 1
            call.ended = reply.last
            if not (reply.last and bytes(reply.result) == b"null"):
                yield self.decode(method, reply.result, kind)

    def decode(self, method: str, result: msgspec.Raw, kind: type[T]) -> T:
        """What is in an answer to ``method``; PermanentError where it cannot be read."""
        try:
            return decode_json(bytes(result), kind, limit=MAX_RPC_BYTES)
        except InvalidObjectError as error:
            raise PermanentError(
                f"the hub's answer to {method} cannot be read (another version?): {error}"
            ) from None

    async def _send(
        self, target: str, method: str, params: bytes, correlation: bytes, nonce: str = ""
    ) -> None:
        topic = self._topics.hub_rpc(self._operator.user, method)
        payload = self._sealed(self._signed(target, method, params, nonce), correlation)
        try:
            async with asyncio.timeout(self._timeout):
                await self._session.publish(
                    topic, payload, response_topic=self._replies, correlation=correlation
                )
        except TimeoutError:
            raise HubUnreachableError(
                f"the broker {self.brokers} did not take the request within {self._timeout:g}s: "
                "is the network up?"
            ) from None
        except PermanentError as error:
            if error.reason == "PacketTooLarge":
                raise PermanentError(f"the request is too large: {error}; send less at once") from None
            raise

    def _signed(self, target: str, method: str, params: bytes, nonce: str = "") -> bytes:
        """The call with the operator's own signature; PermanentError where the file has no key for it."""
        if self._signer is None:
            mine = self._operator
            try:
                self._signer = OperatorSigner(mine.cluster, mine.user, mine.certificate, mine.private_key)
            except PermanentError as error:
                raise PermanentError(f"the operator file cannot sign calls: {error}") from None
        return self._signer.sign(
            target,
            method,
            params,
            now=self._clock.now(),
            reply_topic=self._replies,
            answers_to=self._key.public if self._key is not None else b"",
            nonce=nonce,
        )

    def _sealed(self, payload: bytes, correlation: bytes) -> bytes:
        """The request as the broker carries it: readable for the hub alone, where its key is known."""
        if self._key is None:
            return payload
        return seal_request(payload, self._operator.hub_key, self._key.public, self._replies, correlation)

    def _no_answer(self, method: str) -> HubUnreachableError:
        return HubUnreachableError(
            f"the hub did not answer {method!r} within {self._timeout or 0:g}s. The broker {self.brokers} "
            "is up; check that `edgehub run` is running and connected to it, "
            f"for the cluster {self._operator.cluster!r}"
        )

    async def _cancel(self, correlation: bytes) -> None:
        """Tell the hub that nobody listens any more; it finds out by its own time-out if this fails."""
        topic = self._topics.hub_rpc(self._operator.user, "cancel")
        with contextlib.suppress(TimeoutError, EdgeAgentError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                payload = self._sealed(self._signed(HUB_TARGET, "cancel", b"{}"), correlation)
                await self._session.publish(
                    topic, payload, response_topic=self._replies, correlation=correlation
                )

    @contextlib.contextmanager
    def listening(self, correlation: bytes, stream: Stream) -> Iterator[None]:
        """Meanwhile ``stream`` has what comes in with ``correlation``, and hears of the connection."""
        self._streams[correlation] = stream
        try:
            yield
        finally:
            del self._streams[correlation]

    async def publish(self, topic: str, payload: bytes) -> None:
        """A packet of a stream. Errors as of ``MqttSession.publish``."""
        await self._session.publish(topic, payload)

    async def call(
        self,
        method: str,
        params: msgspec.Struct,
        kind: type[T],
        *,
        target: str = HUB_TARGET,
        nonce: str = "",
    ) -> T:
        """The one answer to a call."""
        async with self.open(method, params, kind, target=target, nonce=nonce) as answers:
            async for answer in answers:
                return answer
        raise PermanentError(f"the hub answered {method!r} with nothing")


def _put(queue: "asyncio.Queue[Reply | Exception]", answer: Reply | Exception) -> None:
    """Queue an answer; where nobody has read for too long, the newest gives way to the news of that."""
    try:
        queue.put_nowait(answer)
    except asyncio.QueueFull:
        with contextlib.suppress(asyncio.QueueEmpty):
            queue.get_nowait()
        queue.put_nowait(TemporaryError("answers came faster than they could be read", reason="Gap"))
