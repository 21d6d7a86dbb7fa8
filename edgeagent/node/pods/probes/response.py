"""An HTTP/1 answer, read as it comes in.

Written here because a probe needs little of HTTP: a library would bring its own threads, sockets or
megabytes into every agent, and ``http.client`` reads blocking.
"""

import re
from collections.abc import Callable

HEAD_LIMIT = 64 * 1024
"""Bytes of status line and headers, and of what surrounds a chunked body."""
BODY_LIMIT = 10 * 1024
"""Bytes of the body that are waited for."""
_CHUNK_LINE_LIMIT = 1024
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: .*)?")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_SIZE = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class ResponseReader:
    """Takes an answer's bytes, in pieces of any size, until ``complete``.

    ``status`` and ``location`` (the header, or empty) are valid then. The body is followed to its end, or
    for ``BODY_LIMIT`` bytes, and dropped.
    """

    def __init__(self) -> None:
        self.status = 0
        self.location = ""
        self.complete = False
        self._buffer = bytearray()
        self._searched = 0
        self._overhead = 0
        self._body = 0
        self._left = 0
        self._step: Callable[[], bool] = self._head

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises ValueError where this is no HTTP, or too much of it."""
        self._buffer += data
        while not self.complete and self._step():
            pass

    def end(self) -> None:
        """Nothing more comes. Raises ValueError where something was still to come."""
        if self._step != self._endless:
            raise ValueError("unexpected EOF" if self.status or self._buffer else "EOF")
        self.complete = True

    def _head(self) -> bool:
        found = _HEAD_END.search(self._buffer, self._searched)
        if self._overhead + (found.end() if found else len(self._buffer)) > HEAD_LIMIT:
            raise ValueError(f"status line and headers are longer than {HEAD_LIMIT // 1024} KiB")
        if found is None:
            self._searched = max(0, len(self._buffer) - 3)
            return False
        lines = bytes(self._buffer[: found.start()]).split(b"\n")
        self._drop(found.end())
        self._searched = 0
        self._read_status(lines[0].rstrip(b"\r"))
        if 100 <= self.status < 200 and self.status != 101:  # an interim answer: the real one follows
            return True
        self._read_headers(lines[1:])
        return True

    def _read_status(self, line: bytes) -> None:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"malformed HTTP response {line[:80].decode('latin-1')!r}")
        self.status = int(match[1])

    def _read_headers(self, lines: list[bytes]) -> None:
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon and not line.startswith((b" ", b"\t")):
                raise ValueError(f"malformed HTTP header {line[:80].decode('latin-1')!r}")
            name, value = name.lower(), value.strip()
            if name == b"content-length" and headers.get(name, value) != value:
                raise ValueError("two different values of Content-Length")
            headers.setdefault(name, value)
        self.location = headers.get(b"location", b"").decode("utf-8", "replace")
        length = headers.get(b"content-length")
        if self.status in (101, 204, 304):
            self.complete = True
        elif headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._step = self._chunk_size
        elif length is None:
            self._step = self._endless
        elif _SIZE.fullmatch(length) is None:
            raise ValueError(f"bad Content-Length {length[:40].decode('latin-1')!r}")
        else:
            self._left = int(length)
            self._step = self._sized

    def _sized(self) -> bool:
        self._take_body(self._left)
        self.complete = self.complete or not self._left
        return False

    def _endless(self) -> bool:
        self._take_body(len(self._buffer))
        return False

    def _chunk_size(self) -> bool:
        end = self._buffer.find(b"\n", 0, _CHUNK_LINE_LIMIT)
        if end < 0:
            if len(self._buffer) >= _CHUNK_LINE_LIMIT:
                raise ValueError("malformed chunked encoding")
            return False
        match = _CHUNK_SIZE.fullmatch(bytes(self._buffer[:end]).rstrip(b"\r"))
        if match is None:
            raise ValueError("malformed chunked encoding")
        self._drop(end + 1)
        self._left = int(match[1], 16)
        self.complete = not self._left or self._overhead > HEAD_LIMIT
        self._step = self._chunk
        return True

    def _chunk(self) -> bool:
        self._take_body(self._left)
        if not self._left:
            self._step = self._chunk_end
        return not self._left

    def _chunk_end(self) -> bool:
        if not self._buffer or self._buffer == b"\r":
            return False
        end = 2 if self._buffer.startswith(b"\r\n") else 1
        if self._buffer[end - 1 : end] != b"\n":
            raise ValueError("malformed chunked encoding")
        self._drop(end)
        self._step = self._chunk_size
        return True

    def _take_body(self, most: int) -> None:
        taken = min(most, len(self._buffer))
        del self._buffer[:taken]
        self._body += taken
        self._left -= taken
        if self._body >= BODY_LIMIT:
            self.complete = True

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._overhead += count
