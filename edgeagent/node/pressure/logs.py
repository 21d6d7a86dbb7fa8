"""Rotating container logs: ``<log>`` is renamed to ``<log>.1``, that to ``<log>.2``, and so on.

As kubelet does it, but without compressing: flash wears more by writing twice than by a few kept bytes, and
``edgeagent.node.pods.logs`` reads rotated files from their end. A rotated file goes with its container.
https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation
"""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from edgeagent.api.errors import EdgeAgentError
from edgeagent.node.pressure.pods import RunningContainer, RunningPod
from edgeagent.node.pressure.schedule import LOG_RATE, SOONEST_SECONDS, next_look, until_reached

log = logging.getLogger(__name__)


class LogRotator:
    """Keeps the logs of running containers at ``max_files`` of about ``max_bytes``, the current one included.

    ``reopen`` is the runtime's ``reopen_log``. A crash, or a call that fails, between renaming and reopening
    leaves no file at the log's path: the next check sees that and asks to reopen again.
    """

    def __init__(self, reopen: Callable[[str], Awaitable[None]], *, max_bytes: int, max_files: int) -> None:
        self._reopen = reopen
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._failing: set[str] = set()

    async def check(self, pods: Iterable[RunningPod]) -> float:
        """Rotate what has grown too large; seconds until the next check should be."""
        containers = [one for pod in pods for one in pod.containers if one.log_path]
        self._failing &= {container.id for container in containers}
        return next_look([await self._check(container) for container in containers])

    async def _check(self, container: RunningContainer) -> float:
        try:
            wait = self._rotated(Path(container.log_path))
        except OSError as error:
            self._failed(container, f"its log cannot be rotated: {error.strerror}")
            return SOONEST_SECONDS
        if wait is not None:
            return wait
        try:
            await self._reopen(container.id)
        except EdgeAgentError as error:
            self._failed(container, f"its log could not be opened anew: {error}")
        else:
            self._failing.discard(container.id)
        return SOONEST_SECONDS

    def _rotated(self, path: Path) -> float | None:
        """None where the log is to be reopened, now or still; else the seconds until it may be so."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            # Without its folder, the container has just been removed.
            return None if path.parent.is_dir() else SOONEST_SECONDS
        if size < self._max_bytes:
            return until_reached(self._max_bytes - size, LOG_RATE)
        _shift(path, self._max_files)
        return None

    def _failed(self, container: RunningContainer, problem: str) -> None:
        level = logging.DEBUG if container.id in self._failing else logging.WARNING
        log.log(level, "container %s %s: %s", container.name, container.id[:12], problem)
        self._failing.add(container.id)

    def drop_rotated(self, pods: Iterable[RunningPod], device: int | None = None) -> None:
        """Remove all rotated files, for the disk is under pressure; the current ones stay.

        ``device``: only those that lie on it (``st_dev``); None for all.
        """
        for container in (one for pod in pods for one in pod.containers if one.log_path):
            path = Path(container.log_path)
            try:
                lies_on = path.stat().st_dev
            except OSError:
                continue  # the newest rotated file is still being written to
            if device not in (None, lies_on):
                continue
            for number in range(1, self._max_files):
                try:
                    _numbered(path, number).unlink(missing_ok=True)
                except OSError as error:
                    self._failed(container, f"a rotated log cannot be removed: {error.strerror}")


def _shift(path: Path, max_files: int) -> None:
    """Make room at ``<path>.1`` and move ``path`` there. A gap, as a crash leaves it, is filled."""
    last = max_files - 1
    free = next((number for number in range(1, last) if not _numbered(path, number).exists()), last)
    for number in range(free, 1, -1):
        os.replace(_numbered(path, number - 1), _numbered(path, number))
    os.replace(path, _numbered(path, 1))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
