"""Reading small files of the kernel's, each bounded; what is missing or no number reads as nothing."""

import os
from pathlib import Path

SMALL_FILE_BYTES = 65536
"""A file of /proc or of a cgroup is read so far."""
HALF_A_PAGE = 2048
"""A page that the kernel leaves half empty is the last: no line of these files is so long."""
MOST_DIGITS = 20
"""Of a number: those of 2**64."""


def read_small(path: Path | str) -> str:
    """The beginning of a file of the kernel's; empty where it cannot be read."""
    # Without file objects, which cost more than the reading: hundreds of files are read for a scrape.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    found = b""
    try:
        while (room := SMALL_FILE_BYTES - len(found)) and (part := os.read(descriptor, room)):
            found += part  # the kernel may give a page at a time
            if len(part) < HALF_A_PAGE:
                break
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return found.decode("ascii", "replace")


def whole(text: str) -> int | None:
    """A whole number that is not negative; None for anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def number(folder: Path | str | None, name: str) -> int | None:
    """The one number in the file ``name``; None where there is none, or no folder."""
    return whole(read_small(f"{folder}/{name}")) if folder is not None else None


class Rows:
    """A file of lines with a name and a number each, such as ``memory.stat``, of which few are looked at."""

    def __init__(self, text: str) -> None:
        self._text = f"\n{text}"

    def get(self, name: str) -> int | None:
        """The number of that name; None where there is none."""
        start = self._text.find(f"\n{name} ")
        if start < 0:
            return None
        start += len(name) + 2
        end = self._text.find("\n", start)
        return whole(self._text[start:] if end < 0 else self._text[start:end])


def table(folder: Path | str | None, name: str) -> Rows:
    """The rows of a file; none where there is no folder."""
    return Rows("" if folder is None else read_small(f"{folder}/{name}"))
