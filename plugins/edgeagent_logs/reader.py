"""LogReader: the whole lines of one container's log, block by block, through rotation and truncation."""

from pathlib import Path
from typing import NamedTuple

from edgeagent_logs.logfile import LogFile, is_at, located, newest, next_file
from edgeagent_logs.position import FileIdentity, Position

BLOCK_BYTES = 64 * 1024

Mark = tuple[int, int]
"""A place in a container's log: the number of the file among those that were read, and an offset in it."""


class Visit(NamedTuple):
    """A file that was read, the one before it, and when it was written to last."""

    file: FileIdentity
    previous: FileIdentity | None
    written: int


class LogReader:
    """Hands out lines from ``mark`` on, which ``advance`` moves. OSError where a file cannot be read.

    ``position``: where to begin; without it that is the beginning of the oldest file, or with ``from_end``
    the end of the newest. A line of more than ``block_bytes`` is handed out as its first ``block_bytes``.
    ``truncations`` counts how often a file lost what had been read of it.
    """

    def __init__(
        self, path: Path, position: Position | None, *, from_end: bool = False, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self._path = path
        self._position = position
        self._from_end = from_end
        self._block_bytes = block_bytes
        self._file: LogFile | None = None
        self._previous: FileIdentity | None = None
        self._earlier: dict[int, Visit] = {}
        self._lent = 0
        self._handed = 0
        self._endless = False
        self.mark: Mark = (0, 0)
        self.middle = False
        self._copies: dict[tuple[int, int], tuple[int, int]] = {}
        self.truncations = 0
        self._past: set[tuple[int, int]] = set()
        self._to_come: frozenset[tuple[int, int]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there has been a file."""
        return self._file is not None

    def is_past(self, device: int, inode: int) -> bool:
        """Whether a place in that file, from the position, is one that will not be reached any more."""
        file = self._copies.get((device, inode), (device, inode))
        return file in self._past or (self._to_come is not None and file not in self._to_come)

    def is_in(self, device: int, inode: int) -> bool:
        """Whether ``mark`` is in that file of the position, or in what is now its copy."""
        file = self._copies.get((device, inode), (device, inode))
        return self._file is not None and file == (self._file.device, self._file.inode)

    def open(self) -> bool:
        """Open the first file; whether there is one."""
        position = self._position
        if self._from_end and position is None:
            file = newest(self._path)
            if file is None:
                return False
            size = file.size()
            self._file, self.mark = file, (0, size)
            self.middle = size > 0 and file.read(size - 1, 1) != b"\n"
            return True
        found = located(self._path, position)
        if found is None:
            return False
        self._file, self._to_come = found.file, found.files
        if position is not None:
            self._previous = position.previous
            if found.holds:
                # A file can be shorter than what was read of it: a power failure takes what was not on disk.
                offset = min(position.offset, found.file.size())
                self.mark = (0, offset)
                self.middle = position.middle or (offset > 0 and found.file.read(offset - 1, 1) != b"\n")
                was = (position.file.device, position.file.inode)
                self._copies[was] = (found.file.device, found.file.inode)
            else:
                # That file is another one by now, though it may be on the same inode.
                self._past.add((position.file.device, position.file.inode))
        return True

    def lines(self) -> bytes | None:
        """Whole lines; nothing where it is to be asked again; None where there is no more for now."""
        file = self._file
        if file is None:
            return b"" if self.open() else None
        if not file.is_intact(self.mark[1]):
            self._relocate(file)
            return b""
        file.identity()  # so that a truncation is seen from here on
        block = file.read(self.mark[1], self._block_bytes)
        if self.middle and block:
            end = block.find(b"\n") + 1
            self.middle = end == 0
            self._move(end or len(block))
            return b""
        end = block.rfind(b"\n") + 1
        if end:
            return self._hand(block[:end])
        if len(block) >= self._block_bytes:
            self._endless = True
            return self._hand(block, lent=1)
        return self._at_end(file)

    def rest(self) -> bytes:
        """What is left of the last file, without a line end: the log has ended. ``lines`` came to its end."""
        rest = self._file.read(self.mark[1], self._block_bytes) if self._file is not None else b""
        if not rest or self.middle or b"\n" in rest:
            return b""
        return self._hand(rest, lent=1)

    def advance(self, count: int) -> None:
        """``count`` bytes of what was handed out last are done with."""
        if count == self._handed:
            count -= self._lent
            self.middle = self._endless
        self._endless = False
        self._move(count)

    def newest_lines(self, count: int) -> tuple[int, bytes]:
        """The end of the file, at most ``count`` bytes and nothing that is done with, and its offset."""
        assert self._file is not None
        offset = max(self.mark[1], self._file.size() - count)
        return offset, self._file.read(offset, count)

    def skip_to(self, offset: int) -> None:
        """Go on in this file at the first line that begins at ``offset`` or after it."""
        assert self._file is not None
        self._endless = False
        if offset <= self.mark[1]:
            return
        self.mark = (self.mark[0], offset)
        self.middle = self._file.read(offset - 1, 1) != b"\n"

    def visit(self, order: int) -> Visit:
        """The file of that number."""
        if order == self.mark[0]:
            assert self._file is not None
            return Visit(self._file.identity(), self._previous, self._file.written())
        return self._earlier[order]

    def forget_before(self, order: int) -> None:
        """No mark is in a file of a lower number any more."""
        self._earlier = {number: one for number, one in self._earlier.items() if number >= order}

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _hand(self, data: bytes, *, lent: int = 0) -> bytes:
        """Hand ``data`` out, with the line end that it lacks where ``lent`` is 1."""
        if lent:
            data += b"\n"
        self._lent, self._handed = lent, len(data)
        return data

    def _move(self, count: int) -> None:
        self.mark = (self.mark[0], self.mark[1] + count)

    def _leave(self, identity: FileIdentity, written: int) -> None:
        self._earlier[self.mark[0]] = Visit(identity, self._previous, written)
        self._past.add((identity.device, identity.inode))

    def _relocate(self, file: LogFile) -> None:
        """The file was truncated, or written anew. What was not read of it may be in a copy."""
        self.truncations += 1
        order, offset = self.mark
        was = Position(file=file.identity(), offset=offset, previous=self._previous)
        found = located(self._path, was)
        self._leave(was.file, file.written())
        if found is not None and found.holds:
            self._file, self.mark = found.file, (order + 1, min(offset, found.file.size()))
        else:
            if found is not None:
                found.file.close()
            self._file, self.mark, self.middle = file.reopened(), (order + 1, 0), False
        file.close()

    def _at_end(self, file: LogFile) -> bytes | None:
        """Go on to the next file, if there is one and this one is written to no more."""
        if is_at(file, self._path) is not False:
            return None
        # There is a new file at the path, so that from here on nothing is added to this one.
        rest = file.read(self.mark[1], self._block_bytes)
        if b"\n" in rest or (self.middle and rest):
            return b""
        following = next_file(self._path, file, self._previous)
        if following is None:
            return None
        if rest:
            following.close()
            return self._hand(rest, lent=1)
        order, identity = self.mark[0], file.identity()
        self._leave(identity, file.written())
        self._file, self._previous, self.mark, self.middle = following, identity, (order + 1, 0), False
        file.close()
        return b""
