"""A container's log file, which its monitor (conmon) writes."""

import os
import time
from pathlib import Path

from edgeagent.api.errors import TemporaryError
from edgeagent_podman.answers import not_running

REOPEN = b"2 0 0\n"
"""conmon's control message ``REOPEN_LOGS_EVENT``, type 2; the numbers would be a window's size."""
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


def reopen(container_id: str, bundle: Path, log: Path, timeout: float) -> None:
    """Have the monitor go on in a new file at ``log``, and return once it is there.

    ``bundle`` is the folder with the monitor's control FIFO. TemporaryError where the container has ended,
    or after ``timeout`` seconds.
    """
    before = _identity(log)
    try:
        fifo = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no FIFO, or nobody who reads from it
        raise not_running(container_id) from None
    try:
        os.write(fifo, REOPEN)
    except OSError as error:
        problem = f"the monitor of container {container_id[:12]} takes no message: {error}"
        raise TemporaryError(problem, reason="RuntimeError") from None
    finally:
        os.close(fifo)
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while _identity(log) in (None, before):
        if time.monotonic() >= deadline:
            problem = f"container {container_id[:12]} has no new log file after {timeout:g} s"
            raise TemporaryError(problem, reason="RuntimeError")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
