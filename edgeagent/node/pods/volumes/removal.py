"""Removing what containers could write to: no link is followed, no mount is entered, no depth is too deep."""

import errno
import os
from itertools import count
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; what is not there is no error.

    OSError (``EBUSY``) where something is mounted in it: what is mounted is left as it is. A folder in a
    folder is moved up before it is emptied, so that a tree of any depth takes a few descriptors and no stack.
    """
    try:
        path.unlink(missing_ok=True)
        return
    except IsADirectoryError:
        pass
    top = os.open(path, _FOLDER)
    try:
        mount = _mount_id(top)
        spare = count()
        while names := os.listdir(top):
            for name in names:
                _remove(name, top, mount, spare)
    finally:
        os.close(top)
    path.rmdir()


def _remove(name: str, top: int, mount: str, spare: "count[int]") -> None:
    """Remove ``name`` in ``top``; the folders in it go to ``top``."""
    if _unlinked(name, top):
        return
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        if _mount_id(folder) != mount:
            raise OSError(errno.EBUSY, "something is mounted there", name)
        for below in os.listdir(folder):
            if not _unlinked(below, folder):
                _move_up(below, folder, top, spare)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _unlinked(name: str, folder: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    return True


def _move_up(name: str, folder: int, top: int, spare: "count[int]") -> None:
    for number in spare:
        try:
            os.rename(name, f".{number}", src_dir_fd=folder, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return


def _mount_id(descriptor: int) -> str:
    """What tells one mount from another, also of the same file system (proc(5), ``fdinfo``)."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        if line.startswith("mnt_id:"):
            return line
    return ""
