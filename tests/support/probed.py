"""A web server for probes and hooks to ask, which answers as a test says and notes who asked what."""

import datetime
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.waiting import wait_for


@dataclass(frozen=True)
class Asked:
    """A request: its path with the query, its headers, and when it came in seconds since the epoch."""

    path: str
    headers: Message
    at: float


@dataclass(frozen=True)
class Answer:
    """A status and, of a redirect, where it leads."""

    status: int
    location: str = ""


class ProbedServer(ThreadingHTTPServer):
    """Answers the requests for a path one after another as ``say`` told it; one more waits for the next.

    Since a probe is not made twice at a time, a request that waits means that the ones before were judged.
    ``always`` answers, by path, all requests for which nothing was said.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        super().__init__((host, 0), _Handler)
        self.asked: list[Asked] = []
        self.always: dict[str, Answer] = {}
        self._said: dict[str, SimpleQueue[Answer | None]] = defaultdict(SimpleQueue)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def say(self, path: str, *statuses: int, location: str = "") -> None:
        """Answer the next requests for ``path`` so."""
        for status in statuses:
            self._said[path].put(Answer(status, location))

    def requests(self, path: str) -> list[Asked]:
        """Those for ``path``, in the order in which they came; a query does not count."""
        return [one for one in self.asked if one.path.partition("?")[0] == path]

    def wait_asked(self, path: str, times: int = 1, timeout: float = 20.0) -> list[Asked]:
        """Wait until ``path`` was asked for so many times since the start."""
        wait_for(
            lambda: len(self.requests(path)) >= times, timeout, f"{times} requests for {path} in {self.asked}"
        )
        return self.requests(path)

    def next_answer(self, path: str) -> Answer | None:
        """How a request for ``path`` is answered; it may take a while. None: the server ends."""
        return self.always.get(path) or self._said[path].get()

    def release(self) -> None:
        """Let go of all that wait, without an answer."""
        for said in list(self._said.values()):
            for _ in self.asked:
                said.put(None)


class _Handler(BaseHTTPRequestHandler):
    server: ProbedServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Note it, and answer as was said."""
        self.server.asked.append(Asked(self.path, self.headers, time.time()))
        answer = self.server.next_answer(self.path.partition("?")[0])
        if answer is None:
            return
        self.send_response(answer.status)
        if answer.location:
            self.send_header("Location", answer.location)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def probed_server(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[ProbedServer]:
    """A server on a free port of ``host``, for as long as the block is."""
    with ProbedServer(host, tls) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.release()
            thread.join()


def unvouched_tls(file: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that nobody vouches for, expired and for another name.

    Key and certificate are written to ``file``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere.example")])
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(past).not_valid_after(past + datetime.timedelta(days=1))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
