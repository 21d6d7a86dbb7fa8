"""A place in a container's log from which it is read onwards, over rotations, without losing or repeating a
line.

The files and their format are those of ``edgeagent.node.pods.logs``, which reads from the end. Everything
here blocks; it is for a thread. Reading needs no look at the folder until the end of a file is reached.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from edgeagent.node.pods.logs import BLOCK, MAX_ROTATED, LogError, parsed, time_of

MAX_RECORD = 65_536
"""A record that is longer, which no runtime writes, is given out in pieces as it comes."""


class LogCursor:
    """``tail_lines`` None for all there is, ``since`` in seconds since the epoch; ``close`` it when done.

    A thread may still read when another closes: the one that was first goes on to its end.
    """

    def __init__(self, path: Path, *, tail_lines: int | None, since: float, timestamps: bool) -> None:
        self._path = path
        self._tail_lines = tail_lines
        self._since = since
        self._lock = threading.Lock()
        self._closed = False
        self._timestamps = timestamps
        self._skips = since > 0
        self._in_line = False
        self._rest = b""
        self._file = -1
        self._position = 0

    def _begin(self) -> None:
        files = _open_files(self._path)
        if not files:
            raise LogError("NotFound", "the container has no log file (yet, or any more)")
        try:
            index, self._position = _start(files, self._tail_lines, self._since)
            self._file = files.pop(index)
        finally:
            for descriptor in files:
                os.close(descriptor)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._closed = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def read(self, limit: int = BLOCK) -> bytes:
        """What was written since, at most about ``limit`` bytes; ``b""`` where there is nothing for now.

        LogError where there is no log, or it cannot be read.
        """
        try:
            with self._lock:
                return self._read(limit)
        except OSError as error:
            raise LogError("InternalError", f"the log cannot be read: {error.strerror}") from None

    def _read(self, limit: int) -> bytes:
        if self._closed:
            return b""
        if self._file < 0:
            self._begin()
        while data := self._more(limit):
            if text := self._text(data):
                return text
        return b""

    def _more(self, limit: int) -> bytes:
        data = self._pread(limit)
        if data:
            return data
        successor = self._successor()
        if successor is None:
            return b""
        # The runtime wrote to this file until it opened the next one: only now it is at its end.
        data = self._pread(limit)
        if data:
            os.close(successor)
            return data
        os.close(self._file)
        self._file, self._position, self._rest = successor, 0, b""
        return self._more(limit)

    def _pread(self, limit: int) -> bytes:
        data = os.pread(self._file, limit, self._position)
        self._position += len(data)
        return data

    def _successor(self) -> int | None:
        """The file that the log went on in, if it was rotated; the oldest one where ours is not there any
        more.
        """
        mine = os.fstat(self._file)
        files = _open_files(self._path)
        found: int | None = None
        for index, descriptor in enumerate(files):
            state = os.fstat(descriptor)
            if (state.st_dev, state.st_ino) == (mine.st_dev, mine.st_ino):
                found = index
        at = len(files) - 1 if found is None else found - 1
        wanted = files.pop(at) if at >= 0 and files else None
        for descriptor in files:
            os.close(descriptor)
        return wanted

    def _text(self, data: bytes) -> bytes:
        """The records in ``data`` as a person reads them; the beginning of one more is kept for the next
        call.
        """
        *records, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_RECORD:
            records.append(self._rest)
            self._rest = b""
        pieces: list[bytes] = []
        for record in records:
            time, text, ends = parsed(record)
            if self._skips:
                if time_of(time) < self._since:
                    continue
                self._skips = False
            if self._timestamps and time and not self._in_line:
                pieces.append(time + b" ")
            pieces.append(text + b"\n" if ends else text)
            self._in_line = not ends
        return b"".join(pieces)


def _open_files(path: Path) -> list[int]:
    """Descriptors of the log and its rotated files, the newest first, each file once."""
    prefix = path.name + "."
    try:
        names = os.listdir(path.parent)
    except FileNotFoundError:
        return []
    ends = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    numbers = [int(end) for end in ends if end.isdecimal() and len(end) <= len(str(MAX_ROTATED))]
    oldest = min(max(numbers, default=0), MAX_ROTATED)
    files: list[int] = []
    seen: set[tuple[int, int]] = set()
    # One more than there was: what is the oldest may by then have been renamed.
    for file in (path, *(path.with_name(f"{prefix}{number}") for number in range(1, oldest + 2))):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        state = os.fstat(descriptor)
        if (state.st_dev, state.st_ino) in seen:
            os.close(descriptor)
            continue
        seen.add((state.st_dev, state.st_ino))
        files.append(descriptor)
    return files


def _start(files: list[int], tail_lines: int | None, since: float) -> tuple[int, int]:
    """Which of ``files``, the newest first, to begin with, and where in it."""
    oldest = len(files) - 1, 0
    if tail_lines is None and not since:
        return oldest
    begin = oldest
    lines = 0
    for index, descriptor in enumerate(files):
        for offset, record in _backwards(descriptor):
            if record is None:
                if index == 0:
                    begin = index, offset
                if tail_lines == 0:
                    return begin
                continue
            time, _, ends = parsed(record)
            if len(record) > MAX_RECORD or (since and time and time_of(time) < since):
                return begin
            if ends or not lines:
                # A line begins behind the one before it, whatever pieces it is in.
                if lines == tail_lines:
                    return begin
                lines += 1
            begin = index, offset
    return oldest


def _backwards(descriptor: int) -> Iterator[tuple[int, bytes | None]]:
    """The whole records of a file, the last first, each with its offset; before them None, with their end.

    Nothing is looked for before one that is longer than ``MAX_RECORD``, of which the end is given.
    """
    position = os.fstat(descriptor).st_size
    held, end = b"", -1
    while position > 0:
        start = max(0, position - BLOCK)
        held = os.pread(descriptor, position - start, start) + held
        position = start
        if end < 0:
            if (at := held.rfind(b"\n")) < 0:
                held = b""  # of a record that is not whole
                continue
            yield start + at + 1, None
            held = held[: at + 1]
        end = len(held)
        while (at := held.rfind(b"\n", 0, end - 1)) >= 0:
            if at + 1 < end - 1:
                yield start + at + 1, held[at + 1 : end - 1]
            end = at + 1
        held = held[:end]
        if end > MAX_RECORD:
            yield position, held[:-1]
            return
    if end > 1:
        yield 0, held[: end - 1]
