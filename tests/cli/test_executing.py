"""A command elsewhere: its output, its input, its exit code; and the same at a real terminal, with a script
that stands in for the node.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pexpect
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.cli.executing import Execution, Sitting
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channels, StreamEndedError
from edgeagent.wire.streamapi import CONTROL, EXIT, STDERR, STDOUT, ExitStatus
from tests.cli.channelpair import served
from tests.support.waiting import wait_for_async

PROGRAM = Path(__file__).with_name("execprogram.py")


class Pipes:
    """Standard input, output and error as pipes and files of this test."""

    def __init__(self, folder: Path, given: bytes | None) -> None:
        self.keys, self.writer = os.pipe()
        if given is not None:
            os.write(self.writer, given)
        self.out, self.err = folder / "out", folder / "err"
        self.files = [os.open(path, os.O_CREAT | os.O_WRONLY) for path in (self.out, self.err)]
        self.sitting = Sitting(
            stdin=given is not None, keys=self.keys, screen=self.files[0], errors=self.files[1]
        )

    def close(self) -> None:
        """Give them back."""
        for descriptor in (self.keys, *self.files):
            os.close(descriptor)


def execute(folder: Path, serve: Callable[[Channels], Awaitable[None]], given: bytes | None = None) -> int:
    """Run what ``serve`` plays, with ``given`` as its standard input; its exit code."""
    pipes = Pipes(folder, given)
    if given is not None:
        os.close(pipes.writer)

    async def main() -> int:
        async with served(serve) as pair:
            async with asyncio.timeout(20):
                return await Execution(pair.mine, pipes.sitting).run()

    try:
        return asyncio.run(main())
    finally:
        pipes.close()
        if given is None:
            os.close(pipes.writer)


async def _exit(channels: Channels, code: int, message: str = "") -> None:
    control = await channels.open(CONTROL)
    await control.request(EXIT, canonical_json(ExitStatus(exit_code=code, message=message)))


def test_all_output_is_there_and_the_exit_code_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(channels: Channels) -> None:
        out, err = await channels.open(STDOUT), await channels.open(STDERR)
        await err.write(b"a warning\n")
        await out.write(bytes(range(256)) * 4000)
        out.end_writing()
        err.end_writing()
        await _exit(channels, 7)

    assert execute(tmp_path, serve) == 7
    assert (tmp_path / "out").read_bytes() == bytes(range(256)) * 4000
    assert (tmp_path / "err").read_bytes() == b"a warning\n"
    assert capsys.readouterr().err == "command terminated with exit code 7\n"


def test_input_reaches_the_command_with_its_end(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        out = await channels.open(STDOUT)
        stdin = await channels.accept()
        stdin.accept()
        while data := await stdin.read():
            await out.write(data.upper())
        out.end_writing()
        await _exit(channels, 0)

    given = b"some words\n" * 5000
    assert execute(tmp_path, serve, given) == 0
    assert (tmp_path / "out").read_bytes() == given.upper()


def test_a_command_that_takes_no_input_may_end_all_the_same(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        stdin = await channels.accept()
        stdin.accept()
        stdin.close()
        await _exit(channels, 0)

    assert execute(tmp_path, serve, b"nobody reads this" * 3000) == 0


def test_what_is_not_the_commands_own_doing_is_an_error_of_its_own(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        await _exit(channels, 126, "sh: not found in the container")

    with pytest.raises(PermanentError, match="sh: not found"):
        execute(tmp_path, serve)


def test_a_stream_that_ends_before_the_command_says_why(tmp_path: Path) -> None:
    async def cut(channels: Channels) -> None:
        out = await channels.open(STDOUT)
        await out.write(b"so far")
        await out.drained()
        channels.end("NotFound", "the pod was deleted")

    with pytest.raises(StreamEndedError, match="the pod was deleted"):
        execute(tmp_path, cut)
    assert (tmp_path / "out").read_bytes() == b"so far"

    async def silent(channels: Channels) -> None:
        await channels.open(STDOUT)

    with pytest.raises(StreamEndedError, match="ended before the command did"):
        execute(tmp_path, silent)


def test_output_that_nobody_takes_holds_the_command_up_and_is_not_kept() -> None:
    """What was written and not taken is what the windows and the pipe hold, and no more."""

    async def main() -> None:
        written = 0

        async def serve(channels: Channels) -> None:
            nonlocal written
            out = await channels.open(STDOUT)
            while True:
                await out.write(bytes(10_000))
                written += 10_000

        reading, screen = os.pipe()
        async with served(serve) as pair:
            running = asyncio.create_task(Execution(pair.mine, Sitting(stdin=False, screen=screen)).run())
            seen = -1

            async def still() -> bool:
                nonlocal seen
                await asyncio.sleep(0.2)
                before, seen = seen, written
                return before == seen > 0

            await wait_for_async(still)
            assert written < 300_000
            os.close(reading)  # as `| head` does
            with pytest.raises(BrokenPipeError):
                await asyncio.wait_for(running, 20)
        os.close(screen)

    asyncio.run(main())


def test_a_channel_of_another_kind_is_refused(tmp_path: Path) -> None:
    async def serve(channels: Channels) -> None:
        with pytest.raises(PermanentError, match="not expected"):
            await channels.open("more")
        await _exit(channels, 0)

    assert execute(tmp_path, serve) == 0


def at_a_terminal(*words: str, rows: int = 30, columns: int = 100) -> "pexpect.spawn[str]":
    """``execprogram`` at a terminal."""
    return pexpect.spawn(
        sys.executable, ["-W", "error", str(PROGRAM), *words], dimensions=(rows, columns), timeout=20,
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}, encoding="utf-8",
    )  # fmt: skip


def test_at_a_terminal_keys_sizes_and_the_exit_code_go_through() -> None:
    child = at_a_terminal("shell")
    child.expect("100x30")
    child.send("hello\r")
    child.expect_exact("[hello\\r]")
    child.send("\x03")
    child.expect_exact("[\\x03]")
    child.setwinsize(50, 132)
    child.expect("132x50")
    child.send("q")
    child.expect("command terminated with exit code 5")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 5


def test_a_window_that_was_resized_while_the_command_was_asked_for_is_told() -> None:
    child = at_a_terminal("late")
    child.expect("100x30")  # what the script sees
    child.expect("100x30")  # what the node is told
    child.send("q")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 5


def test_without_a_connection_it_says_so_and_ctrl_c_gives_up() -> None:
    child = at_a_terminal("pause")
    child.expect("100x30")
    child.expect_exact("no connection to the broker (^C gives up)")
    child.send("x\x03")
    child.expect("given up")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 1


def test_after_a_short_disconnection_it_goes_on() -> None:
    child = at_a_terminal("resume")
    child.expect_exact("no connection to the broker (^C gives up)")
    child.send("typed meanwhile")
    child.expect_exact("connected again")
    child.expect_exact("[typed meanwhile]")
    child.send("q")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 5


def test_ctrl_c_without_a_terminal_ends_at_once(tmp_path: Path) -> None:
    """The command is told by the end of the stream."""
    over = asyncio.Event()

    async def serve(channels: Channels) -> None:
        await channels.open(STDOUT)
        await channels.open(CONTROL)
        try:
            await asyncio.sleep(3600)
        finally:
            over.set()

    async def main() -> None:
        async with served(serve) as pair:
            running = asyncio.create_task(Execution(pair.mine, Sitting(stdin=False)).run())
            await wait_for_async(lambda: _opened(pair.mine))
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(running, 20)
        assert over.is_set()

    async def _opened(channels: Channels) -> bool:
        return len(channels._channels) == 2

    asyncio.run(main())
