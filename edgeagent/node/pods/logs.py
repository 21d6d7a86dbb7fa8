"""Reading a container's log file: its last lines, joined and stripped of the runtime's prefix.

The format is CRI's: ``<RFC 3339 time> <stdout|stderr> <P|F> <text>``, where P marks a part of a line.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent.wire.rpc import LogsResult

BLOCK = 65536
MAX_SCAN_BYTES = 16_000_000
"""How far back a log is searched for the lines asked for."""


class LogError(PermanentError):
    """The log asked for is not there; ``reason`` as Kubernetes' StatusReason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


def read_log(path: Path, *, tail_lines: int | None, timestamps: bool, limit: int) -> LogsResult:
    """The last ``tail_lines`` lines (None: all), at most ``limit`` bytes of them; the end is what is kept."""
    chosen: list[bytes] = []
    size = 0
    truncated = False
    try:
        with open(path, "rb") as file:
            for line in _lines_backwards(file.fileno()):
                text = _formatted(line, timestamps)
                whole = not text.endswith(b"\n") or not chosen or chosen[-1].endswith(b"\n")
                if tail_lines is not None and _count(chosen) >= tail_lines and text.endswith(b"\n") and whole:
                    break
                if size + len(text) > limit:
                    truncated = True
                    break
                chosen.append(text)
                size += len(text)
    except FileNotFoundError:
        raise LogError("NotFound", "the container has no log file (yet, or any more)") from None
    except OSError as error:
        raise LogError("InternalError", f"the log cannot be read: {error.strerror}") from None
    if tail_lines == 0:
        return LogsResult(text=b"")
    return LogsResult(text=b"".join(reversed(chosen)), truncated=truncated)


def _count(chosen: list[bytes]) -> int:
    """How many lines the pieces make; the newest piece may be of a line that is not finished."""
    return sum(1 for index, text in enumerate(chosen) if text.endswith(b"\n") or index == 0)


def _formatted(line: bytes, timestamps: bool) -> bytes:
    time, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, separator, text = rest.partition(b" ")
    if stream not in (b"stdout", b"stderr") or not separator:
        return line + b"\n"
    end = b"" if tag == b"P" else b"\n"
    return (time + b" " if timestamps else b"") + text + end


def _lines_backwards(descriptor: int) -> Iterator[bytes]:
    """The file's whole lines, the last first, without their ends."""
    position = os.fstat(descriptor).st_size
    stop = max(0, position - MAX_SCAN_BYTES)
    rest = b""
    while position > stop:
        start = max(stop, position - BLOCK)
        block = os.pread(descriptor, position - start, start) + rest
        position = start
        lines = block.split(b"\n")
        rest = lines[0]
        for line in reversed(lines[1:]):
            if line:
                yield line
    if rest and stop == 0:
        yield rest
