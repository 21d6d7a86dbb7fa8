"""Sockets under one deadline: however slowly the other side reads or answers, it ends in time.

``socket.settimeout`` bounds each call alone, so that one byte every few seconds
would hold a request for ever.
"""

import contextlib
import io
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_PIECE = 65_536


class Deadline:
    """``seconds`` from now on, by a monotonic count."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seconds = seconds
        self._end = monotonic() + seconds

    def left(self) -> float:
        """How many seconds are left; TimeoutError where there are none."""
        if (left := self._end - self._monotonic()) <= 0:
            raise TimeoutError(f"not within {self._seconds:g} s")
        return left


class DeadlineSocket:
    """A connected socket, as ``http.client`` uses one. ``deadline`` may be set anew for another request.

    Like a ``socket``, it closes once it was closed itself and what reads from it too.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.sock = sock
        self.deadline = deadline
        self._readers = 0
        self._closed = False
        self._owner = True

    def sendall(self, data: "ReadableBuffer") -> None:
        """Send all of ``data``; OSError, TimeoutError at the deadline."""
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                self.sock.settimeout(self.deadline.left())
                sent += self.sock.send(view[sent : sent + _PIECE])

    def recv_into(self, buffer: "WriteableBuffer") -> int:
        """Read what there is, at most the buffer full, 0 at the end; errors as ``sendall``."""
        self.sock.settimeout(self.deadline.left())
        return self.sock.recv_into(buffer)

    def quiet(self) -> bool:
        """Whether the other side has sent nothing that was not asked for, and has not hung up."""
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False  # a byte, or the end

    def makefile(self, mode: Literal["rb"] = "rb", buffering: int | None = None) -> io.BufferedReader:
        """A reader; only ``rb`` is asked for."""
        del mode, buffering
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Close, once nobody reads any more."""
        self._closed = True
        if not self._readers:
            with contextlib.suppress(OSError):
                self.sock.close()

    def __del__(self) -> None:
        # A lane that ends lets go of its sinks without a word: what they keep open ends in order with them.
        if self._owner:
            with contextlib.suppress(OSError):
                self.sock.close()

    def detach(self) -> socket.socket:
        """The socket, which is the caller's to close from now on."""
        self._owner = False
        return self.sock

    def reader_closed(self) -> None:
        """One that was made by ``makefile`` is closed."""
        self._readers -= 1
        if self._closed:
            self.close()


class _Reader(io.RawIOBase):
    def __init__(self, source: DeadlineSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        return self._source.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.reader_closed()


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A TCP connection to the first address of ``host`` that takes one; OSError where none does.

    Each address gets its share of the time, so that one that never answers does not take that of the next.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = TimeoutError("no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left() / (len(found) - place))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem
