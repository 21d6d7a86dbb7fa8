"""A folder whose files change all at once, by kubelet's layout: ``..data`` is a link that is swapped.

``..data`` points to a folder named after a time, and each name that a container sees points into
``..data``. A reader sees the old set or the new one, and a crash leaves one of the two.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DATA = "..data"
_NEXT = "..data_tmp"


@dataclass(frozen=True, slots=True)
class Projected:
    """One file: its bytes and its mode."""

    content: bytes
    mode: int


def write_payload(folder: Path, payload: Mapping[str, Projected], group: int | None) -> bool:
    """Make ``folder`` show just ``payload``, by relative path; says whether anything had to change.

    ``group`` is to be able to read, and to own, what is written.
    """
    current = folder / DATA
    if group is not None:
        payload = {path: Projected(file.content, file.mode | 0o040) for path, file in payload.items()}
    if _shown(current) == dict(payload) and _names(folder) == _tops(payload):
        return False
    old = os.readlink(current) if current.is_symlink() else ""
    made = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    made.chmod(0o755)
    for path, file in payload.items():
        target = made / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        target.write_bytes(file.content)
        if group is not None:
            os.chown(target, -1, group)
        target.chmod(file.mode)
    link = folder / _NEXT
    link.unlink(missing_ok=True)
    link.symlink_to(made.name)
    os.replace(link, current)
    wanted = _tops(payload)
    for name in wanted - _names(folder):
        (folder / name).symlink_to(f"{DATA}/{name}")
    for name in _names(folder) - wanted:
        (folder / name).unlink()
    for left in folder.iterdir():
        if left.name.startswith("..") and left.name not in (DATA, made.name) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    if old and old != made.name:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _tops(payload: Mapping[str, Projected]) -> set[str]:
    return {path.partition("/")[0] for path in payload}


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith("..")}


def _shown(current: Path) -> dict[str, Projected] | None:
    """What is there now, None where that is nothing whole."""
    if not current.is_symlink():
        return None
    found: dict[str, Projected] = {}
    with suppress(OSError):
        for path in sorted(current.resolve().rglob("*")):
            if path.is_file():
                mode = path.stat().st_mode & 0o777
                found[str(path.relative_to(current.resolve()))] = Projected(path.read_bytes(), mode)
        return found
    return None
