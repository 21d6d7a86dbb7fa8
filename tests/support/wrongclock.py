"""A clock that is wrong for one process and its children: Debian's libfaketime, moved through a file."""

import os
import shutil
import time
from pathlib import Path

import pytest

LIBRARIES = "/usr/lib"


def find_library() -> Path | None:
    """``libfaketime.so.1`` of Debian's package, None where it is not installed."""
    if shutil.which("faketime") is None:
        return None
    return next(Path(LIBRARIES).glob("*/faketime/libfaketime.so.1"), None)


class WrongClock:
    """The time of day as one process sees it; the count of seconds since the boot is left alone.

    ``env`` is for the process, ``set`` moves its clock, now and at any time.
    """

    def __init__(self, directory: Path) -> None:
        library = find_library()
        if library is None:
            pytest.skip("needs Debian's faketime: sudo apt-get install faketime")
        self._file = directory / "faketime"
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(0.0)

    def set(self, ahead: float) -> None:
        """From now on the clock is ahead by so many seconds, or behind."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{ahead:+.0f}\n")
        os.replace(partial, self._file)

    def set_to(self, now: float) -> None:
        """From now on the clock says this, in seconds since the epoch, and goes on."""
        self.set(now - time.time())
