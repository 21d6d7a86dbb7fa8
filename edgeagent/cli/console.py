"""Standard input and output as a stream's ends: bytes, without holding up the event loop.

The descriptors stay blocking: whoever started this program shares them with it, and would find its own in
another mode.
"""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable

from edgeagent.api.errors import PermanentError

READ_BYTES = 16_000
STDOUT = 1


class Input:
    """What comes in at a descriptor, read when it is asked for."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor

    async def read(self) -> bytes:
        """The next bytes, ``b""`` at the end; the end, too, where it was closed or its terminal is gone."""
        while True:
            try:
                await self._readable()
                return os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        there: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(self._descriptor, _settle, there, None)
        except PermissionError:
            return  # a plain file, which epoll does not take: it can always be read
        try:
            await there
        finally:
            loop.remove_reader(self._descriptor)


class Output:
    """What goes out at a descriptor, in order. Writing waits until it is taken: nothing piles up here.

    ``on_written`` is told each piece. A thread of its own writes: a terminal that was stopped, or a program
    that does not read, blocks nothing else, and does not keep this program from ending.
    """

    def __init__(self, descriptor: int, on_written: Callable[[bytes], None] | None = None) -> None:
        self._descriptor = descriptor
        self._on_written = on_written
        self._wanted: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, data: bytes) -> None:
        """Write all of it; BrokenPipeError where nobody reads any more, PermanentError where it cannot be."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            name = f"output {self._descriptor}"
            self._thread = threading.Thread(target=self._serve, args=(loop,), name=name, daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = loop.create_future()
        self._wanted.put((data, done))
        try:
            await done
        except BrokenPipeError:
            raise
        except OSError as error:
            what = {1: "standard output", 2: "standard error"}.get(self._descriptor, "the output")
            raise PermanentError(f"{what} cannot be written: {error.strerror}") from None
        if self._on_written is not None:
            self._on_written(data)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            data, done = self._wanted.get()
            error: OSError | None = None
            try:
                write_all(self._descriptor, data)
            except OSError as failed:
                error = failed
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(_settle, done, error)


def _settle(done: "asyncio.Future[None]", error: OSError | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(None)


def write_all(descriptor: int, data: bytes) -> None:
    """Write ``data``, in as many pieces as the descriptor takes it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
