"""Trying whether a broker lets a client in: one connection, and goodbye."""

import asyncio
import random
import secrets
import ssl
from collections.abc import Sequence

from edgeagent.api.clock import Clock
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.session import MqttSession, SessionConfig


async def try_connection(
    addresses: Sequence[BrokerAddress], tls: ssl.SSLContext | None, *, clock: Clock, rng: random.Random
) -> str:
    """Why none of ``addresses`` lets in who connects with ``tls``; empty where one does.

    Under a client id of its own, so that no other session is disturbed.
    """
    reason = ""
    for address in addresses:
        reason = await _try(
            SessionConfig(addresses=[address], client_id=f"try-{secrets.token_hex(12)}", tls=tls), clock, rng
        )
        if not reason:
            break
    return reason


async def _try(config: SessionConfig, clock: Clock, rng: random.Random) -> str:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def settle(reason: str) -> None:
        if not outcome.done():
            outcome.set_result(reason)

    session = MqttSession(
        config,
        clock=clock,
        rng=rng,
        on_message=lambda _: None,
        on_connect=lambda _: settle(""),
        on_disconnect=settle,
    )
    task = asyncio.create_task(session.run())
    try:
        return await outcome
    finally:
        task.cancel()
        await asyncio.wait([task])
