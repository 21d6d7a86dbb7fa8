"""Two ends of a stream in one process, for what works with channels: a node's side, played by a test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from edgeagent.node.streams.service import run_stream
from edgeagent.wire.channelio import Channels


class Pair:
    """``mine`` is the program's end, ``theirs`` the node's. Nothing moves while ``held`` is set."""

    def __init__(self) -> None:
        self.mine = Channels(client=True, on_frames=self._wake)
        self.theirs = Channels(client=False, on_frames=self._wake)
        self.held = False
        self._due: asyncio.Handle | None = None

    def _wake(self) -> None:
        if self._due is None and not self.held:
            self._due = asyncio.get_running_loop().call_soon(self._carry)

    def release(self) -> None:
        """Let frames through again."""
        self.held = False
        self._wake()

    def _carry(self) -> None:
        self._due = None
        for source, target in ((self.mine, self.theirs), (self.theirs, self.mine)):
            while not self.held and (frame := source.next_frame()) is not None:
                if target.mux.ended is None:
                    target.receive(frame)


@asynccontextmanager
async def served(serve: Callable[[Channels], Awaitable[None]]) -> AsyncIterator[Pair]:
    """A stream that ``serve`` serves, as a node would have it."""
    pair = Pair()
    serving = asyncio.create_task(run_stream(serve, pair.theirs))
    try:
        yield pair
    finally:
        pair.mine.end()
        pair.release()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
