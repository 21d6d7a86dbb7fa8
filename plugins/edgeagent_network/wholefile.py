"""Files that are there whole or as they were before, whatever happens while they are written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError

T = TypeVar("T")


class Kept(msgspec.Struct, Generic[T], frozen=True):
    """What a file held: None where there was none, or none that is good, which is at ``set_aside`` now."""

    value: T | None = None
    set_aside: Path | None = None


def write_whole(path: Path, data: bytes, problem: str) -> None:
    """Put ``data`` in the place of what ``path`` holds, on disk before this returns.

    TemporaryError (reason ``NetworkFailed``) that says ``problem`` and why.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(path)
    except OSError as error:
        raise TemporaryError(f"{path}: {problem}: {error.strerror}", reason="NetworkFailed") from None


def read_whole(path: Path, kind: type[T], *, max_bytes: int, check: Callable[[T], None]) -> Kept[T]:
    """The JSON that ``path`` holds.

    ``check`` raises ValueError, PermanentError or InvalidObjectError for what cannot have been written there.
    A damaged file, one of more than ``max_bytes`` too, is moved to ``<name>.corrupt``. OSError where it
    cannot be read or moved.
    """
    try:
        with path.open("rb") as opened:
            data = opened.read(max_bytes + 1)
    except FileNotFoundError:
        return Kept()
    try:
        if len(data) > max_bytes:
            raise ValueError("too large")
        value = msgspec.json.decode(data, type=kind)
        check(value)
    except (ValueError, msgspec.MsgspecError, RecursionError, PermanentError, InvalidObjectError):
        set_aside = path.with_name(f"{path.name}.corrupt")
        path.replace(set_aside)
        return Kept(set_aside=set_aside)
    return Kept(value)
