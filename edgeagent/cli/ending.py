"""Running a command that must say goodbye: SIGTERM and SIGHUP end it, but not before it has."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any

GOODBYE_SECONDS = 3.0
"""How long a command that was told to end may take for it."""
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def run_to_end(main: Coroutine[Any, Any, int]) -> int:
    """As ``asyncio.run``. A first SIGTERM or SIGHUP cancels ``main``; then the process ends by that signal.

    A second one ends it at once. KeyboardInterrupt after ^C, as with ``asyncio.run``.
    """
    ended: list[int] = []

    async def watched() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int, frame: FrameType | None) -> None:
            ended.append(number)
            signal.signal(number, signal.SIG_DFL)
            loop.call_soon_threadsafe(loop.call_later, GOODBYE_SECONDS, os.kill, os.getpid(), number)
            loop.call_soon_threadsafe(task.cancel)

        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup(1) has it ignored
                signal.signal(number, end)
        return await main

    before = {number: signal.getsignal(number) for number in _ENDING}
    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if not ended:
            raise
        signal.signal(ended[0], signal.SIG_DFL)
        signal.raise_signal(ended[0])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
