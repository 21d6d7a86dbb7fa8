"""Calls from this node to the hub, over the session that is up: bytes out, bytes back.

May not know what a call means, or believe an answer: what comes back is whatever the broker passed on.
"""

import asyncio
import secrets

from edgeagent.api.errors import TemporaryError
from edgeagent.wire.session import Message, MqttSession
from edgeagent.wire.topics import Topics

ANSWER_SECONDS = 30.0
CORRELATION_BYTES = 16


class HubCalls:
    """Makes the calls; ``deliver`` takes what comes in below this node's ``replies/``."""

    def __init__(
        self, session: MqttSession, topics: Topics, node: str, *, patience: float = ANSWER_SECONDS
    ) -> None:
        """``patience``: how long an answer may take, in seconds."""
        self._session = session
        self._topics = topics
        self._node = node
        self._patience = patience
        self._reply = topics.replies(node, secrets.token_hex(8))
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}

    async def call(self, method: str, payload: bytes) -> bytes:
        """The answer to ``payload``, not yet verified.

        TemporaryError where there is no connection or no answer, PermanentError where the broker refuses.
        """
        correlation = secrets.token_bytes(CORRELATION_BYTES)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = answer
        try:
            await self._session.subscribe([self._reply])
            await self._session.publish(
                self._topics.hub_rpc(self._node, method),
                payload,
                response_topic=self._reply,
                correlation=correlation,
            )
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError:
            raise TemporaryError(
                f"the hub did not answer in {self._patience:.0f} s", reason="NoAnswer"
            ) from None
        finally:
            del self._waiting[correlation]

    def deliver(self, message: Message) -> None:
        """An answer came in; one that nobody waits for is passed over."""
        answer = self._waiting.get(message.correlation)
        if answer is not None and message.topic == self._reply and not answer.done():
            answer.set_result(message.payload)
