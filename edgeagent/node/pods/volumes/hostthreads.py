"""Threads for looking at the node's own paths, which may lie on a server that never answers.

A thread that waits for a dead NFS server cannot be ended. So none of these is one of a pool that others
need, each pod has one at most, and nobody waits for them: neither a pod for longer than a deadline, nor the
end of the agent.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from edgeagent.api.errors import TemporaryError

_T = TypeVar("_T")


class _Look(msgspec.Struct, frozen=True):
    """When it ``began``, in the loop's time, and what is done once its thread has ended."""

    began: float
    ended: "asyncio.Future[None]"


class HostThreads:
    """At most one thread for each pod. ``seconds``: how long an answer is waited for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._under_way: dict[str, _Look] = {}

    async def run(self, uid: str, path: str, work: Callable[[], _T], discard: Callable[[_T], None]) -> _T:
        """What ``work`` gives or raises, which looks at ``path`` for pod ``uid``.

        It waits for an earlier look of the pod to end. TemporaryError (``FailedMount``) where both take too
        long, at once where the earlier one does already. ``discard`` gets what came after nobody waited for
        it any more.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        while (before := self._under_way.get(uid)) is not None:
            if loop.time() >= min(deadline, before.began + self._seconds):
                raise _silent(path)
            await asyncio.wait([before.ended], timeout=deadline - loop.time())
        this = _Look(loop.time(), loop.create_future())
        answer: asyncio.Future[_T] = loop.create_future()

        def tell(error: BaseException | None, found: list[_T]) -> None:
            del self._under_way[uid]
            this.ended.set_result(None)
            if answer.cancelled():
                for one in found:
                    discard(one)
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found[0])

        def look() -> None:
            found: list[_T] = []
            error: BaseException | None = None
            try:
                found.append(work())
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: the agent has ended
                loop.call_soon_threadsafe(tell, error, found)

        self._under_way[uid] = this
        threading.Thread(target=look, name="host-path", daemon=True).start()
        try:
            await asyncio.wait([answer], timeout=deadline - loop.time())
        except asyncio.CancelledError:
            if answer.done() and answer.exception() is None:
                discard(answer.result())
            answer.cancel()
            raise
        if answer.done():
            return answer.result()
        answer.cancel()
        raise _silent(path)


def _silent(path: str) -> TemporaryError:
    return TemporaryError(f"{path} does not answer, is its server dead?", reason="FailedMount")
