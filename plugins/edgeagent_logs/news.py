"""LogNews: which logs may have something new, from the kernel: one inotify descriptor for all."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from edgeagent.api.errors import TemporaryError
from edgeagent.api.inotify import (
    IN_CREATE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
)

log = logging.getLogger(__name__)

_ENTRIES = IN_CREATE | IN_MOVED_TO
_ITSELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_READS = 16
"""How often the kernel is asked at a time: together more events than it keeps by default."""
_TRIES = 20
_LOGS = IN_MODIFY | IN_MOVED_FROM | _ENTRIES | _ITSELF


class LogNews:
    """Watches the folders of logs, for a file's writes are told by its folder too, whatever it is renamed to.

    Where a folder is not there yet, the nearest one above it is watched for its coming. ``unwatched`` are
    logs that the kernel has no watches left for: they have to be looked at now and then.
    """

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._paths: dict[str, Path] = {}
        self._watch_of: dict[str, int] = {}
        self._keys: defaultdict[int, set[str]] = defaultdict(set)
        self._awaiting: set[str] = set()
        self.unwatched: set[str] = set()

    @property
    def descriptor(self) -> int:
        """Readable where there is news."""
        return self._inotify.descriptor

    def follow(self, key: str, path: Path) -> None:
        """Tell from here on when the log at ``path``, or a rotated one of it, changes. Read it after this."""
        self._paths[key] = path
        self._arm(key)

    def leave(self, key: str) -> None:
        """No longer."""
        self._paths.pop(key, None)
        self._disarm(key)

    def take(self) -> Iterable[str]:
        """The logs with news since the last time."""
        found: set[str] = set()
        for _ in range(_READS):
            events = self._inotify.read()
            if any(event.mask & IN_Q_OVERFLOW for event in events):
                found = set(self._paths)
                self._rearm(found)  # what was lost may have been the end of a folder
            for event in events:
                keys = self._keys.get(event.watch)
                if not keys:
                    continue
                if event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED):
                    found |= keys
                    self._rearm(set(keys))
                    continue
                found.update(key for key in keys if self._concerns(key, event.name))
            self._rearm(found & self._awaiting)
            if not events:
                break
        return found

    def close(self) -> None:
        """Give the descriptor back."""
        self._inotify.close()

    def _concerns(self, key: str, name: str) -> bool:
        if key in self._awaiting:
            return True
        own = self._paths[key].name
        return name == own or (name.startswith(own) and name[len(own)] == ".")

    def _rearm(self, keys: set[str]) -> None:
        for key in keys:
            self._disarm(key)
            self._arm(key)

    def _arm(self, key: str) -> None:
        try:
            for _ in range(_TRIES):
                if self._armed(key):
                    return
                self._disarm(key)
            raise TemporaryError(f"{self._paths[key].parent} changes too fast to be watched")
        except TemporaryError as error:
            if not self.unwatched:
                log.warning("logs are looked at every few seconds only: %s", error)
            self.unwatched.add(key)

    def _armed(self, key: str) -> bool:
        """Watch the log's folder, or the nearest above it; False where there is a nearer one by now."""
        folder = self._paths[key].parent
        nearer: Path | None = None
        while True:
            try:
                mask = _LOGS if nearer is None else _ENTRIES | _ITSELF | IN_MASK_ADD
                number = self._inotify.watch(folder, mask)
                break
            except (FileNotFoundError, NotADirectoryError):
                nearer, folder = folder, folder.parent
        self._watch_of[key] = number
        self._keys[number].add(key)
        if nearer is None:
            return True
        self._awaiting.add(key)
        return not nearer.is_dir()

    def _disarm(self, key: str) -> None:
        self._awaiting.discard(key)
        self.unwatched.discard(key)
        number = self._watch_of.pop(key, None)
        if number is None:
            return
        self._keys[number].discard(key)
        if not self._keys[number]:
            del self._keys[number]
            self._inotify.unwatch(number)
