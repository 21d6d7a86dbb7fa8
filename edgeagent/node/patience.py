"""Waiting for something for a time of the injected clock."""

import asyncio
from collections.abc import Awaitable

from edgeagent.api.clock import Clock


async def within(clock: Clock, seconds: float, awaited: Awaitable[object]) -> bool:
    """Whether ``awaited`` comes to its end within ``seconds``; else it is cancelled. Its error is raised."""
    task = asyncio.ensure_future(awaited)
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        task.cancel()
        sleeper.cancel()
