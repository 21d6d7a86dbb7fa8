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
_END_OF_HEAD = b"\r\n\r\n"


class Hijacked:
    """One POST to Podman's ``socket_path``; a context that closes the connection.

    Methods raise OSError where the connection fails, and TimeoutError at ``deadline`` (of
    ``time.monotonic``), after which they may be called again.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._socket = socket.socket(socket.AF_UNIX)

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
        """Read the answer's head, and not a byte more, and give its status; the rest is for ``read``."""
        head = b""
        while not head.endswith(_END_OF_HEAD):
            part = self._receive(deadline, socket.MSG_PEEK)
            end = (head + part).find(_END_OF_HEAD)
            wanted = len(part) if end < 0 else end + len(_END_OF_HEAD) - len(head)
            head += self._socket.recv(wanted)
            if not part or len(head) > _MAX_HEAD_BYTES:
                raise ConnectionError("the answer is not HTTP")
        words = head.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise ConnectionError("the answer is not HTTP")
        return int(words[1])

    def read(self, deadline: float) -> bytes:
        """The next bytes of the answer's body; none at its end."""
        return self._receive(deadline)

    def detach(self) -> int:
        """The connection's descriptor, which is the caller's from now on, to go on with both ways."""
        self._socket.settimeout(None)
        return self._socket.detach()

    def _receive(self, deadline: float, flags: int = 0) -> bytes:
        self._socket.settimeout(_left(deadline))
        return self._socket.recv(_CHUNK_BYTES, flags)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left
