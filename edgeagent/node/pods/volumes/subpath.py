"""A part of a volume (``subPath``), found without being led out of the volume by a link.

A container may write links into its volume while the next one is being made. So every step of the way is
opened relative to the one before, links are followed by hand and only inside the volume, and what was opened
is then bound by its descriptor.
"""

import errno
import os
import stat
from collections import deque
from pathlib import Path

from edgeagent.api.errors import PermanentError, TemporaryError

MAX_LINKS = 40
"""As many as the kernel follows in one path."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
REASON = "CreateContainerConfigError"


def open_below(volume: Path, relative: str) -> int:
    """A descriptor (``O_PATH``) of what lies at ``relative`` in ``volume``.

    What is missing is made as a folder with the mode of the volume itself, as kubelet does, so that whoever
    may use the volume may use its part. PermanentError (``CreateContainerConfigError``) where the path or a
    link leads out of the volume, TemporaryError where something is in the way or the disk is full.
    """
    if relative.startswith("/") or ".." in relative.split("/") or "\0" in relative:
        raise _refused(relative, "must be relative and without '..'")
    way: list[int] = []
    try:
        way.append(os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _walk(way, relative, volume)
        return way.pop()
    except OSError as error:
        raise TemporaryError(f"subPath {relative!r}: {error.strerror}", reason=REASON) from None
    finally:
        for descriptor in way:
            os.close(descriptor)


def _walk(way: list[int], relative: str, volume: Path) -> None:
    """Go on from the last of ``way``, which holds all folders from the volume on."""
    mode = os.fstat(way[0]).st_mode & 0o2777
    left, links = deque(relative.split("/")), 0
    while left:
        part = left.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            os.close(way.pop())
            if not way:
                raise _refused(relative, "has a link that leads out of the volume")
            continue
        found = _step(way[-1], part, mode)
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            way.append(found)
            continue
        try:
            target = os.readlink("", dir_fd=found)
        finally:
            os.close(found)
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            target = _inside(target, volume, relative)
            while len(way) > 1:
                os.close(way.pop())
        left.extendleft(reversed(target.split("/")))


def _inside(target: str, volume: Path, relative: str) -> str:
    """An absolute link, seen from the volume."""
    top = os.path.realpath(volume)
    if target != top and not target.startswith(top.rstrip("/") + "/"):
        raise _refused(relative, "has a link that leads out of the volume")
    return target.removeprefix(top)


def _step(folder: int, part: str, mode: int) -> int:
    try:
        return os.open(part, _STEP, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(part, 0o700, dir_fd=folder)
    made = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchmod(made, mode)
        return os.open(".", _STEP, dir_fd=made)
    finally:
        os.close(made)


def _refused(relative: str, why: str) -> PermanentError:
    return PermanentError(f"subPath {relative[:80]!r} {why}", reason=REASON)
