"""A real terminal, taken and given back: by a return, an error, signals, a stop and a closed window."""

import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.cli.terminal import USUAL_SIZE, ScreenModes, Terminal
from tests.support.waiting import wait_for

PROGRAM = Path(__file__).with_name("terminalprogram.py")


class Sitting:
    """Somebody at a terminal of 100 columns and 30 rows, in which ``terminalprogram`` has begun."""

    def __init__(self, what: str, mode: str = "raw") -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-W", "error", str(PROGRAM), what, mode],
            dimensions=(30, 100),
            timeout=20,
            env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
        )
        self.child.expect("begun")
        self.before = self.modes()
        self.child.sendline()
        self.child.expect("ready")

    def modes(self) -> list[Any]:
        """Those of the terminal, as termios has them."""
        return termios.tcgetattr(self.child.child_fd)

    @property
    def is_raw(self) -> bool:
        """Whether keys come as they are."""
        return not self.modes()[3] & termios.ICANON

    def end(self) -> tuple[int | None, int | None]:
        """Wait for its end: exit code and signal, one of them None."""
        self.child.expect(pexpect.EOF)
        self.child.wait()
        return self.child.exitstatus, self.child.signalstatus


@pytest.fixture
def sit() -> Iterator[Callable[..., Sitting]]:
    """Sit down; everybody gets up after the test."""
    sitting: list[Sitting] = []

    def make(*words: str) -> Sitting:
        sitting.append(Sitting(*words))
        return sitting[-1]

    yield make
    for one in sitting:
        one.child.close(force=True)


def test_every_key_reaches_the_command_and_the_modes_come_back(sit: Callable[..., Sitting]) -> None:
    there = sit("read")
    assert there.is_raw
    assert not there.modes()[3] & termios.ECHO
    for key in (b"\x03", b"\x1a", b"\x1c", b"\x11", b"\r", b"\x04", b"\xff"):
        there.child.send(key)
        there.child.expect_exact(f"key {key.hex()}\r\n")
    there.child.send("q")
    assert there.end() == (3, None)
    assert there.modes() == there.before


def test_with_cbreak_keys_come_at_once_and_ctrl_c_interrupts(sit: Callable[..., Sitting]) -> None:
    there = sit("read", "cbreak")
    there.child.send("s")
    there.child.expect("key 73")
    there.child.sendintr()
    there.child.expect("KeyboardInterrupt")
    there.end()
    assert there.modes() == there.before


@pytest.mark.parametrize("mode", ["raw", "cbreak"])
def test_an_error_gives_the_terminal_back(sit: Callable[..., Sitting], mode: str) -> None:
    there = sit("error", mode)
    there.child.expect("RuntimeError: an error")
    assert there.end() == (1, None)
    assert there.modes() == there.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_gives_the_terminal_back_and_ends_as_ever(
    sit: Callable[..., Sitting], number: signal.Signals
) -> None:
    there = sit("wait")
    there.child.kill(number)
    assert there.end() == (None, number)
    assert there.modes() == there.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_task_says_goodbye_and_ends_by_the_signal(
    sit: Callable[..., Sitting], number: signal.Signals
) -> None:
    there = sit("task")
    there.child.kill(number)
    there.child.expect("goodbye")
    assert there.end() == (None, number)
    assert there.modes() == there.before


def test_a_new_size_is_told(sit: Callable[..., Sitting]) -> None:
    there = sit("wait")
    there.child.expect("100x30")
    there.child.setwinsize(50, 132)
    there.child.expect("resized 132x50")


def test_a_stopped_process_gives_the_terminal_back_until_it_goes_on(sit: Callable[..., Sitting]) -> None:
    there = sit("wait")
    for _ in range(2):
        there.child.kill(signal.SIGTSTP)
        wait_for(lambda: not there.is_raw, 10, "the terminal as it was")
        assert there.modes() == there.before
        there.child.setwinsize(20, 90)
        there.child.kill(signal.SIGCONT)
        there.child.expect("resized 90x20")
        wait_for(lambda: there.is_raw, 10, "the raw terminal")
    there.child.kill(signal.SIGTERM)
    assert there.end() == (None, signal.SIGTERM)
    assert there.modes() == there.before


def test_a_screen_as_a_killed_editor_leaves_it_is_put_back(sit: Callable[..., Sitting]) -> None:
    there = sit("editor")
    assert there.end() == (3, None)
    shown: Any = there.child.before
    assert shown.endswith(b"\x1b[?1006l\x1b[?1000l\x1b[?25h\x1b[?1049l")


def test_what_is_no_terminal_is_told_so(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file:
        terminal = Terminal(file.fileno(), file.fileno())
        assert not Terminal.is_there(file.fileno())
        assert terminal.size == USUAL_SIZE
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(OSError, match="ioctl"), terminal.mode("raw"):
            raise AssertionError
        assert signal.getsignal(signal.SIGTERM) is handler
    assert not Terminal.is_there(10_000)


def test_plain_output_leaves_nothing_behind() -> None:
    modes = ScreenModes()
    modes.feed(b"hello\x1b[31m red \x1b[0m \x1b[?25l\x1b[?25h \x1b[?9999h \x1b[?h")
    assert modes.undo() == b""


_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25l", b"\x1b[?25h", b"\x1b[?1;2004h", b"\x1b"]
        ),
        st.binary(max_size=4),
    ),
    max_size=12,
)


@given(pieces=_PIECES, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_pieces_say_the_same_as_the_whole(pieces: list[bytes], cuts: list[int]) -> None:
    text = b"".join(pieces)
    whole, parts = ScreenModes(), ScreenModes()
    whole.feed(text)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True):
        parts.feed(text[start : max(start, end)])
    undone = whole.undo()
    assert parts.undo() == undone
    after = ScreenModes()
    after.feed(text + undone)
    assert after.undo() == b""
