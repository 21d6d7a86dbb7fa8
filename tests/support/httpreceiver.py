"""A real HTTP server on loopback that is posted to, checks what it gets, and misbehaves when told to.

A subclass is one API. What a request does against the API is put down in ``problems``, and answered with 400.
"""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.support.broker import TlsMaterial

MAX_BODY = 64 * 1024 * 1024


class ApiError(Exception):
    """The request is against the API."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came; ``body`` is unpacked. ``connection`` tells connections apart."""

    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    packed: int
    connection: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Wire = BaseHTTPRequestHandler
Fault = Callable[["HttpReceiver", Wire], bool]
"""Called before a request is read; false where the request is to be served as usual afterwards."""


class HttpReceiver:
    """``faults`` are used up one a request, in order; None for a request without one.

    With ``tls`` it speaks https, and with ``client_certificates`` asks for one of the same CA.
    ``credential``, where it is set, is what the header Authorization must be.
    """

    content_types: ClassVar[frozenset[str]] = frozenset({"application/json"})

    def __init__(self, *, tls: TlsMaterial | None = None, client_certificates: bool = False) -> None:
        self.faults: deque[Fault | None] = deque()
        self.problems: list[str] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.credential: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.ending = threading.Event()
        receiver = self
        handler = type("Handler", (_Handler,), {"receiver": receiver})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(tls.server.cert, tls.server.key)
            if client_certificates:
                self._context.load_verify_locations(tls.ca.cert)
                self._context.verify_mode = ssl.CERT_REQUIRED
            self._server.context = self._context
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its URL without a path."""
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self.ending.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.end()
        if error is None:
            assert self.problems == []

    def serve(self, request: Request) -> Answer:
        """What the API says to the request; ApiError where the request is against it."""
        raise NotImplementedError

    def refuse(self, problem: str) -> Answer:
        """How the API says that a request is against it."""
        return Answer(400, json.dumps({"error": problem}).encode(), {"Content-Type": "application/json"})

    def handle(self, wire: "_Handler") -> None:
        """One request on the wire."""
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault(self, wire):
            return
        self.answer(wire, self.take(wire))

    def take(self, wire: "BaseHTTPRequestHandler") -> Answer:
        """Read a request and serve it; what it is answered with."""
        assert isinstance(wire, _Handler)
        request = wire.read_request()
        self.gate.wait(60)
        self.requests.append(request)
        if self.credential is not None and request.headers.get("authorization") != self.credential:
            return Answer(401, b'{"error":"unauthorized"}')
        try:
            content_type = request.headers.get("content-type", "")
            if content_type not in self.content_types:
                raise ApiError(f"content type {content_type!r}")
            return self.serve(request)
        except ApiError as error:
            self.problems.append(str(error))
            return self.refuse(str(error))

    @staticmethod
    def answer(wire: BaseHTTPRequestHandler, answer: Answer) -> None:
        """Send it."""
        wire.send_response(answer.status)
        for name, value in answer.headers.items():
            wire.send_header(name, value)
        if answer.status != 204:
            wire.send_header("Content-Length", str(len(answer.body)))
        wire.end_headers()
        if answer.status != 204:
            wire.wfile.write(answer.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.context: ssl.SSLContext | None = None
        self.open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(30)
        with contextlib.suppress(OSError):
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
            self.open.add(request)
            super().finish_request(request, client_address)
        self.open.discard(request)
        with contextlib.suppress(OSError):
            request.close()

    def end(self) -> None:
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    receiver: HttpReceiver

    def setup(self) -> None:
        super().setup()
        self.receiver.connections += 1
        self.number = self.receiver.connections

    def do_POST(self) -> None:
        self.receiver.handle(self)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""

    def read_request(self) -> Request:
        length = int(self.headers["Content-Length"])
        assert 0 <= length <= MAX_BODY
        body = packed = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(packed)
        path, _, query = self.path.partition("?")
        return Request(path, query, headers, body, len(packed), self.number)


# Faults


def says(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Read the request, do nothing with it, and answer with ``status``."""

    def fault(receiver: HttpReceiver, wire: Wire) -> bool:
        assert isinstance(wire, _Handler)
        receiver.requests.append(wire.read_request())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        receiver.answer(wire, Answer(status, body, named))
        return True

    return fault


def hangs_up(wire: Wire) -> None:
    """End the connection at once with a reset."""
    wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw = wire.connection
    if isinstance(raw, ssl.SSLSocket):
        raw = socket.socket(fileno=raw.detach())
    raw.close()
    wire.close_connection = True


def resets_mid_request(_receiver: HttpReceiver, wire: Wire) -> bool:
    """Read a little of the request, and reset the connection."""
    wire.rfile.read(10)
    hangs_up(wire)
    return True


def resets_mid_answer(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, and reset in the middle of the answer's header."""
    receiver.take(wire)
    wire.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    wire.wfile.flush()
    hangs_up(wire)
    return True


def resets_before_answer(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, and reset instead of answering."""
    receiver.take(wire)
    hangs_up(wire)
    return True


def cuts_the_answer(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, promise an answer of 1000 bytes, and close after ten."""
    receiver.take(wire)
    wire.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b'{"errors":')
    wire.close_connection = True
    return True


def cuts_a_chunk(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, and close in the middle of a chunk of the answer."""
    receiver.take(wire)
    wire.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{")
    wire.close_connection = True
    return True


def speaks_no_http(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, and answer in another protocol."""
    receiver.take(wire)
    wire.wfile.write(b"220 mail.example.com ESMTP\r\n")
    wire.close_connection = True
    return True


def trickles(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, and answer a byte at a time, for ever."""
    receiver.take(wire)
    with contextlib.suppress(OSError):
        wire.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not receiver.ending.wait(0.05):
            wire.wfile.write(b"x")
    wire.close_connection = True
    return True


def reads_slowly(receiver: HttpReceiver, wire: Wire) -> bool:
    """Begin to read late; the request is served as usual."""
    del wire
    receiver.ending.wait(0.3)
    return False


def never_reads(receiver: HttpReceiver, wire: Wire) -> bool:
    """Leave the request on the wire until the receiver ends."""
    receiver.ending.wait(60)
    wire.close_connection = True
    return True


def hangs_up_later(receiver: HttpReceiver, wire: Wire) -> bool:
    """Serve the request as usual, and close the connection without saying so."""
    receiver.answer(wire, receiver.take(wire))
    wire.close_connection = True
    return True


def is_huge(receiver: HttpReceiver, wire: Wire) -> bool:
    """Take the request, and answer with many megabytes."""
    receiver.take(wire)
    size = 64 * 1024 * 1024
    with contextlib.suppress(OSError):
        wire.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65_536):
            wire.wfile.write(b" " * 65_536)
    wire.close_connection = True
    return True
