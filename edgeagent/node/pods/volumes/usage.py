"""How much a pod's emptyDir volumes hold."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class VolumeUsage(msgspec.Struct, frozen=True):
    """``bytes`` on disk by the volume's name, and how many ``inodes`` all of them take.

    ``beside``: the bytes of the pod's other files, of which its containers can write to some.
    """

    bytes: Mapping[str, int] = msgspec.field(default_factory=dict)
    inodes: int = 0
    beside: int = 0


def measure(folders: Mapping[str, Path], pod: Path | None = None) -> VolumeUsage:
    """Walk the folders, by volume's name; what vanishes meanwhile or cannot be read counts for nothing.

    ``pod`` is the folder with all of the pod's files, the volumes in ``volumes`` among them.
    """
    beside = _Walk(without="volumes").measure(pod).size if pod is not None else 0
    found = {name: _Walk().measure(folder) for name, folder in folders.items()}
    return VolumeUsage(
        {name: walk.size for name, walk in found.items()},
        sum(walk.inodes for walk in found.values()),
        beside,
    )


class _Walk:
    """One walk over a tree that others may change: one descriptor, whatever the depth.

    No link is followed and no other file system entered. A file with several names counts once. ``without``
    is the name of what is left out of the topmost folder.
    """

    def __init__(self, without: str = "") -> None:
        self._without = without
        self.size = 0
        self.inodes = 0
        self._seen: set[tuple[int, int]] = set()

    def measure(self, folder: Path) -> "_Walk":
        try:
            here = os.open(folder, _FOLDER)
        except OSError:
            return self
        try:
            way = [(_identity(here), self._list(here))]
            device = way[0][0][0]
            if self._without in way[0][1]:
                way[0][1].remove(self._without)
            while way:
                below = way[-1][1]
                if below:
                    following = _folder(below.pop(), here, device)
                    if following is not None:
                        here = _instead(here, following)
                        way.append((_identity(here), self._list(here)))
                    continue
                way.pop()
                if way:
                    try:
                        above = os.open("..", _FOLDER, dir_fd=here)
                    except OSError:
                        break  # there is no way back
                    here = _instead(here, above)
                    if _identity(here) != way[-1][0]:
                        break  # the folder was moved while it was looked at
        finally:
            os.close(here)
        return self

    def _list(self, folder: int) -> list[str]:
        """Count what is in ``folder``, as far as it can be read; the names of the folders in it."""
        below: list[str] = []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                self._count(entry, below)
        return below

    def _count(self, entry: "os.DirEntry[str]", below: list[str]) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return  # it is gone, or its file system does not answer
        if stat.S_ISDIR(found.st_mode):
            below.append(entry.name)
        elif found.st_nlink > 1:
            if (key := (found.st_dev, found.st_ino)) in self._seen:
                return
            self._seen.add(key)
        self.size += found.st_blocks * 512
        self.inodes += 1


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def _folder(name: str, above: int, device: int) -> int | None:
    try:
        found = os.open(name, _FOLDER, dir_fd=above)
    except OSError:
        return None  # it is gone, or no folder any more, or does not answer
    if os.fstat(found).st_dev == device:
        return found
    os.close(found)
    return None


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new
