"""A command in a container, at this terminal: what ``edgectl exec`` and ``edgeagent exec`` share.

Works with the channels of a stream (``edgeagent.wire.streamapi``) and may not know what carries it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.console import Input, Output, write_all
from edgeagent.cli.terminal import Size, Terminal, flush_output
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, ChannelClosedError, Channels, StreamEndedError
from edgeagent.wire.streamapi import CONTROL, EXIT, RESIZE, STDERR, STDIN, STDOUT, ExitStatus, TerminalSize

INTERRUPT = b"\x03"
"""What ^C is to a raw terminal."""


class GivenUpError(EdgeAgentError):
    """Whoever sits there has had enough of waiting for the connection."""


@dataclass(slots=True)
class Sitting:
    """Where a command is to be seen and given its input. ``terminal`` None: no terminal is asked for.

    ``stdin`` is whether the command gets what comes in here.
    """

    stdin: bool
    terminal: Terminal | None = None
    keys: int = 0
    screen: int = 1
    errors: int = 2

    @property
    def size(self) -> Size:
        """Of the terminal; nothing where there is none."""
        return self.terminal.size if self.terminal is not None else Size(0, 0)


def sit_down(*, stdin: bool, tty: bool, warn: Callable[[str], None]) -> Sitting:
    """Standard input and output for a command. As with kubectl, no terminal without ``stdin``."""
    if tty and stdin and not Terminal.is_there():
        warn("Unable to use a TTY - input is not a terminal or the right kind of file")
    wanted = tty and stdin and Terminal.is_there()
    return Sitting(stdin=stdin, terminal=Terminal() if wanted else None)


class Execution:
    """One command. ``paused`` and ``resumed`` are told of short disconnections, with words for a person.

    ``began`` is the size that the command was asked for with, where that was a while ago.
    """

    def __init__(self, channels: Channels, sitting: Sitting, began: Size | None = None) -> None:
        self._channels = channels
        self._sitting = sitting
        self._size = began or sitting.size
        self._paused = False
        self._resized = asyncio.Event()
        self._control: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

    def paused(self, words: str) -> None:
        """There is no connection for the moment."""
        self._paused = True
        give_up = " (^C gives up)" if self._sitting.terminal is not None else ""
        self._tell(f"{words}{give_up}")

    def resumed(self, words: str) -> None:
        """There is one again."""
        self._paused = False
        self._tell(words)

    async def run(self) -> int:
        """Until the command has ended: its exit code, which standard error is told where it is not 0.

        StreamEndedError where it was not the command that ended it.
        """
        flush_output()
        terminal = self._sitting.terminal
        if terminal is None:
            status = await self._run()
        else:
            loop = asyncio.get_running_loop()

            def resized() -> None:
                loop.call_soon_threadsafe(self._resized.set)

            with terminal.mode("raw", resized):
                status = await self._run()
        if status.message:
            raise PermanentError(status.message)
        if status.exit_code:
            print(f"command terminated with exit code {status.exit_code}", file=sys.stderr)
        return status.exit_code

    async def _run(self) -> ExitStatus:
        sitting, terminal = self._sitting, self._sitting.terminal
        out = Output(sitting.screen, terminal.shown if terminal is not None else None)
        outputs = {STDOUT: out, STDERR: Output(sitting.errors)}
        try:
            async with asyncio.TaskGroup() as tasks:
                shown: list[asyncio.Task[None]] = []
                others = [tasks.create_task(self._accept(tasks, outputs, shown))]
                if sitting.stdin:
                    others.append(tasks.create_task(self._feed()))
                if terminal is not None:
                    others.append(tasks.create_task(self._resize()))
                ended = await self._exit_status()
                await asyncio.gather(*shown)  # what it printed last is on its way still
                for task in others:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if isinstance(ended, StreamEndedError):
            raise ended
        return ended

    async def _accept(
        self, tasks: asyncio.TaskGroup, outputs: dict[str, Output], shown: "list[asyncio.Task[None]]"
    ) -> None:
        with contextlib.suppress(StreamEndedError):
            while True:
                channel = await self._channels.accept()
                if channel.kind == CONTROL and not self._control.done():
                    channel.accept()
                    self._control.set_result(channel)
                elif (output := outputs.pop(channel.kind, None)) is not None:
                    channel.accept()
                    shown.append(tasks.create_task(_show(channel, output)))
                else:
                    channel.refuse("BadRequest", f"a channel {channel.kind!r} was not expected")

    async def _exit_status(self) -> ExitStatus | StreamEndedError:
        """How the command ended, or what the stream ended with before."""
        over = asyncio.ensure_future(self._channels.ended())
        try:
            both: set[asyncio.Future[Any]] = {self._control, over}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not self._control.done():
                return _unfinished(over.result())
        finally:
            over.cancel()
        control = self._control.result()
        try:
            while (asked := await control.next_request()) is not None:
                if asked[0] == EXIT:
                    return decode_json(asked[1], ExitStatus)
        except StreamEndedError as ended:
            return _unfinished(ended)
        return _unfinished(StreamEndedError("", ""))

    async def _feed(self) -> None:
        """What comes in here goes to the command. That it does not want more is no error."""
        given = Input(self._sitting.keys)
        with contextlib.suppress(StreamEndedError, ChannelClosedError):
            channel = await self._channels.open(STDIN)
            while data := await given.read():
                if self._paused and self._sitting.terminal is not None and INTERRUPT in data:
                    raise GivenUpError("there is no connection: given up. The command may go on for a while")
                await channel.write(data)
            channel.end_writing()

    async def _resize(self) -> None:
        size = self._size
        with contextlib.suppress(StreamEndedError, ChannelClosedError):
            control = await asyncio.shield(self._control)
            while True:
                if (now := self._sitting.size) != size:
                    size = now
                    value = canonical_json(TerminalSize(columns=size.columns, rows=size.rows))
                    await control.request(RESIZE, value)
                    continue
                self._resized.clear()
                await self._resized.wait()

    def _tell(self, words: str) -> None:
        """A line for a person, also on a raw terminal."""
        raw = self._sitting.terminal is not None
        line = f"\r\n{words}\r\n" if raw else f"{words}\n"
        with contextlib.suppress(OSError):
            write_all(self._sitting.errors, line.encode())


async def _show(channel: Channel, output: Output) -> None:
    with contextlib.suppress(StreamEndedError):
        while data := await channel.read():
            await output.write(data)
    channel.close()


def _unfinished(ended: StreamEndedError) -> StreamEndedError:
    message = str(ended) if ended.reason else "the stream ended before the command did"
    return StreamEndedError(ended.reason or "StreamEnded", message)
