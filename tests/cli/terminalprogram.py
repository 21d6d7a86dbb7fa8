"""A program at a terminal, for the tests of ``edgeagent.cli.terminal``. It begins when it is given a line.

What it then does is its argument. ``read`` prints each byte that it reads in hex until a ``q``; ``error``
ends by an error; ``wait`` waits for a signal; ``task`` waits on an event loop, as the commands do; ``editor``
leaves the screen as a killed editor does.
"""

import asyncio
import os
import sys
import time

from edgeagent.cli.ending import run_to_end
from edgeagent.cli.terminal import Mode, Terminal


def _say(text: str) -> None:
    os.write(1, f"{text}\r\n".encode())


def main(what: str, mode: Mode) -> int:
    """Do ``what`` with the terminal in ``mode``."""
    terminal = Terminal()
    input("begun")

    def resized() -> None:
        _say(f"resized {terminal.size.columns}x{terminal.size.rows}")

    if what == "task":
        return run_to_end(_task(terminal, mode))
    with terminal.mode(mode, resized):
        _say(f"ready {terminal.size.columns}x{terminal.size.rows}")
        if what == "error":
            raise RuntimeError("an error")
        if what == "editor":
            for piece in (b"\x1b[?104", b"9h\x1b[?25l\x1b[?1h", b"\x1b[?1l\x1b[?1000;1006h"):
                os.write(1, piece)
                terminal.shown(piece)
        while what == "wait":
            time.sleep(60)
        while what == "read" and (key := os.read(0, 1)):
            _say(f"key {key.hex()}")
            if key == b"q":
                break
    return 3


async def _task(terminal: Terminal, mode: Mode) -> int:
    with terminal.mode(mode):
        _say("ready")
        try:
            await asyncio.sleep(3600)
        finally:
            _say("goodbye")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))  # type: ignore[arg-type]
