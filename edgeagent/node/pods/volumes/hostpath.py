"""hostPath volumes: what must be at a path of the node, and what is made there.

https://kubernetes.io/docs/concepts/storage/volumes/#hostpath
"""

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

    Without a type, a path that does not exist becomes a folder, as container runtimes have it.
    """
    path = root / source.path.lstrip("/")
    try:
        mode = _mode(path)
        if mode is None and source.type in ("", "DirectoryOrCreate"):
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
            mode = _mode(path)
        elif mode is None and source.type == "FileOrCreate":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            mode = _mode(path)
    except OSError as error:
        raise _failed(f"{source.path}: {error.strerror}") from None
    if source.type:
        is_kind, words = _KINDS[source.type]
        if mode is None or not is_kind(mode):
            raise _failed(f"{source.path} is not {words}")
    return path


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _failed(problem: str) -> PermanentError:
    return PermanentError(f"hostPath type check failed: {problem}", reason="FailedMount")
