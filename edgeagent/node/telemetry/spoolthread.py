"""The spool as the loop uses it: one call after the other, on a thread of its own, for disks are slow."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from edgeagent.node.store.spool import Spool

T = TypeVar("T")


class SpoolThread:
    """Opens the file ``path`` at the first call: a node without sinks and exporters never makes it."""

    def __init__(self, path: Path, open_spool: Callable[[Path], Spool]) -> None:
        self._path = path
        self._open = open_spool
        self._spool: Spool | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a file already."""
        return self._path.exists()

    @property
    def opened(self) -> Spool | None:
        """The spool, for a look at what it counts; None while nothing has used it."""
        return self._spool

    async def call(self, work: Callable[[Spool], T]) -> T:
        """What ``work`` answers when it is given the spool; raises what it raises.

        Once begun it is done to its end, whether or not the caller is still there.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def _do(self, work: Callable[[Spool], T]) -> T:
        if self._spool is None:
            self._spool = self._open(self._path)
        return work(self._spool)

    async def close(self) -> None:
        """After what is under way."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(thread, self._close)
        thread.shutdown()

    def _close(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None
