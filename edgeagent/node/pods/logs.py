"""Reading a container's log file: its last lines, joined and stripped of the runtime's prefix.

The format is CRI's: ``<RFC 3339 time> <stdout|stderr> <P|F> <text>``, where P marks a part of a line. Before
the file come the rotated ones, ``<log>.1`` the newest (``edgeagent.node.pressure.logs`` makes them).
"""

import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.errors import PermanentError
from edgeagent.wire.rpc import LogsResult

BLOCK = 65536
MAX_SCAN_BYTES = 16_000_000
"""How far back a log is searched for the lines asked for."""
MAX_ROTATED = 100
"""How many rotated files are looked for: as many as the configuration allows."""


class LogError(PermanentError):
    """The log asked for is not there; ``reason`` as Kubernetes' StatusReason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


def read_log(
    path: Path, *, tail_lines: int | None, timestamps: bool, limit: int, since: float = 0
) -> LogsResult:
    """The last ``tail_lines`` lines (None: all), at most ``limit`` bytes of them; the end is what is kept.

    ``since``: nothing older than this, in seconds since the epoch. Rotated files are read too, as far as is
    needed. LogError where there is no log.
    """
    kept = _Kept(limit)
    try:
        with closing(_files_backwards(path)) as files:
            if (newest := next(files, None)) is None:
                raise LogError("NotFound", "the container has no log file (yet, or any more)")
            records = _records_of_all(itertools.chain((newest,), files))
            _collect(records, kept, tail_lines, timestamps, since)
    except OSError as error:
        raise LogError("InternalError", f"the log cannot be read: {error.strerror}") from None
    return LogsResult(text=b"".join(reversed(kept.pieces)), truncated=kept.truncated)


class _Kept:
    """What is taken of a log, from its end on: ``pieces`` newest first, no more than there is room for."""

    def __init__(self, room: int) -> None:
        self.pieces: list[bytes] = []
        self.truncated = False
        self._room = room

    def take(self, text: bytes) -> None:
        if len(text) > self._room:
            self.truncated = True
            text = text[len(text) - self._room :]
        if text:
            self._room -= len(text)
            self.pieces.append(text)


def _collect(
    records: Iterator[bytes | None], kept: _Kept, tail_lines: int | None, timestamps: bool, since: float
) -> None:
    if tail_lines == 0:
        return
    lines, began = 0, b""  # the time of the oldest piece so far, which a line shows once
    for record in records:
        if record is None:
            kept.truncated = True
            return
        time, text, ends = parsed(record)
        if since and time_of(time) < since:
            break
        if ends and kept.pieces:  # so the piece before it was the beginning of a line
            kept.take(began)
            lines += 1
            if lines == tail_lines:
                return
        kept.take(text + b"\n" if ends else text)
        if kept.truncated:
            return
        began = time + b" " if timestamps and time else b""
    if kept.pieces:
        kept.take(began)


def time_of(time: bytes) -> float:
    """Seconds since the epoch; infinity for what is no time, so that nothing is left out for it."""
    try:
        return parse_rfc3339(time.decode("ascii"))
    except (ValueError, OverflowError):
        return float("inf")


def parsed(record: bytes) -> tuple[bytes, bytes, bool]:
    """Time, text, and whether a line ends with it."""
    time, _, rest = record.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, separator, text = rest.partition(b" ")
    if stream not in (b"stdout", b"stderr") or not separator:
        return b"", record, True
    return time, text, tag != b"P"


def _files_backwards(path: Path) -> Generator[int, None, None]:
    """A descriptor of each file of the log, the newest first, each open until the next is asked for.

    While it is being read the log may be rotated, so that a file turns up again under its next name.
    """
    seen: set[tuple[int, int]] = set()
    prefix = path.name + "."
    try:
        names = os.listdir(path.parent)
    except FileNotFoundError:
        return
    ends = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    numbers = [int(end) for end in ends if end.isdecimal() and len(end) <= len(str(MAX_ROTATED))]
    oldest = min(max(numbers, default=0), MAX_ROTATED)
    # One more than there was: what is the oldest may by then have been renamed.
    for file in (path, *(path.with_name(f"{prefix}{number}") for number in range(1, oldest + 2))):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield descriptor
        finally:
            os.close(descriptor)


def _records_of_all(files: Iterator[int]) -> Iterator[bytes | None]:
    """The records of all files as those of one; the bound of the search is for all together."""
    room = MAX_SCAN_BYTES
    for descriptor in files:
        size = os.fstat(descriptor).st_size
        yield from _records_backwards(descriptor, size, room)
        if size > room:
            return
        room -= size


def _records_backwards(descriptor: int, size: int, room: int) -> Iterator[bytes | None]:
    """The records, the last first, without their ends; None where the search stops before the first."""
    position = size
    stop = max(0, position - room)
    parts: list[bytes] = []
    while position > stop:
        start = max(stop, position - BLOCK)
        first, *others = os.pread(descriptor, position - start, start).split(b"\n")
        position = start
        if others:
            others[-1] += b"".join(reversed(parts))
            yield from (record for record in reversed(others) if record)
            parts = []
        parts.append(first)
    if stop > 0:
        yield None
    elif rest := b"".join(reversed(parts)):
        yield rest
