"""One request, one answer: HTTP/1.1 on a socket that is closed afterwards, all within a deadline."""

import http.server
import io
import socket
import time
import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.metrics import MetricFamily
from edgeagent_metrics.exposition import CONTENT_TYPES, render
from edgeagent_metrics.negotiation import TIMEOUT_HEADER, patience, wanted_format, wants_gzip

HEAD_SECONDS = 5.0
"""How long a request may take to arrive."""
SEND_SECONDS = 20.0
MOST_HEAD_BYTES = 16_384
PATH = "/metrics"
_GZIP = 31
"""What zlib calls the format (``wbits``)."""


class Answer(NamedTuple):
    """``headers`` without those of every answer."""

    status: HTTPStatus
    body: bytes
    headers: dict[str, str] = {}


class _Request(http.server.BaseHTTPRequestHandler):
    """The standard library's parser, on the bytes of a whole head; nothing is read or written by it."""

    def __init__(self, head: bytes) -> None:
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.client_address = ("", 0)
        self.problem = HTTPStatus.BAD_REQUEST
        self.raw_requestline = self.rfile.readline(MOST_HEAD_BYTES + 1)
        self.valid = self.parse_request()

    def handle_expect_100(self) -> bool:
        """A client that waits for word before it sends a body gets its answer instead."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Called by the parser for what is wrong."""
        del message, explain
        self.problem = HTTPStatus(code)


def serve(connection: socket.socket, gather: Callable[[float], list[MetricFamily]]) -> None:
    """Read a request and answer it. OSError where the client is gone or takes too long."""
    head = _read_head(connection)
    if head is None:
        answer, is_head = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long"), False
    elif not head:
        return
    else:
        request = _Request(head)
        answer, is_head = _answer(request, gather), request.valid and request.command == "HEAD"
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
    ]
    data = "\r\n".join([*lines, "", ""]).encode("ascii", "replace")
    connection.settimeout(SEND_SECONDS)
    connection.sendall(data if is_head else data + answer.body)


def _read_head(connection: socket.socket) -> bytes | None:
    """Up to the empty line; empty where the client said nothing, None where it said too much."""
    deadline = time.monotonic() + HEAD_SECONDS
    head = bytearray()
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(MOST_HEAD_BYTES)
        if not data:
            return b""
        head += data
        if len(head) > MOST_HEAD_BYTES:
            return None
        if time.monotonic() > deadline:
            raise TimeoutError("the request takes too long")
    return bytes(head)


def _answer(request: _Request, gather: Callable[[float], list[MetricFamily]]) -> Answer:
    if not request.valid:
        return _plain(request.problem, request.problem.description or request.problem.phrase)
    if request.command not in ("GET", "HEAD"):
        answer = _plain(HTTPStatus.METHOD_NOT_ALLOWED, "metrics can be read, with GET, and nothing else")
        return answer._replace(headers={**answer.headers, "Allow": "GET, HEAD"})
    if request.path.partition("?")[0] != PATH:
        return _plain(HTTPStatus.NOT_FOUND, f"there is nothing here; metrics are at {PATH}")
    headers = request.headers
    format = wanted_format(headers.get("Accept", ""))
    try:
        families = gather(patience(headers.get(TIMEOUT_HEADER, "")))
    except EdgeAgentError as error:
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    body = render(families, format)
    about = {"Content-Type": CONTENT_TYPES[format], "Vary": "Accept, Accept-Encoding"}
    if wants_gzip(headers.get("Accept-Encoding", "")):
        compressor = zlib.compressobj(1, wbits=_GZIP)
        body = compressor.compress(body) + compressor.flush()
        about["Content-Encoding"] = "gzip"
    return Answer(HTTPStatus.OK, body, about)


def _plain(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode(), {"Content-Type": "text/plain; charset=utf-8"})
