"""The root folder of pause containers: one static program that waits and reaps orphans.

Podman's own pause image has the same in it; made as a folder there is no image that a clean-up could take.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeagent.api.errors import PermanentError

PROGRAM = "catatonit"
COMMAND = [f"/{PROGRAM}", "-P"]
PLACES = ("/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/lib/podman")
"""Where Podman looks for its helpers, before the folders of ``PATH``."""
_MOUNT_POINTS = ("dev", "etc", "proc", "run", "sys")


class PauseRoot:
    """The folder at ``path``; several processes may ask for it at once, and after any crash."""

    def __init__(self, path: Path, places: Sequence[str] = PLACES) -> None:
        self._path = path
        self._places = places

    def ready(self) -> Path:
        """The folder, with the machine's current program in it.

        PermanentError (reason ``CreateContainerError``) where the machine has none.
        """
        source = self._find()
        for name in _MOUNT_POINTS:
            (self._path / name).mkdir(parents=True, exist_ok=True)
        target = self._path / PROGRAM
        if not _same(source, target):
            # Renamed into place: a pause container may be running the old one.
            descriptor, name = tempfile.mkstemp(prefix=".", dir=self._path)
            os.close(descriptor)
            try:
                shutil.copy2(source, name)  # with its mode and time
                os.replace(name, target)
            finally:
                Path(name).unlink(missing_ok=True)
        return self._path

    def _find(self) -> Path:
        path = os.pathsep.join([*self._places, os.environ.get("PATH", os.defpath)])
        found = shutil.which(PROGRAM, path=path)
        if found is None:
            problem = f"a shared process namespace needs {PROGRAM}: 'apt install {PROGRAM}'"
            raise PermanentError(problem, reason="CreateContainerError")
        return Path(found).resolve()


def _same(source: Path, target: Path) -> bool:
    try:
        ours = target.stat()
    except FileNotFoundError:
        return False
    theirs = source.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
