"""Learning that a process has ended without asking: a pidfd becomes readable (pidfd_open(2))."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Exits(Protocol):
    """Tells, once, when a process has ended."""

    def watch(self, key: str, pid: int, on_exit: Callable[[str], None]) -> bool:
        """Call ``on_exit(key)`` when ``pid`` ends. False where there is no such process any more."""

    def forget(self, key: str) -> None:
        """Watch no longer."""

    def close(self) -> None:
        """Forget all."""


class ExitWatcher:
    """Watches processes that are not our children. Costs one file descriptor each, and no time."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def watch(self, key: str, pid: int, on_exit: Callable[[str], None]) -> bool:
        """Call ``on_exit(key)`` once, when ``pid`` ends. False where there is no such process any more."""
        if key in self._descriptors:
            return True
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        except OSError as error:
            # No such pid can be (0), or no descriptor is free: the slow resync will see the end.
            log.warning("the process %d cannot be watched: %s", pid, error)
            return True
        self._descriptors[key] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._ended, key, on_exit)
        return True

    def forget(self, key: str) -> None:
        """Watch no longer."""
        if (descriptor := self._descriptors.pop(key, None)) is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Forget all."""
        for key in list(self._descriptors):
            self.forget(key)

    def _ended(self, key: str, on_exit: Callable[[str], None]) -> None:
        self.forget(key)
        on_exit(key)
