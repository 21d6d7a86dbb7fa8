"""Being told by the kernel that tasks wait for memory: pressure stall information, where the kernel has it.

https://docs.kernel.org/accounting/psi.html. A trigger is reported as POLLPRI, which asyncio does not wait
for. An epoll of our own waits for it, and is itself readable when it has something to tell.
"""

import asyncio
import os
import select
from collections.abc import Callable
from pathlib import Path

TRIGGERS = (b"some 150000 1000000\0", b"some 300000 2000000\0")
"""Microseconds of waiting within a window. The second is for an agent without CAP_SYS_RESOURCE: the kernel
grants it windows of whole two seconds alone."""


def open_trigger(root: Path) -> int:
    """A descriptor that reports POLLPRI while tasks wait for memory. OSError where there is no such thing."""
    descriptor = os.open(root / "proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    for trigger in TRIGGERS:
        try:
            os.write(descriptor, trigger)
        except OSError as error:
            problem = error
        else:
            return descriptor
    os.close(descriptor)
    raise problem


class MemoryStalls:
    """Calls ``on_stall`` on the running loop, about once a window while tasks wait for memory."""

    def __init__(self, open_: Callable[[], int], on_stall: Callable[[], None]) -> None:
        self._open = open_
        self._on_stall = on_stall
        self._trigger = -1
        self._epoll: select.epoll | None = None

    def start(self) -> str:
        """Begin; in words why not, empty where it watches."""
        try:
            self._trigger = self._open()
            self._epoll = select.epoll()
            self._epoll.register(self._trigger, select.EPOLLPRI)
        except OSError as error:
            self.close()
            return f"the kernel does not report waiting for memory: {error.strerror}"
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._told)
        return ""

    def _told(self) -> None:
        assert self._epoll is not None
        events = self._epoll.poll(0)
        if any(flags & (select.EPOLLERR | select.EPOLLHUP) for _, flags in events):
            self.close()
        self._on_stall()

    def close(self) -> None:
        """Watch no longer."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        if self._trigger >= 0:
            os.close(self._trigger)
            self._trigger = -1
