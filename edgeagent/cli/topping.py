"""``edgeagent top`` at a terminal: looks again every two seconds, and minds the keys in between."""

import asyncio
import sys
from collections.abc import Callable

from edgeagent.api.errors import EdgeAgentError
from edgeagent.cli.console import STDOUT, Input, Output
from edgeagent.cli.output import wants_colour
from edgeagent.cli.terminal import Terminal, flush_output
from edgeagent.cli.topscreen import Look, Picture, SortBy, draw

ENTER, HOME, END_OF_LINE, REST = b"\x1b[?1049h\x1b[?25l", b"\x1b[H", b"\x1b[K", b"\x1b[J"
"""The second screen and no cursor; to its first place; clear the line's rest; clear what is below."""


class Top:
    """``look`` asks the agent, in a thread of its own, and raises EdgeAgentError where it does not answer."""

    def __init__(self, look: Callable[[], Picture], sort_by: SortBy, *, refresh: float) -> None:
        self._look = look
        self._sort_by: SortBy = sort_by
        self._refresh = refresh
        self._terminal = Terminal()
        self._picture: Picture | None = None
        self._problem = ""
        self._dirty = asyncio.Event()

    async def run(self) -> int:
        """Until ``q``. An agent that does not answer at first is an error, later a line on the screen."""
        self._picture = await asyncio.to_thread(self._look)
        flush_output()
        loop = asyncio.get_running_loop()

        def resized() -> None:
            loop.call_soon_threadsafe(self._dirty.set)

        with self._terminal.mode("cbreak", resized):
            output = Output(STDOUT, self._terminal.shown)
            await output.write(ENTER)
            keys = asyncio.create_task(self._keys())
            others = [asyncio.create_task(self._follow()), asyncio.create_task(self._show(output))]
            try:
                done, _ = await asyncio.wait({keys, *others}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in (keys, *others):
                    task.cancel()
                await asyncio.gather(keys, *others, return_exceptions=True)
        return 0

    async def _keys(self) -> None:
        keys = Input()
        while pressed := await keys.read():
            for key in pressed.decode("ascii", "ignore").lower():
                if key == "q":
                    return
                if key == "s":
                    self._sort_by = "memory" if self._sort_by == "cpu" else "cpu"
                    self._dirty.set()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh)
            try:
                self._picture, self._problem = await asyncio.to_thread(self._look), ""
            except EdgeAgentError as error:
                self._problem = str(error)
            self._dirty.set()

    async def _show(self, output: Output) -> None:
        colour = wants_colour(sys.stdout)
        while True:
            self._dirty.clear()
            if self._picture is not None:
                look = Look(self._terminal.size, self._sort_by, colour=colour, problem=self._problem)
                lines = draw(self._picture, look)
                page = (END_OF_LINE + b"\r\n").join(line.encode() for line in lines)
                await output.write(HOME + page + END_OF_LINE + REST)
            await self._dirty.wait()
