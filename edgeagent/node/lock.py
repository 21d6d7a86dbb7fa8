"""One agent a machine: a lock that ends with the process that holds it, however it ends (flock(2))."""

import fcntl
import os
from pathlib import Path

from edgeagent.api.errors import PermanentError


class NodeLock:
    """Held from construction to ``release``. PermanentError where another agent holds it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise PermanentError(
                f"another edgeagent runs already (it holds {path}); stop it first, or give this one a "
                f"state_dir and run_dir of its own",
                reason="AlreadyRunning",
            ) from None

    def release(self) -> None:
        """Let another have it."""
        os.close(self._descriptor)
