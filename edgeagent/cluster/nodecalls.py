"""Calls from nodes to the hub: below ``hub/rpc/<node>/``, answered on the node's own reply topic.

The topic says which node calls, as far as the broker is to be believed; what a call asks for must be shown in
the call itself. May not know what a call means.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.wire.session import Message, MqttSession
from edgeagent.wire.topics import Topics

log = logging.getLogger(__name__)

MAX_ANSWERS = 256
"""How many answers may wait for the broker at a time; a node asks again."""
MAX_CORRELATION_BYTES = 128

Answerer = Callable[[str, bytes], bytes | None]
"""Takes the node's name and what it asks; the answer, or None where it is owed none."""


class NodeCalls:
    """Takes the messages of nodes. ``close`` ends what is under way."""

    def __init__(self, session: MqttSession, topics: Topics, answerers: Mapping[str, Answerer]) -> None:
        """``answerers`` by method."""
        self._session = session
        self._topics = topics
        self._answerers = answerers
        self._answers: set[asyncio.Task[None]] = set()

    def receive(self, node: str, method: str, message: Message) -> None:
        """A call; one that says no topic of the node's own to answer to is passed over."""
        reply = message.response_topic
        levels = self._topics.levels(reply)
        if len(levels) != 3 or levels[:2] != ["replies", node] or not levels[2] or set(reply) & set("+#"):
            log.warning("%s calls %s and does not say where to answer it", node, method[:40])
            return
        answerer = self._answerers.get(method)
        if answerer is None or not 0 < len(message.correlation) <= MAX_CORRELATION_BYTES:
            log.warning("%s calls %s, which nodes may not", node, method[:40])
            return
        if len(self._answers) >= MAX_ANSWERS:
            return
        try:
            answer = answerer(node, message.payload)
        except EdgeAgentError as error:
            log.warning("%s calls %s in vain: %s", node, method, error)
            return
        if answer is not None:
            task = asyncio.create_task(self._answer(reply, answer, message.correlation))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def close(self) -> None:
        """End everything and wait for it."""
        for task in self._answers:
            task.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    async def _answer(self, topic: str, answer: bytes, correlation: bytes) -> None:
        try:
            await self._session.publish(topic, answer, correlation=correlation)
        except (TemporaryError, PermanentError) as error:
            log.info("an answer on %s was not sent: %s", topic, error)
