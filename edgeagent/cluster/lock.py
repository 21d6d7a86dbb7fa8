"""One running hub per directory, and a way to tell it that something there has changed.

May not know what changed: the hub looks at everything again.
"""

import fcntl
import os
import signal
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent.cluster.layout import PRIVATE


class HubLock:
    """Held while the hub runs, given back at the latest when the process ends.

    The file says which process it is once ``advertise`` was called.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise PermanentError(
                f"another edgehub runs on {path.parent}: stop it first", reason="Conflict"
            ) from None
        os.ftruncate(descriptor, 0)
        self._descriptor = descriptor

    def advertise(self) -> None:
        """Ask to be told by SIGHUP. Only once that signal is handled: by default it ends a process."""
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def withdraw(self) -> None:
        """Ask no more to be told."""
        os.ftruncate(self._descriptor, 0)

    def release(self) -> None:
        """Let another hub run."""
        os.close(self._descriptor)


def running_hub(path: Path) -> int | None:
    """The process id of the hub that holds the lock, None where none does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 20, 0).strip()
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(descriptor)


def notify_hub(path: Path) -> bool:
    """Tell the running hub to look again (SIGHUP). False where there is none, or it is another user's."""
    if (process := running_hub(path)) is None:
        return False
    try:
        os.kill(process, signal.SIGHUP)
    except OSError:
        return False
    return True
