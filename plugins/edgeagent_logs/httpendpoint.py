"""HttpEndpoint: one server that is posted to, over one connection that is kept between requests.

``http.client`` under a deadline, with bounded answers and without redirects; why not a larger library is in
``docs/adr/0024``. What an answer means is up to whoever asked.
"""

import contextlib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NamedTuple

from edgeagent import __version__
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_logs.deadline import Deadline, DeadlineSocket, connect
from edgeagent_logs.httpproxy import Proxy, proxy_for
from edgeagent_logs.secretfiles import Credentials
from edgeagent_logs.sinkconfig import HttpSinkConfig
from edgeagent_logs.tlscontext import TlsContexts, needs_a_person

MAX_ANSWER_BYTES = 4 * 1024 * 1024
SHOWN_CHARACTERS = 300
_GZIP_LEVEL = 2
_GZIP_WINDOW = 31  # zlib's word for: 32 kB, in gzip's wrapping


_HUNG_UP = (
    BrokenPipeError,
    ConnectionResetError,
    ConnectionAbortedError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


class HttpAnswer(NamedTuple):
    """``headers`` by their names in lower case; not ``whole``: more than ``MAX_ANSWER_BYTES`` came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


class _GoneError(Exception):
    """A connection that was kept had ended before it was used again."""


class HttpEndpoint:
    """``path`` is the API's, added to the URL. Safe to use from several threads, one request each."""

    def __init__(
        self,
        config: HttpSinkConfig,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        proxy: Callable[[str, str], Proxy | None] = proxy_for,
    ) -> None:
        place = config.place
        self._config = config
        self._host = place.hostname or ""
        self._port = place.port or (443 if place.scheme == "https" else 80)
        self._tls = TlsContexts(config.tls) if place.scheme == "https" else None
        base = place.path.rstrip("/")
        self._target = base if base.endswith(path) else base + path
        self._proxy = proxy
        self._headers = {"User-Agent": f"edgeagent/{__version__}", **(headers or {}), **config.headers}
        self._credentials = Credentials(config)
        self._kept: HTTPConnection | None = None
        self._keeping = threading.Lock()
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self._authority = f"{shown}:{self._port}"
        self.where = f"{place.scheme}://{self._authority}{self._target}"

    def post(self, body: bytes, content_type: str, *, query: str = "") -> HttpAnswer:
        """Send ``body``; the answer, whatever its status.

        Raises TemporaryError where there is none, PermanentError where a person must mend something first.
        """
        headers = {**self._headers, **self._credentials.headers(), "Content-Type": content_type}
        if self._config.compression == "gzip":
            packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        target = self._target + (f"?{query}" if query else "")
        deadline = Deadline(self._config.timeout)
        try:
            if (kept := self._take(deadline)) is not None:
                with contextlib.suppress(_GoneError):
                    return self._exchange(kept, target, body, headers, kept=True)
            return self._exchange(self._connect(deadline), target, body, headers, kept=False)
        except OSError as error:
            raise self._failed(error) from None
        except HTTPException as error:
            text = f"{self.where}: no answer of HTTP: {self.shown(repr(error))}"
            raise TemporaryError(text, reason="AnswerUnreadable") from None

    def shown(self, text: str | bytes) -> str:
        """What the other side said, fit for a message: one line, bounded, without credentials."""
        if isinstance(text, bytes):
            text = text[: 8 * SHOWN_CHARACTERS].decode(errors="replace")
        line = " ".join("".join(c if c.isprintable() else " " for c in self._credentials.hide(text)).split())
        return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"

    def close(self) -> None:
        """Close the connection that is kept."""
        if (kept := self._take(Deadline(1))) is not None:
            kept.close()

    def _take(self, deadline: Deadline) -> HTTPConnection | None:
        """The connection that is kept, if it still stands; nobody else has it from now on."""
        with self._keeping:
            kept, self._kept = self._kept, None
        if kept is None or not isinstance(kept.sock, DeadlineSocket):
            return None
        if not kept.sock.quiet():
            kept.close()
            return None
        kept.sock.deadline = deadline
        return kept

    def _keep(self, connection: HTTPConnection) -> None:
        with self._keeping:
            other, self._kept = self._kept, connection
        if other is not None:  # made meanwhile by another thread
            other.close()

    def _connect(self, deadline: Deadline) -> HTTPConnection:
        proxy = self._proxy("http" if self._tls is None else "https", self._host)
        host, port = (self._host, self._port) if proxy is None else (proxy.host, proxy.port)
        context = None if self._tls is None else self._tls.current()
        sock = connect(host, port, deadline)
        try:
            if context is not None:
                if proxy is not None:
                    self._tunnel(sock, deadline, proxy)
                sock.settimeout(deadline.left())
                name = self._config.tls.server_name or self._host
                sock = context.wrap_socket(sock, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        connection = _Connection(self._host, self._port, DeadlineSocket(sock, deadline))
        connection.default_port = 80 if context is None else 443  # which the header Host leaves out
        connection.plain_proxy = proxy if context is None else None
        return connection

    def _tunnel(self, sock: socket.socket, deadline: Deadline, proxy: Proxy) -> None:
        """Have the proxy connect (RFC 9110, 9.3.6)."""
        over = DeadlineSocket(sock, deadline)
        lines = [f"CONNECT {self._authority} HTTP/1.1", f"Host: {self._authority}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        over.sendall("\r\n".join([*lines, "", ""]).encode())
        # Nothing follows the header before TLS begins, so that the reader takes nothing that is not its own.
        answer = HTTPResponse(over, method="CONNECT")  # type: ignore[arg-type] # makefile is all that is used
        answer.begin()
        status, reason = answer.status, answer.reason
        answer.close()
        over.detach()
        if not 200 <= status < 300:
            text = f"{self.where}: the proxy {proxy.host}:{proxy.port} does not connect: {status} {reason}"
            if status in (403, 405, 407):
                raise PermanentError(self.shown(text), reason="ProxyRefuses")
            raise TemporaryError(self.shown(text), reason="ProxyRefuses")

    def _exchange(
        self, connection: HTTPConnection, target: str, body: bytes, headers: dict[str, str], *, kept: bool
    ) -> HttpAnswer:
        proxy = getattr(connection, "plain_proxy", None)
        if isinstance(proxy, Proxy):
            target = f"http://{self._authority}{target}"
            headers = headers | ({"Proxy-Authorization": proxy.authorization} if proxy.authorization else {})
        usable = False
        try:
            unsent: OSError | None = None
            try:
                connection.request("POST", target, body=body, headers=headers)
            except _HUNG_UP as error:
                unsent = error  # it may have said why before: 413 above all
            try:
                response = connection.getresponse()
            except (OSError, HTTPException) as error:
                if kept and isinstance(error, _HUNG_UP):
                    raise _GoneError from None
                if unsent is None or (isinstance(error, OSError) and needs_a_person(error)):
                    raise  # an alert of TLS, which waited to be read while writing failed already
                raise unsent from None
            answer = self._read(response)
            usable = unsent is None and answer.whole and connection.sock is not None
        finally:
            if usable:
                self._keep(connection)
            else:
                connection.close()
        return answer

    def _read(self, response: HTTPResponse) -> HttpAnswer:
        body, whole = bytearray(), True
        while piece := response.read(65_536):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                whole = False
                break
        if whole and response.length:
            raise TemporaryError(f"{self.where}: the answer broke off", reason="AnswerUnreadable")
        headers = {name.lower(): value for name, value in response.headers.items()}
        response.close()
        return HttpAnswer(response.status, headers, bytes(body[:MAX_ANSWER_BYTES]), whole)

    def _failed(self, error: OSError) -> Exception:
        text = f"{self.where}: {self.shown(error.strerror or str(error) or type(error).__name__)}"
        if needs_a_person(error):
            return PermanentError(text, reason="TlsRefused")
        if isinstance(error, TimeoutError):
            text = f"{self.where}: no answer within {self._config.timeout:g} s"
        elif isinstance(error, socket.gaierror):
            text = f"{self.where}: the name {self._host} cannot be resolved: {error.strerror}"
        return TemporaryError(text, reason="Unreachable")


class _Connection(HTTPConnection):
    """On a socket that is connected already. ``plain_proxy``: it is a proxy's, that is sent whole URLs."""

    def __init__(self, host: str, port: int, sock: DeadlineSocket) -> None:
        super().__init__(host, port)
        self.sock = sock
        self.plain_proxy: Proxy | None = None
        self.auto_open = 0
