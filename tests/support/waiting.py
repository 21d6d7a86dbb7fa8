"""Waiting for something to become true, with a deadline, where nothing can be awaited directly."""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast, overload

T = TypeVar("T")

INTERVAL = 0.02


class WaitTimeout(AssertionError):
    """What was waited for did not happen in time."""


def _message(what: str, timeout: float, last: object) -> str:
    return f"not within {timeout:g} s: {what} (last seen: {last!r})"


def wait_for(
    predicate: Callable[[], T], timeout: float = 10.0, what: str = "the condition", interval: float = INTERVAL
) -> T:
    """Call ``predicate`` until it is truthy and return its answer; ``WaitTimeout`` after ``timeout``."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeout(_message(what, timeout, result))
        pause.wait(interval)


@overload
async def wait_for_async(
    predicate: Callable[[], Awaitable[T]], timeout: float = ..., what: str = ..., interval: float = ...
) -> T: ...
@overload
async def wait_for_async(
    predicate: Callable[[], T], timeout: float = ..., what: str = ..., interval: float = ...
) -> T: ...
async def wait_for_async(
    predicate: Callable[[], T | Awaitable[T]],
    timeout: float = 10.0,
    what: str = "the condition",
    interval: float = INTERVAL,
) -> T:
    """``wait_for`` on an event loop; ``predicate`` may be a plain or an async function."""
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        result = cast(T, await answer if inspect.isawaitable(answer) else answer)
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeout(_message(what, timeout, result))
        await asyncio.sleep(interval)
