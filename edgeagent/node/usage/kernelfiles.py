"""Reading small files of the kernel's, each bounded; what is missing or no number reads as nothing."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

SMALL_FILE_BYTES = 65536
"""A file of /proc or of a cgroup is read so far."""
MOST_DIGITS = 20
"""Of a number: those of 2**64."""
_ROW = re.compile(rf"^([^ \n]+) ([0-9]{{1,{MOST_DIGITS}}})$", re.MULTILINE)


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


def table(folder: Path | str | None, name: str) -> Mapping[str, int]:
    """A file of lines with a name and a number each, such as ``memory.stat``."""
    if folder is None:
        return {}
    return {key: int(text) for key, text in _ROW.findall(read_small(f"{folder}/{name}"))}
