"""The terminal of whoever sits there: raw while a command elsewhere has it, and as it was on every way out.

By a return, an error, ^C, SIGTERM or a closed window: the modes of the terminal are put back, and what the
command elsewhere switched on at the screen and not off again is switched off. A stopped process gives the
terminal back until it goes on. Only SIGKILL leaves a raw terminal behind; ``reset`` is for that.
"""

import contextlib
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

Mode = Literal["raw", "cbreak"]
"""``raw`` gives every key to the command, also ^C; with ``cbreak`` keys come at once, and ^C interrupts."""

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Size:
    """Characters of a terminal."""

    columns: int
    rows: int


USUAL_SIZE = Size(80, 24)
"""What is taken for a terminal that does not know its own."""


class Terminal:
    """The terminal behind the descriptors ``keys`` and ``screen``; one at a time in a process.

    To be used by the main thread, which Python gives its signals to.
    """

    def __init__(self, keys: int = 0, screen: int = 1) -> None:
        self._keys = keys
        self._screen = screen
        self._mode: Mode = "raw"
        self._before: list[Any] | None = None
        self._modes = ScreenModes()
        self._on_resize: Callable[[], None] = _nothing
        self._previous: dict[int, Any] = {}

    @staticmethod
    def is_there(keys: int = 0) -> bool:
        """Whether ``keys`` comes from a terminal."""
        try:
            return os.isatty(keys)
        except OSError:
            return False

    @property
    def size(self) -> Size:
        """The size now: of the screen, or of where the keys come from."""
        for descriptor in (self._screen, self._keys):
            with contextlib.suppress(OSError):
                found = os.get_terminal_size(descriptor)
                if found.columns > 0 and found.lines > 0:
                    return Size(found.columns, found.lines)
        return USUAL_SIZE

    def shown(self, data: bytes) -> None:
        """``data`` was written to the screen; what it switches on there is noted."""
        self._modes.feed(data)

    @contextlib.contextmanager
    def mode(self, mode: Mode, on_resize: Callable[[], None] | None = None) -> Iterator[None]:
        """The terminal in ``mode`` inside of the context, and as it was afterwards.

        ``on_resize`` is called when the size has changed, from a signal handler: with an event loop, it is
        ``call_soon_threadsafe``'s. OSError where there is no terminal.
        """
        try:
            self._before = termios.tcgetattr(self._keys)
        except termios.error as error:
            raise OSError(*error.args) from None
        self._mode = mode
        self._on_resize = on_resize or _nothing
        handlers = {
            **dict.fromkeys(_ENDING, self._ended),
            signal.SIGTSTP: self._stopped,
            signal.SIGCONT: self._continued,
            signal.SIGWINCH: self._resized,
        }
        try:
            for number, handler in handlers.items():
                self._previous[number] = signal.getsignal(number)
                signal.signal(number, handler)
            self._take()
            yield
        finally:
            self._give_back()
            self._before = None
            while self._previous:
                signal.signal(*self._previous.popitem())

    def _take(self) -> None:
        """Put the terminal into the mode, if this process is the one that it listens to."""
        try:
            if os.tcgetpgrp(self._keys) != os.getpgrp():
                return
            if self._mode == "raw":
                tty.setraw(self._keys, termios.TCSANOW)
            else:
                tty.setcbreak(self._keys, termios.TCSANOW)
        except (OSError, termios.error):
            return  # the window was closed: there is nothing to put right

    def _give_back(self) -> None:
        if self._before is None:
            return
        # From the background the kernel would stop this process, instead of letting it clean up.
        stopping = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            if left := self._modes.undo():
                with contextlib.suppress(OSError):
                    os.write(self._screen, left)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)
        finally:
            signal.signal(signal.SIGTTOU, stopping)

    def _ended(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        before = self._previous.get(number)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # Here the process stands still, until somebody has it go on.
        signal.signal(number, self._stopped)

    def _continued(self, number: int, frame: FrameType | None) -> None:
        self._take()
        self._on_resize()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._on_resize()


class ScreenModes:
    r"""What output switched on at a terminal and not off again, and how to undo it.

    ``\x1b[?1049h`` is the second screen of editors, ``\x1b[?25l`` hides the cursor, and so on:
    https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (DECSET). A command that is killed, or a
    connection that breaks, leaves them on.
    """

    _USUAL = {1: "l", 9: "l", 25: "h", 47: "l", 1000: "l", 1002: "l", 1003: "l", 1004: "l", 1005: "l",
              1006: "l", 1015: "l", 1047: "l", 1049: "l", 2004: "l"}  # fmt: skip
    """How each is on a terminal that nothing was done to."""
    _SEQUENCE = re.compile(rb"\x1b\[\?([0-9;]{1,40})([hl])")
    _LONGEST = 48

    def __init__(self) -> None:
        self._odd: dict[int, None] = {}
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Some output, in order."""
        if b"\x1b" not in data and not self._tail:
            return
        text = self._tail + data
        end = 0
        for match in self._SEQUENCE.finditer(text):
            end = match.end()
            for number in match[1].split(b";"):
                if number and (usual := self._USUAL.get(int(number))) is not None:
                    self._odd.pop(int(number), None)
                    if match[2].decode() != usual:
                        self._odd[int(number)] = None
        # A sequence may go on in the next piece.
        begun = text.rfind(b"\x1b", max(end, len(text) - self._LONGEST))
        self._tail = text[begun:] if begun >= 0 else b""

    def undo(self) -> bytes:
        """What puts the screen back; then nothing is on any more."""
        undone = "".join(f"\x1b[?{number}{self._USUAL[number]}" for number in reversed(self._odd))
        self._odd.clear()
        self._tail = b""
        return undone.encode()


def _nothing() -> None:
    """Nobody wants to know."""


def flush_output() -> None:
    """Write out what ``print`` has kept, before bytes go to the descriptor itself."""
    sys.stdout.flush()
    sys.stderr.flush()
