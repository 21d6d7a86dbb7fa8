"""Files that are there whole or as they were before, whatever happens while they are written."""

import os
from pathlib import Path

from edgeagent.api.errors import TemporaryError


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
