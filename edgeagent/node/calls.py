"""Signed requests from the hub: verified, run once, answered on the topic that the operator named.

May not judge who may do what: ``edgeagent.node.operations`` does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.node.operations import Operations
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.rpc import encode_failure, encode_reply
from edgeagent.wire.session import Message

log = logging.getLogger(__name__)

AT_ONCE = 8
MAX_METHOD = 40
"""So much of a method's name stands in the log: the broker may say anything, as often as it likes."""


class Replier(Protocol):
    """The part of an MQTT session that answering needs."""

    async def publish(self, topic: str, payload: bytes, *, correlation: bytes = b"") -> None:
        """Send an answer."""


class NodeCalls:
    """Serves ``nodes/<node>/rpc/<method>``."""

    def __init__(
        self,
        *,
        node: str,
        session: Replier,
        anchor: Callable[[], TrustAnchor],
        operations: Operations,
        clock: Clock,
        payload_limit: Callable[[], int],
        make_sure: Callable[[], Awaitable[None]],
        on_expired: Callable[[], None] = lambda: None,
    ) -> None:
        """``clock`` is what requests expire by, once ``make_sure`` has returned; it raises otherwise.

        ``on_expired``: one of the hub's own has, it seems.
        """
        self._node = node
        self._session = session
        self._anchor = anchor
        self._operations = operations
        self._clock = clock
        self._payload_limit = payload_limit
        self._make_sure = make_sure
        self._on_expired = on_expired
        self._nonces: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, method: str, message: Message) -> None:
        """A request came in; it is worked on beside everything else. More than a few at once are refused."""
        if message.retain or len(self._tasks) >= AT_ONCE:
            why = "retained" if message.retain else "too many"
            log.warning("a request for %s is passed over: %s", method[:MAX_METHOD], why)
            return
        task = asyncio.get_running_loop().create_task(self._serve(method, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, method: str, message: Message) -> None:
        # Imported only now: a node that nobody asks needs no cryptography in memory.
        from edgeagent.wire.noderequest import open_request
        from edgeagent.wire.privatecalls import seal_answer

        now = self._clock.now()
        try:
            request, _ = open_request(
                message.payload, self._anchor(), node=self._node, method=method, now=now
            )
            self._once(request.nonce, request.expires, now)
            # It was in time by this node's clock; the operator's own end is held against what the hub says.
            await self._make_sure()
            call = self._operations.open(method, request.call)
        except EdgeAgentError as error:
            # Whoever sent this may be anybody: no answer, which could be made to go anywhere.
            log.warning("a request for %s is refused: %s", method[:MAX_METHOD], error)
            if getattr(error, "reason", "") == "Expired":
                self._on_expired()
            return
        asked = call.request
        limit = self._payload_limit()
        try:
            serve = self._operations.admit(call)
            answer = encode_reply(await serve(asked.params, limit))
        except EdgeAgentError as error:
            answer = encode_failure(error)
        except Exception as error:
            log.exception("a request for %s met a bug", method)
            answer = encode_failure(error)
        try:
            if asked.answers_to:
                answer = seal_answer(answer, asked.answers_to, asked.reply_topic, message.correlation)
            await self._session.publish(asked.reply_topic, answer, correlation=message.correlation)
        except EdgeAgentError as error:
            log.warning("the answer to a request for %s was not sent: %s", method, error)

    def _once(self, nonce: str, expires: float, now: float) -> None:
        self._nonces = {known: end for known, end in self._nonces.items() if end >= now}
        if nonce in self._nonces:
            raise PermanentError("the request was already served", reason="Replayed")
        self._nonces[nonce] = expires

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
