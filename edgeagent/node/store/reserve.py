"""Room that is kept for the store: a file that takes it up until a full disk makes it needed."""

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

REMAKE_FACTOR = 2
"""The reserve is made anew once this many times its size is free, so that making it fills nothing up."""


class Reserve:
    """A file of ``size`` bytes at ``path``, on the store's file system. With size 0 there is none.

    ``release`` gives its space to whoever must write; ``restore`` takes it back. Both may be called at any
    time and any number of times.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the space is there to be given up. True for size 0: nothing is missing."""
        return not self._size or self._found() >= self._size

    def release(self) -> bool:
        """Give the space up; whether there was any to give."""
        found = self._found()
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.error("the reserve %s cannot be given up: %s", self._path, error.strerror)
            return False
        if found:
            log.warning("the disk is full: %d bytes kept for the store are given up", found)
        return found > 0

    def ensure_room(self, size: int) -> None:
        """Before something is written: release where less than ``size`` bytes are free.

        A write that fails for want of space may leave a transaction that cannot be done again.
        """
        if self._free() < size and self._found():
            self.release()

    def restore(self) -> bool:
        """Take the space, if the disk has enough; whether it is held now."""
        if self.held:
            return True
        if self._free() + self._found() < REMAKE_FACTOR * self._size:
            return False
        try:
            self._make()
        except OSError as error:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                log.error("no space can be kept for the store: %s: %s", self._path, error.strerror)
            return False
        if not self.held:
            log.error("%s is on a file system that keeps no space: there is no reserve", self._path)
            self.release()
            self._size = 0
        return True

    def _make(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        finally:
            os.close(descriptor)

    def _found(self) -> int:
        """What is allocated, not what the file claims: a copy of it may be full of holes."""
        try:
            found = self._path.lstat()
        except OSError:
            return 0
        return min(found.st_blocks * 512, found.st_size)

    def _free(self) -> int:
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize
