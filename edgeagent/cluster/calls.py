"""Calls from operators: requests in, answers out, all of it bounded.

May not know what a call means: ``Api`` does. Who calls is shown by the operator's signature
(``edgeagent.cluster.operatorgate``); where the answer goes must be that caller's own reply topic, for the hub
may write anywhere and must not be made to.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.cluster.api import Api
from edgeagent.cluster.operatorgate import REPLAYED, Caller, OperatorGate
from edgeagent.cluster.views import Views
from edgeagent.cluster.watches import Watch
from edgeagent.wire.authority import NODE_METHODS, USER_PREFIX, ForbiddenError
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.hubapi import (
    METHODS,
    ApplyParams,
    AuditParams,
    DeleteParams,
    GetParams,
    GetResult,
    NodeKeyParams,
    WatchParams,
)
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.privatecalls import SEALED_OVERHEAD, is_sealed, open_request, seal_answer
from edgeagent.wire.rpc import (
    MAX_RPC_BYTES,
    RpcError,
    encode_failure,
    encode_reply,
)
from edgeagent.wire.session import Message, MqttSession
from edgeagent.wire.topics import Topics

log = logging.getLogger(__name__)

MAX_CALLS = 32
"""How many calls may be under way at once, watches apart."""
MAX_WATCHES = 64
MAX_WATCHES_PER_USER = 16
MAX_WATCH_SECONDS = 3600
MAX_CORRELATION_BYTES = 128
REPLY_ROOM = 4_096
"""What the wrapping of an answer and its JSON separators may take of a packet."""

AUTHORITY_KINDS = frozenset(["RoleBinding", "ClusterRoleBinding", "ClusterTrust"])
"""A change of one of these may end what somebody watches."""

P = TypeVar("P")
Key = tuple[str, str, bytes]
"""Who calls, where the answers go, and the correlation data."""


@dataclass(frozen=True, slots=True)
class _Return:
    """The way of a call's answers, sealed to ``answers_to``; in clear where that is empty.

    Each call has its own: anybody can send a call with the topic and correlation data of another.
    """

    user: str
    topic: str
    correlation: bytes
    answers_to: bytes

    @property
    def key(self) -> Key:
        """What tells calls apart."""
        return self.user, self.topic, self.correlation


@dataclass(frozen=True, slots=True)
class _Watching:
    """A watch under way, and whose it is."""

    task: asyncio.Task[None]
    watch: Watch
    caller: Caller
    params: WatchParams


class Calls:
    """Takes the messages under ``hub/rpc/``. ``close`` ends what is under way."""

    def __init__(
        self,
        api: Api,
        gate: OperatorGate,
        views: Views,
        session: MqttSession,
        topics: Topics,
        clock: Clock,
        key: SealingKey,
    ) -> None:
        self._api = api
        self._gate = gate
        self._views = views
        self._session = session
        self._topics = topics
        self._clock = clock
        self._key = key
        self._calls: set[asyncio.Task[None]] = set()
        self._watches: dict[Key, _Watching] = {}

    def receive(self, user: str, method: str, message: Message) -> None:
        """A request; it is answered whatever is wrong with it, unless it does not say where to."""
        if not user.startswith(USER_PREFIX):
            log.warning("%s is no operator and may not call %s", user, method)
            return
        reply = message.response_topic
        levels = self._topics.levels(reply)
        if len(levels) != 3 or levels[:2] != ["replies", user] or not levels[2] or set(reply) & set("+#"):
            log.warning(
                "%s calls %s with an answer to %r, which is not its own reply topic",
                user,
                method,
                reply[:200],
            )
            return
        if not 0 < len(message.correlation) <= MAX_CORRELATION_BYTES:
            log.warning("%s calls %s without fit correlation data", user, method)
            return
        if len(self._calls) >= 2 * MAX_CALLS:
            return  # not even a refusal for who floods
        try:
            payload, answers_to = self._open(message, reply)
        except PermanentError as error:
            log.warning("%s calls %s with what cannot be opened: %s", user, method, error)
            return
        way = _Return(user, reply, message.correlation, answers_to)
        if len(self._calls) >= MAX_CALLS:
            refusal = RpcError("TooManyRequests", "the hub has too many calls under way: try again")
            self._spawn(self._fail(way, refusal))
            return
        try:
            caller = self._gate.open(payload, user=user, method=method, answers_to=answers_to)
            if caller.request.reply_topic != reply:
                raise PermanentError("the call was signed for another reply topic", reason="Unauthorized")
        except EdgeAgentError as error:
            log.warning("%s calls %s and is refused: %s", user, method, error)
            # What comes twice was answered once: a second answer would be taken for that of the first.
            if getattr(error, "reason", "") != REPLAYED:
                self._spawn(self._fail(way, error))
            return
        way = _Return(user, reply, message.correlation, caller.request.answers_to)
        if method == "cancel":
            if (watching := self._watches.get(way.key)) is not None:
                watching.task.cancel("cancelled")
        elif method == "watch":
            self._start_watch(way, caller)
        else:
            self._spawn(self._call(way, method, caller))

    def changed(self, kind: str, namespace: str, name: str) -> None:
        """Tell every watch."""
        for watching in self._watches.values():
            watching.watch.wake(kind, namespace, name)
        if kind in AUTHORITY_KINDS:
            self.authority_changed()

    def authority_changed(self) -> None:
        """Who may do what is another: watches that are not allowed any more end, and are told so."""
        for watching in self._watches.values():
            try:
                _require_watch(watching.caller, watching.params)
            except ForbiddenError as error:
                watching.task.cancel(error)

    def disconnected(self) -> None:
        """End all watches: what they send now would not arrive, and a gap must not go unseen."""
        for watching in self._watches.values():
            watching.task.cancel()

    async def close(self) -> None:
        """End everything and wait for it."""
        tasks = [*self._calls, *(one.task for one in self._watches.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, way: _Return, method: str, caller: Caller) -> None:
        params = bytes(caller.request.params)
        try:
            if method == "apply":
                applied = self._api.apply(_params(params, ApplyParams), caller)
                await self._answer(way, encode_reply(applied))
            elif method == "delete":
                deleted = self._api.delete(_params(params, DeleteParams), caller)
                await self._answer(way, encode_reply(deleted))
            elif method == "get":
                await self._answer_items(way, self._api.get(_params(params, GetParams), caller))
            elif method == "audit":
                found = self._api.audit(_params(params, AuditParams), caller)
                await self._answer(way, encode_reply(found))
            elif method == "nodekey":
                where = self._api.node_key(_params(params, NodeKeyParams), caller)
                await self._answer(way, encode_reply(where))
            elif method in NODE_METHODS:
                await self._pass_on(way, method, caller)
            else:
                raise RpcError(
                    "Invalid", f"unknown method {method[:40]!r}, expected one of {', '.join(METHODS)}"
                )
        except ForbiddenError as error:
            self._api.note_refused(caller, error)
            await self._fail(way, error)
        except Exception as error:
            await self._fail(way, error)

    async def _answer_items(self, way: _Return, items: list[KubernetesObject]) -> None:
        """As many answers as it takes to keep each within the broker's limit; all but the last say so."""
        room = self._room()
        batch: list[msgspec.Raw] = []
        size = sequence = 0
        for item in items:
            body = canonical_json(item)
            if batch and size + len(body) > room:
                await self._answer(way, encode_reply(GetResult(items=batch), sequence=sequence, last=False))
                batch, size, sequence = [], 0, sequence + 1
            batch.append(msgspec.Raw(body))
            size += len(body) + 1
        await self._answer(way, encode_reply(GetResult(items=batch), sequence=sequence))

    async def _pass_on(self, way: _Return, method: str, caller: Caller) -> None:
        node, request = self._api.to_node(caller)
        topic = self._topics.node_rpc(node, method)
        await self._session.publish(topic, request, response_topic=way.topic, correlation=way.correlation)

    def _room(self) -> int:
        connection = self._session.connection
        if connection is None:
            raise TemporaryError("not connected to a broker", reason="Disconnected")
        return min(connection.payload_limit, MAX_RPC_BYTES) - REPLY_ROOM - SEALED_OVERHEAD

    async def _answer(self, way: _Return, payload: bytes) -> None:
        if way.answers_to:
            payload = seal_answer(payload, way.answers_to, way.topic, way.correlation)
        await self._session.publish(way.topic, payload, correlation=way.correlation)

    def _open(self, message: Message, reply: str) -> tuple[bytes, bytes]:
        """What was asked, and how to seal the answers to a sealed request; empty for one in clear."""
        if not is_sealed(message.payload):
            return message.payload, b""
        return open_request(message.payload, self._key, reply, message.correlation)

    async def _fail(self, way: _Return, error: Exception) -> None:
        if not isinstance(error, EdgeAgentError):
            log.error("a call of %s failed", way.user, exc_info=error)
        try:
            await self._answer(way, encode_failure(error))
        except (TemporaryError, PermanentError) as unsent:
            log.info("an answer to %s was not sent: %s", way.user, unsent)

    # Watches

    def _start_watch(self, way: _Return, caller: Caller) -> None:
        mine = sum(1 for other in self._watches if other[0] == way.user)
        if way.key in self._watches:
            return  # the same request, delivered twice
        if len(self._watches) >= MAX_WATCHES or mine >= MAX_WATCHES_PER_USER:
            refusal = RpcError(
                "TooManyRequests", f"the hub has {len(self._watches)} watches under way: end some"
            )
            self._spawn(self._fail(way, refusal))
            return
        try:
            params = _params(bytes(caller.request.params), WatchParams)
            _require_watch(caller, params)
            if not 0 < params.timeout_seconds <= MAX_WATCH_SECONDS:
                raise InvalidObjectError("timeoutSeconds", f"must be between 1 and {MAX_WATCH_SECONDS}")
            watch = Watch(params, self._views)
        except EdgeAgentError as error:
            if isinstance(error, ForbiddenError):
                self._api.note_refused(caller, error)
            self._spawn(self._fail(way, error))
            return
        task = asyncio.create_task(self._stream(way, watch, params.timeout_seconds))
        self._watches[way.key] = _Watching(task, watch, caller, params)
        task.add_done_callback(lambda _: self._watches.pop(way.key, None))

    async def _stream(self, way: _Return, watch: Watch, seconds: int) -> None:
        """Events in sequence; the last answer says that it is, and carries nothing."""
        sequence = 0

        async def send() -> None:
            nonlocal sequence
            async with aclosing(watch.events()) as events:
                async for event in events:
                    await self._answer(way, encode_reply(event, sequence=sequence, last=False))
                    sequence += 1

        sending = asyncio.create_task(send())
        timer = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait((sending, timer), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and (error := sending.exception()) is not None:
                await self._fail(
                    way, error if isinstance(error, Exception) else TemporaryError("the watch has ended")
                )
                return
        except asyncio.CancelledError as cancelled:
            [reason] = cancelled.args or [None]
            if isinstance(reason, ForbiddenError):
                await self._fail(way, reason)
                return
            if reason != "cancelled":
                raise
            # The operator ended it, and is told that nothing follows.
        finally:
            for task in (sending, timer):
                task.cancel()
            await asyncio.gather(sending, timer, return_exceptions=True)
        await self._end(way, sequence)

    async def _end(self, way: _Return, sequence: int) -> None:
        try:
            await self._answer(way, encode_reply(None, sequence=sequence))
        except (TemporaryError, PermanentError) as unsent:
            log.info("the end of a watch of %s was not sent: %s", way.user, unsent)


def _require_watch(caller: Caller, params: WatchParams) -> None:
    """ForbiddenError where the operator may not watch that, or does not count any more."""
    if caller.is_revoked:
        raise ForbiddenError(f"the certificate of operator {caller.name} was revoked")
    caller.require_kind("watch", params.kind, params.namespace, params.name)


def _params(payload: bytes, kind: type[P]) -> P:
    return decode_json(payload or b"{}", kind, limit=MAX_RPC_BYTES)
