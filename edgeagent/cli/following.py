"""Logs as they are written: what ``edgectl logs`` and ``edgeagent logs`` share.

Works with the channels of a stream (``edgeagent.wire.streamapi``) and may not know what carries it.
"""

import asyncio
import contextlib
from collections.abc import Callable

from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.console import Output
from edgeagent.wire.channelio import Channel, Channels, StreamEndedError
from edgeagent.wire.streamapi import LOG, LogChannel

LONGEST_LINE = 65_536
"""A longer line is printed in pieces, between which another container's may come."""


async def print_logs(
    channels: Channels, output: Output, *, prefix: Callable[[str], str], by_line: bool
) -> None:
    """Print each log that the node tells of, until it ends the stream.

    ``prefix`` gives what stands before each line of a container. ``by_line``: there are several, and what is
    printed of one at a time is whole lines; else bytes are printed as they come. StreamEndedError, with its
    reason, where the stream did not end well.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    channel = await channels.accept()
                except StreamEndedError as ended:
                    over = ended
                    break
                if channel.kind != LOG:
                    channel.refuse("BadRequest", f"a channel {channel.kind!r} was not expected")
                    continue
                container = decode_json(channel.value, LogChannel).container
                channel.accept()
                lines = _Lines(prefix(container).encode(), by_line=by_line)
                tasks.create_task(_print(channel, output, lines))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    if over.reason:
        raise over


async def _print(channel: Channel, output: Output, lines: "_Lines") -> None:
    with contextlib.suppress(StreamEndedError):
        while data := await channel.read():
            if ready := lines.feed(data):
                await output.write(ready)
    if rest := lines.end():
        await output.write(rest)
    channel.close()


class _Lines:
    """Bytes of one log as they are to be printed: with a prefix, or by lines, or as they come."""

    def __init__(self, prefix: bytes, *, by_line: bool) -> None:
        self._prefix = prefix
        self._by_line = by_line or bool(prefix)
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """What can be printed now."""
        if not self._by_line:
            return data
        text = self._kept + data
        whole, newline, self._kept = text.rpartition(b"\n")
        ready = whole + newline
        if len(self._kept) > LONGEST_LINE:
            ready += self._kept + b"\n"
            self._kept = b""
        return self._marked(ready)

    def end(self) -> bytes:
        """What is left: a line that was never ended."""
        rest, self._kept = self._kept, b""
        return self._marked(rest + b"\n") if rest else b""

    def _marked(self, lines: bytes) -> bytes:
        if not self._prefix or not lines:
            return lines
        # A carriage return ends no line: progress bars go back by it.
        whole = lines.removesuffix(b"\n")
        return self._prefix + whole.replace(b"\n", b"\n" + self._prefix) + lines[len(whole) :]
