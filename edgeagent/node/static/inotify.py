"""News of one folder from the kernel (inotify(7)), on the asyncio loop: no thread, no polling.

Through ctypes rather than a library: Debian's ``python3-watchdog`` and ``python3-pyinotify`` run threads of
their own, the latter is unmaintained and gone from Python 3.12, and ``python3-inotify`` polls. What is
needed of inotify here is two calls and one struct.
"""

import asyncio
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from edgeagent.api.errors import TemporaryError

log = logging.getLogger(__name__)

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
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

READ_BYTES = 64 * 1024
"""What is taken from the kernel at a time; more of it makes the loop call again."""
_HEADER = struct.Struct("iIII")
_INSIDE = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_ENTRIES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_ITSELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_TRIES = 20
"""How often a chain of folders may change while it is being watched before that is an error."""


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


class FolderWatch:
    """Calls ``on_change`` on the loop after anything in ``folder`` that ``matters`` (by its name) may differ.

    The folder need not exist: its nearest parent that does is watched until it appears. It may be removed,
    renamed and made anew, as any of its parents may. What is changed behind a symbolic link, and a file
    system mounted over the folder, the kernel does not tell.
    """

    def __init__(
        self, folder: Path, on_change: Callable[[], None], *, matters: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._folder = folder.absolute()
        self._on_change = on_change
        self._matters = matters
        self._inotify: Inotify | None = None
        self._inside = -1
        self._awaited: dict[int, str] = {}

    def start(self) -> None:
        """Begin, or begin anew; whatever changes after this is told. TemporaryError where it cannot be."""
        self.stop()
        self._inotify = inotify = Inotify()
        try:
            self._arm(inotify)
        except BaseException:
            self.stop()
            raise
        asyncio.get_running_loop().add_reader(inotify.descriptor, self._readable)

    def stop(self) -> None:
        """End; nothing is called from here on."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.descriptor)
            self._inotify.close()
            self._inotify = None
        self._inside = -1
        self._awaited.clear()

    def _arm(self, inotify: Inotify) -> None:
        for _ in range(_TRIES):
            try:
                if self._follow(inotify):
                    return
            except (FileNotFoundError, NotADirectoryError):
                continue  # a folder that was there a moment ago
        raise TemporaryError(f"{self._folder} changes too fast to be watched", reason="WatchFailed")

    def _follow(self, inotify: Inotify) -> bool:
        """Watch the folders from the root to this one, each for its own end, and what is in the last two.

        From above downwards, so that what is renamed meanwhile is told by the watch above it. False where
        the first that was missing has come since.
        """
        self._inside = -1
        self._awaited.clear()
        for parent, path in pairwise([*reversed(self._folder.parents), self._folder]):
            last = path == self._folder
            if last:
                self._await(inotify, parent, path.name)
            try:
                watch = inotify.watch(path, _ITSELF | (_INSIDE if last else 0))
            except (FileNotFoundError, NotADirectoryError):
                self._await(inotify, parent, path.name)
                return not path.is_dir()
            if last:
                self._inside = watch
        return True

    def _await(self, inotify: Inotify, parent: Path, name: str) -> None:
        self._awaited[inotify.watch(parent, _ITSELF | _ENTRIES)] = name

    def _readable(self) -> None:
        assert self._inotify is not None
        events = self._inotify.read()
        if any(self._moves(event) for event in events):
            try:
                self.start()
            except TemporaryError as error:
                log.warning("%s", error)  # whoever is called finds `alive` false
            self._on_change()
        elif any(self._is_news(event) for event in events):
            self._on_change()

    @property
    def alive(self) -> bool:
        """Whether changes are told; false before ``start`` and where it could not be begun anew."""
        return self._inotify is not None

    def _moves(self, event: Event) -> bool:
        """Whether the chain of folders is another one after this event."""
        if event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_Q_OVERFLOW):
            return True
        return self._awaited.get(event.watch) == event.name

    def _is_news(self, event: Event) -> bool:
        return event.watch == self._inside and (not event.name or self._matters(event.name))
