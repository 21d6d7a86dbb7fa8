"""hostPath volumes: what must be at a path of the node, and what is made there.

https://kubernetes.io/docs/concepts/storage/volumes/#hostpath
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.volume import HostPathVolumeSource

_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def check_host_path(source: HostPathVolumeSource, root: Path) -> Path:
    """The path here, made where its type allows; PermanentError (``FailedMount``) says what is wrong.

    Without a type, a path that does not exist becomes a folder, as container runtimes have it. OSError where
    the disk is full or broken.
    """
    if ".." in source.path.split("/"):
        raise _failed(f"{source.path} must not contain '..'")
    path = root / source.path.lstrip("/")
    try:
        mode = _mode(path)
        if mode is None and source.type in ("", "DirectoryOrCreate"):
            _make_folders(path)
            mode = _mode(path)
        elif mode is None and source.type == "FileOrCreate":
            _make_file(path)
            mode = _mode(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        raise _failed(f"{source.path}: {error.strerror}") from None
    if source.type:
        is_kind, words = _KINDS[source.type]
        if mode is None or not is_kind(mode):
            raise _failed(f"{source.path} is not {words}")
    return path


def _make_folders(path: Path) -> None:
    """Make ``path`` and what is missing above it, each 0755 whatever the umask."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another pod was faster
            folder.mkdir()
            folder.chmod(0o755)


def _make_file(path: Path) -> None:
    with (
        contextlib.suppress(FileExistsError),
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC), "wb") as made,
    ):
        os.fchmod(made.fileno(), 0o644)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _failed(problem: str) -> PermanentError:
    return PermanentError(f"hostPath type check failed: {problem}", reason="FailedMount")
