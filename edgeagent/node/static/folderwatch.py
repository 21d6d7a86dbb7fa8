"""News of one folder from the kernel (inotify(7)), on the asyncio loop: no thread, no polling."""

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from edgeagent.api.errors import TemporaryError
from edgeagent.api.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Event,
    Inotify,
)

log = logging.getLogger(__name__)

_INSIDE = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_ENTRIES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_ITSELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_TRIES = 20
"""How often a chain of folders may change while it is being watched before that is an error."""


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
