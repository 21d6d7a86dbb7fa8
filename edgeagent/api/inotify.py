"""News of files and folders from the kernel (inotify(7)), for whoever waits for descriptors.

Through ctypes rather than a library: Debian's ``python3-watchdog`` and ``python3-pyinotify`` run threads of
their own, the latter is unmaintained and gone from Python 3.12, and ``python3-inotify`` polls. What is
needed of inotify here is two calls and one struct. It is in ``edgeagent.api`` for both the agent and plugins
follow files, and the only module here that calls the kernel.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgeagent.api.errors import TemporaryError

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_MASK_ADD = 0x20000000
IN_ONESHOT = 0x80000000
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

READ_BYTES = 64 * 1024
"""What is taken from the kernel at a time; more of it makes whoever waits be called again."""
_HEADER = struct.Struct("iIII")


class Event(NamedTuple):
    """One event: the watch it is from (-1 for an overflow), its bits, and a name in that folder or empty."""

    watch: int
    mask: int
    name: str


def parse_events(data: bytes) -> Iterator[Event]:
    """What one read gave, as ``struct inotify_event`` has it; a cut-off end is left out."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        yield Event(watch, mask, os.fsdecode(name))


class Inotify:
    """One inotify descriptor. ``close`` it when done: its watches end with it."""

    def __init__(self) -> None:
        """TemporaryError where the kernel has none left (``fs.inotify.max_user_instances``)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._checked(self._libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify")

    def watch(self, path: Path, mask: int) -> int:
        """Watch ``path`` and return the watch's number; the same one where it is watched with another mask.

        FileNotFoundError or NotADirectoryError where there is none, TemporaryError where the kernel refuses.
        """
        number = self._libc.inotify_add_watch(self.descriptor, os.fsencode(path), ctypes.c_uint32(mask))
        return self._checked(number, str(path))

    def unwatch(self, number: int) -> None:
        """Watch it no longer, if it has not ended by itself. Events that are on their way still come."""
        self._libc.inotify_rm_watch(self.descriptor, number)

    def read(self) -> list[Event]:
        """The next events; none where there are none."""
        try:
            return list(parse_events(os.read(self.descriptor, READ_BYTES)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)

    def _checked(self, result: int, what: str) -> int:
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code in (errno.ENOENT, errno.ENOTDIR):
            raise OSError(code, os.strerror(code), what)
        raise TemporaryError(f"{what} cannot be watched: {os.strerror(code)}", reason="WatchFailed")
