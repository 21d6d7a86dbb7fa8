"""The broker's listener for those who have no certificate that counts: one question, and what comes back.

Whoever answers there is not believed: the connection is encrypted, but nothing is asked of the server's
certificate. What is asked and answered must stand for itself.
"""

import asyncio
import random
from collections.abc import Sequence

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.wire.enrolment import new_channel
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig
from edgeagent.wire.tls import unverified_context
from edgeagent.wire.topics import Topics

ANSWER_SECONDS = 45.0
RETRY_FIRST_SECONDS = 1.0
RETRY_CEILING_SECONDS = 10.0


async def ask_at_door(
    payload: bytes,
    addresses: Sequence[BrokerAddress],
    topics: Topics,
    *,
    clock: Clock,
    rng: random.Random,
    patience: float = ANSWER_SECONDS,
) -> bytes:
    """What is answered to ``payload``, not yet verified. ``addresses``: of the listener, tried in turn.

    TemporaryError where there is no listener to be reached, or no answer within ``patience`` seconds.
    """
    channel = new_channel()
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connected = asyncio.Event()
    problem = "no answer"

    def received(message: Message) -> None:
        if message.topic == topics.enrolment_answer(channel) and not answer.done():
            answer.set_result(message.payload)

    def accepted(_: Connection) -> None:
        connected.set()

    def lost(reason: str) -> None:
        nonlocal problem
        problem = reason

    session = MqttSession(
        SessionConfig(
            addresses=addresses,
            client_id=channel,
            tls=unverified_context() if any(one.tls for one in addresses) else None,
            reconnect_first=RETRY_FIRST_SECONDS,
            reconnect_ceiling=RETRY_CEILING_SECONDS,
        ),
        clock=clock,
        rng=rng,
        on_message=received,
        on_connect=accepted,
        on_disconnect=lost,
    )

    async def ask() -> None:
        while True:
            await connected.wait()
            connected.clear()
            try:
                await session.subscribe([topics.enrolment_answer(channel)])
                await session.publish(topics.enrolment_request(channel), payload)
            except EdgeAgentError as error:
                lost(str(error))

    tasks = [asyncio.create_task(session.run()), asyncio.create_task(ask())]
    try:
        async with asyncio.timeout(patience):
            return await answer
    except TimeoutError:
        where = ", ".join(f"{one.host}:{one.port}" for one in addresses)
        raise TemporaryError(f"the enrolment listener ({where}): {problem}", reason="NoAnswer") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
