"""A request whose answer is a stream, read with a time limit at each step.

Podman takes the connection over when it starts an exec session. The HTTP libraries can neither go on
reading after a time limit nor tell how much they hold back, so this one request is spoken here: in
HTTP/1.0, whose answers end with the connection.
"""

import socket
import time
from types import TracebackType
from typing import Self

_MAX_HEAD_BYTES = 16 * 1024
_CHUNK_BYTES = 64 * 1024


class Hijacked:
    """One POST to Podman's ``socket_path``; a context that closes the connection.

    Methods raise OSError where the connection fails, and TimeoutError at ``deadline`` (of
    ``time.monotonic``), after which they may be called again.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._socket = socket.socket(socket.AF_UNIX)
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def post(self, target: str, body: bytes, deadline: float) -> None:
        """Send ``body``, as JSON, to ``target``, a whole path."""
        head = (
            f"POST {target} HTTP/1.0\r\nHost: podman\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._socket.settimeout(_left(deadline))
        self._socket.connect(self._path)
        self._socket.sendall(head.encode("ascii") + body)

    def status(self, deadline: float) -> int:
        """Read the answer's head and give its status; the rest is for ``read``."""
        while b"\r\n\r\n" not in self._pending:
            part = self._receive(deadline)
            self._pending += part
            if not part or len(self._pending) > _MAX_HEAD_BYTES:
                raise ConnectionError("the answer is not HTTP")
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise ConnectionError("the answer is not HTTP")
        return int(words[1])

    def read(self, deadline: float) -> bytes:
        """The next bytes of the answer's body; none at its end."""
        if self._pending:
            data, self._pending = self._pending, b""
            return data
        return self._receive(deadline)

    def _receive(self, deadline: float) -> bytes:
        self._socket.settimeout(_left(deadline))
        return self._socket.recv(_CHUNK_BYTES)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left
