"""One container's log files: ``<path>`` is written to, ``<path>.1`` came before it, ``<path>.2`` before that.

A file stays open while it is read, so that neither a new name nor its removal loses what is in it.
"""

import errno
import os
import stat
import zlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from edgeagent_logs.position import FileIdentity, Position

BEGINNING_BYTES = 256
"""How much of a file's beginning tells it from another on the same inode."""
TELLING_BYTES = 32
"""A beginning so long, with the time of its first line in it, is that of one file and its copies only."""
MAX_ROTATED = 100
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class LogFile:
    """An open log file, which owns ``descriptor``. ``close`` it when done."""

    def __init__(self, descriptor: int) -> None:
        """OSError, and the descriptor closed, where it is no regular file."""
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        self._descriptor = descriptor
        self.device = found.st_dev
        self.inode = found.st_ino
        self._length = 0
        self._checksum = 0

    def size(self) -> int:
        """In bytes, now."""
        return os.fstat(self._descriptor).st_size

    def written(self) -> int:
        """When it was written to last, in nanoseconds since the epoch."""
        return os.fstat(self._descriptor).st_mtime_ns

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset`` on; none at the end."""
        return os.pread(self._descriptor, count, offset)

    def identity(self) -> FileIdentity:
        """What tells this file from others, as far as it has been written."""
        if self._length < BEGINNING_BYTES:
            beginning = self.read(0, BEGINNING_BYTES)
            if zlib.crc32(beginning[: self._length]) == self._checksum:
                self._length, self._checksum = len(beginning), zlib.crc32(beginning)
        return FileIdentity(self.device, self.inode, self._length, self._checksum)

    def is_intact(self, offset: int) -> bool:
        """Whether it still has what was read of it up to ``offset``, as far as can be seen."""
        if self.size() < offset:
            return False
        if self._length == 0:
            return True
        return zlib.crc32(self.read(0, self._length)) == self._checksum

    def is_same(self, identity: FileIdentity) -> bool:
        """Whether it is the very file."""
        return (self.device, self.inode) == (identity.device, identity.inode) and self.begins_as(identity)

    def begins_as(self, identity: FileIdentity) -> bool:
        """Whether it has the beginning of that file: it, or a copy of it."""
        beginning = self.read(0, identity.length)
        return len(beginning) == identity.length and zlib.crc32(beginning) == identity.checksum

    def reopened(self) -> "LogFile":
        """The same file, as one of which nothing is known."""
        return LogFile(os.dup(self._descriptor))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def is_at(file: LogFile, path: Path) -> bool | None:
    """Whether ``path`` is that file; None where nothing is there."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino) == (file.device, file.inode)


class Located(NamedTuple):
    """The file to go on with, whether the position is in it, and all that there are, by device and inode."""

    file: LogFile
    holds: bool
    files: frozenset[tuple[int, int]]


def located(path: Path, position: Position | None) -> Located | None:
    """The file that ``position`` is in; where that is gone, the oldest not yet read. None without any."""
    chain = _open_chain(path)
    try:
        if not chain:
            return None
        files = frozenset((file.device, file.inode) for file in chain)
        chosen, holds = _chosen(chain, position)
        chain.remove(chosen)
        return Located(chosen, holds, files)
    finally:
        _close(chain)


def _chosen(chain: list[LogFile], position: Position | None) -> tuple[LogFile, bool]:
    if position is None:
        return chain[-1], False
    identity = position.file
    for file in chain:
        if file.is_same(identity):
            return file, True
    if identity.length >= TELLING_BYTES:
        for file in chain:
            if file.begins_as(identity):
                return file, True
    return _after(chain, position.previous, position.written), False


def _after(chain: list[LogFile], previous: FileIdentity | None, written: int) -> LogFile:
    """The file that came after ``previous``; where that is gone, the oldest that was written to since."""
    if previous is not None:
        for newer, file in pairwise(chain):
            if file.is_same(previous):
                return newer
    return next((file for file in reversed(chain) if file.written() >= written), chain[0])


def newest(path: Path) -> LogFile | None:
    """The file at ``path``, where there is one."""
    try:
        return LogFile(os.open(path, _FLAGS))
    except (FileNotFoundError, NotADirectoryError):
        return None


def next_file(path: Path, current: LogFile, previous: FileIdentity | None) -> LogFile | None:
    """The file that was begun after ``current``; None where there is none yet."""
    chain = _open_chain(path)
    try:
        places = [(file.device, file.inode) for file in chain]
        here = (current.device, current.inode)
        if not chain or places[0] == here:
            return None
        if here in places:
            chosen = chain[places.index(here) - 1]
        else:
            chosen = _after(chain, previous, current.written())
        chain.remove(chosen)
        return chosen
    finally:
        _close(chain)


def _open_chain(path: Path) -> list[LogFile]:
    """All files of the log, the newest first, each once.

    While they are opened the log may be rotated, so that a file turns up again under its next name.
    """
    prefix = path.name + "."
    try:
        names = os.listdir(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    ends = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    numbers = [int(end) for end in ends if end.isdecimal() and len(end) <= len(str(MAX_ROTATED))]
    oldest = min(max(numbers, default=0), MAX_ROTATED)
    chain: list[LogFile] = []
    seen: set[tuple[int, int]] = set()
    try:
        # One more than there was: what is the oldest may by then have been renamed.
        for file in (path, *(path.with_name(f"{prefix}{number}") for number in range(1, oldest + 2))):
            try:
                descriptor = os.open(file, _FLAGS)
            except FileNotFoundError:
                continue
            opened = LogFile(descriptor)
            if (opened.device, opened.inode) in seen:
                opened.close()
                continue
            seen.add((opened.device, opened.inode))
            chain.append(opened)
    except BaseException:
        _close(chain)
        raise
    return chain


def _close(files: Iterable[LogFile]) -> None:
    for file in files:
        file.close()
