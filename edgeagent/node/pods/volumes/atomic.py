"""A folder whose files change all at once, by kubelet's layout: ``..data`` is a link that is swapped.

``..data`` points to a folder that holds one set of files, and each name that a container sees points into
``..data``. A reader sees the old set or the new one, and a crash at any moment leaves one of the two.
"""

import os
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.node.pods.volumes.removal import remove_tree

DATA = "..data"
_NEXT = "..data_tmp"
MAX_PATH = 4096
MAX_NAME = 255


class Projected(msgspec.Struct, frozen=True):
    """One file: its bytes and its mode."""

    content: bytes
    mode: int


def write_payload(folder: Path, payload: Mapping[str, Projected], group: int | None) -> bool:
    """Make ``folder`` show just ``payload``, by relative path; says whether anything had to change.

    ``group`` is to own, and be able to read, what is written. PermanentError (``FailedMount``) where a path
    leads out of the folder, or is both a file and a folder. Nothing may write to one folder at one time.
    """
    files = _checked(payload, group)
    shown = {path.partition("/")[0] for path in files}
    _own(folder, group)
    current = _target(folder / DATA)
    changed = current is None or _files(folder / current) != files
    made = _written(folder, files, group) if current is None or changed else current
    # A link to what is not there yet shows nothing; one that came after the swap would be missing until then.
    for name in shown - _names(folder):
        (folder / name).symlink_to(f"{DATA}/{name}")
    if changed:
        following = folder / _NEXT
        following.unlink(missing_ok=True)
        following.symlink_to(made)
        os.replace(following, folder / DATA)
    _tidy(folder, shown | {DATA, made})
    return changed


def shown_folder(folder: Path) -> Path:
    """The set of files that ``folder`` shows now; ``folder`` where ``..data`` is not of our making."""
    try:
        name = os.readlink(folder / DATA)
    except OSError:
        return folder
    return folder / name if name.startswith("..") and name != ".." and "/" not in name else folder


def _checked(payload: Mapping[str, Projected], group: int | None) -> dict[str, Projected]:
    """The payload by clean paths, with the modes that the files get. Of one path the last counts."""
    more = 0 if group is None else 0o440
    files = {_clean(path): Projected(file.content, file.mode | more) for path, file in payload.items()}
    for path in files:
        folders = path.split("/")[:-1]
        for count in range(1, len(folders) + 1):
            if (above := "/".join(folders[:count])) in files:
                raise _refused(above, "is both a file and a folder")
    return files


def _clean(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or "\0" in path:
        raise _refused(path, "must be a relative path")
    if ".." in parts or parts[0].startswith(".."):
        raise _refused(path, "must not contain '..', nor start with it")
    if len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(part)) > MAX_NAME for part in parts):
        raise _refused(path, f"is too long: {MAX_NAME} bytes is the most for a name, {MAX_PATH} for a path")
    return "/".join(parts)


def _refused(path: str, why: str) -> PermanentError:
    return PermanentError(f"invalid path {path[:80]!r}: {why}", reason="FailedMount")


def _own(folder: Path, group: int | None) -> None:
    """Let all look into ``folder``, whatever the umask, and ``group`` own it and what is made in it."""
    mode = 0o755 if group is None else 0o2755
    found = folder.stat()
    if found.st_mode & 0o7777 != mode or (group is not None and found.st_gid != group):
        os.chown(folder, -1, -1 if group is None else group)
        folder.chmod(mode)


def _target(link: Path) -> str | None:
    """The folder that ``..data`` points to, None where there is none."""
    if not link.is_symlink():
        return None
    name = os.readlink(link)
    return name if (link.parent / name).is_dir() else None


def _files(folder: Path) -> dict[str, Projected]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            mode = path.stat().st_mode & 0o7777
            found[str(path.relative_to(folder))] = Projected(path.read_bytes(), mode)
    return found


def _written(folder: Path, files: Mapping[str, Projected], group: int | None) -> str:
    """The name of a new folder in ``folder`` that holds ``files``; nothing is left of one that failed."""
    made = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    try:
        _own(made, group)
        for path, file in files.items():
            parent = made
            for part in path.split("/")[:-1]:
                parent /= part
                parent.mkdir(exist_ok=True)
                _own(parent, group)
            _write(made / path, file, group)
    except BaseException:
        remove_tree(made)
        raise
    return made.name


def _write(path: Path, file: Projected, group: int | None) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:
        opened.write(file.content)
        opened.flush()
        if group is not None:
            os.fchown(opened.fileno(), -1, group)
        os.fchmod(opened.fileno(), file.mode)


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def _tidy(folder: Path, kept: Set[str]) -> None:
    """Remove what an earlier set or a crash left."""
    for name in _names(folder) - kept:
        remove_tree(folder / name)
