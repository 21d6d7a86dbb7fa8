"""Files that their owner alone can read: written whole or not at all, and kept that way.

May not know what is in them.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

PRIVATE, DIRECTORY = 0o600, 0o700


def write_private(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all, synced, with mode 0600."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), PRIVATE)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def close_to_others(folder: Path) -> list[str]:
    """Take ``folder`` and all below from everybody but this user: what others could read or write until now.

    Each as ``node.key (mode 0644, owner 1000)``. Links are neither followed nor changed. OSError where a file
    cannot be changed.
    """
    return [found for path in _below(folder) if (found := _close(path, folder))]


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _close(path: Path, folder: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink() or not path.exists():
            return ""
        raise
    try:
        status = os.fstat(descriptor)
        mode, foreign = stat.S_IMODE(status.st_mode), status.st_uid != os.geteuid()
        if not mode & 0o077 and not foreign:
            return ""
        if foreign:
            os.fchown(descriptor, os.geteuid(), -1)
        os.fchmod(descriptor, DIRECTORY if stat.S_ISDIR(status.st_mode) else PRIVATE)
    finally:
        os.close(descriptor)
    name = path.name if path == folder else str(path.relative_to(folder))
    owner = f", owner {status.st_uid}" if foreign else ""
    return f"{name} (mode {mode:04o}{owner})"
