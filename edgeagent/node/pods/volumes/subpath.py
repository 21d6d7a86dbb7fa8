"""A part of a volume (``subPath``), found without being led out of the volume by a link.

A container may write links into its volume while the next one is being made. So every step of the way is
opened relative to the one before and follows no link, and what was opened is then bound by its descriptor.
"""

import os
import stat
from pathlib import Path, PurePosixPath

from edgeagent.api.errors import PermanentError


def open_below(volume: Path, relative: str) -> int:
    """A descriptor (``O_PATH``) of what lies at ``relative`` in ``volume``; made as a folder if need be.

    PermanentError (``CreateContainerConfigError``) where a link or a file is in the way.
    """
    parts = PurePosixPath(relative).parts
    if PurePosixPath(relative).is_absolute() or ".." in parts:
        raise _refused(relative, "must be relative and without '..'")
    current = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = _step(current, part)
            os.close(current)
            current = below
            if stat.S_ISLNK(os.fstat(current).st_mode):
                raise _refused(relative, f"has a link in it: {part}")
    except OSError as error:
        os.close(current)
        raise _refused(relative, error.strerror or "cannot be opened") from None
    except PermanentError:
        os.close(current)
        raise
    return current


def _step(folder: int, part: str) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(part, 0o750, dir_fd=folder)
        return os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)


def _refused(relative: str, why: str) -> PermanentError:
    return PermanentError(f"subPath {relative!r} {why}", reason="CreateContainerConfigError")
