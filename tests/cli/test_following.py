"""Logs as they are written: whole, in whole lines where there are several, and with a prefix."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.cli.console import Output
from edgeagent.cli.following import LONGEST_LINE, print_logs
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, Channels, StreamEndedError
from edgeagent.wire.streamapi import LOG, LogChannel
from tests.cli.channelpair import served

Serve = Callable[[Channels], Awaitable[None]]


async def _log(channels: Channels, container: str) -> Channel:
    return await channels.open(LOG, canonical_json(LogChannel(container=container)))


def follow(folder: Path, serve: Serve, *, by_line: bool = False, prefix: str = "") -> bytes:
    """What is printed of what ``serve`` plays; ``prefix`` with ``{}`` for the container."""
    path = folder / "out"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)

    async def main() -> None:
        async with served(serve) as pair, asyncio.timeout(20):
            await print_logs(pair.mine, Output(descriptor), prefix=prefix.format, by_line=by_line)

    try:
        asyncio.run(main())
    finally:
        os.close(descriptor)
    return path.read_bytes()


def test_one_log_is_printed_byte_for_byte(tmp_path: Path) -> None:
    text = bytes(range(256)) * 2000

    async def serve(channels: Channels) -> None:
        log = await _log(channels, "web")
        await log.write(text)

    assert follow(tmp_path, serve) == text


def test_lines_of_several_are_whole_and_marked(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        a, b = await _log(channels, "a"), await _log(channels, "b")
        for part in (b"one ", b"two\nthr", b"ee\nwith\rreturn\x0band more"):
            await a.write(part)
            await b.write(part)
            for channel in (a, b):
                await channel.drained()
            await asyncio.sleep(0.01)
        a.end_writing()
        b.close()

    lines = follow(tmp_path, serve, by_line=True, prefix="[pod/web/{}] ").splitlines(keepends=False)
    text = b"\n".join(lines)
    for name in (b"a", b"b"):
        mark = b"[pod/web/" + name + b"] "
        mine = [line for line in text.split(b"\n") if line.startswith(mark + b"one")]
        assert mine == [mark + b"one two"]
    assert text.count(b"[pod/web/a] three") == text.count(b"[pod/web/b] three") == 1


def test_a_line_that_is_written_over_is_one_line(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        log = await _log(channels, "web")
        await log.write(b"10%\r20%\rdone\n\nnext\r\n\x85\x0c|")

    printed = follow(tmp_path, serve, prefix="{}: ")
    assert printed == b"web: 10%\r20%\rdone\nweb: \nweb: next\r\nweb: \x85\x0c|\n"


def test_a_line_without_an_end_is_not_kept_for_ever(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        log = await _log(channels, "a")
        await log.write(b"x" * (3 * LONGEST_LINE))

    printed = follow(tmp_path, serve, by_line=True)
    assert printed.count(b"x") == 3 * LONGEST_LINE
    assert max(map(len, printed.split(b"\n"))) < 2 * LONGEST_LINE


def test_a_stream_that_does_not_end_well_says_so_after_what_there_was(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        log = await _log(channels, "a")
        await log.write(b"so far\n")
        await log.drained()
        channels.end("Forbidden", "the right was taken away")

    with pytest.raises(StreamEndedError, match="taken away"):
        follow(tmp_path, serve)
    assert (tmp_path / "out").read_bytes() == b"so far\n"
