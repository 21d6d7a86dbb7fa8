"""RemoteWriteClient: sends series to a Prometheus, VictoriaMetrics or whatever else takes remote_write.

Blocking, for a thread that may wait. What the receiver refuses for ever is found out by asking again with
less: Prometheus takes nothing of a request in which one sample is too old, or was there before.
"""

import base64
import binascii
import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError
from edgeagent.wire.remotewrite import HEADERS, TimeSeries, write_request
from edgeagent.wire.remotewritesorting import Sorting, in_requests

MAX_ANSWER_BYTES = 16_384
MAX_REASON = 200
MAX_DELAY_SECONDS = 3600.0
"""No receiver puts off for longer."""
MAX_REQUESTS = 200
"""How many requests finding out what is refused may take; what is left then is refused in one."""
SORTING_SECONDS = 30.0
"""How long that may take; what is sent once and taken is not counted."""
HOPELESS_REQUESTS = 20
"""The same for a receiver that has taken nothing of what it was sent last."""
_RETRY = frozenset({408, 425, 429})
_REFUSED = frozenset({400, 409, 413, 422})


class RemoteWriteTarget(msgspec.Struct, frozen=True):
    """Where to, and as whom. Files are read anew for each connection, so that they can be renewed.

    ``authorization`` answers the header's value, empty for none; it may raise OSError.
    """

    url: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    authorization: Callable[[], str] = lambda: ""
    timeout: float = 30.0


class _Answer(NamedTuple):
    status: int
    text: str
    delay: float | None


class RemoteWriteClient:
    """One receiver, over a connection that is kept while it lasts. For one thread at a time.

    ``agent`` is the program's name and version, for the receiver's log.
    """

    def __init__(
        self, target: RemoteWriteTarget, *, agent: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        check_url(target.url)
        self._monotonic = monotonic
        self._target = target
        self._agent = agent
        self._connection: http.client.HTTPConnection | None = None
        self._hopeless = False
        self._secrets: tuple[str, ...] = ()

    def close(self) -> None:
        """End the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(self, series: Sequence[TimeSeries]) -> dict[int, str]:
        """Send all; the places of series of which the receiver takes some samples never, with why.

        TemporaryError where nothing, or not all, can be sent now; PermanentError where a person must mend
        something first. All of it may be sent again then.
        """
        until = self._monotonic() + SORTING_SECONDS
        sorting = Sorting(
            self._ask,
            budget=HOPELESS_REQUESTS if self._hopeless else MAX_REQUESTS,
            in_time=lambda: self._monotonic() < until,
        )
        for part in in_requests(series):
            sorting.send(part)
        self._hopeless = bool(sorting.rejected) and not sorting.taken
        return sorting.rejected

    def _ask(self, series: Sequence[TimeSeries]) -> str:
        answer = self._post(write_request(series))
        if answer.status // 100 == 2:
            return ""
        self._raise(answer)
        return f"HTTP {answer.status}: {answer.text}"

    def _raise(self, answer: _Answer) -> None:
        """Unless it is about these very samples."""
        status = answer.status
        if status in _REFUSED:
            return
        text = f"{self._target.url} answers {status}: {answer.text or http.client.responses.get(status, '')}"
        if status in _RETRY or status >= 500:
            raise TemporaryError(text, delay=answer.delay, reason="RemoteWriteBusy")
        raise PermanentError(text, reason="RemoteWriteRefused")

    def _post(self, body: bytes) -> _Answer:
        kept = self._connection is not None
        try:
            return self._once(body)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            # A connection that was kept may have ended meanwhile; to send the same again does no harm.
            if not (kept and isinstance(error, http.client.RemoteDisconnected | ConnectionError)):
                raise self._unreachable(error) from error
        try:
            return self._once(body)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> TemporaryError:
        # What is no answer of HTTP is shown as it came.
        why = self._shown(str(error)) or type(error).__name__
        return TemporaryError(f"{self._target.url} cannot be reached: {why}", reason="RemoteWriteUnreachable")

    def _once(self, body: bytes) -> _Answer:
        connection = self._connection or self._connect()
        self._connection = connection
        # The time-out of a socket is for each piece that comes; this is for all of them together.
        watch = threading.Timer(self._target.timeout, lambda: _cut(connection))
        watch.daemon = True
        watch.start()
        try:
            parts = urlsplit(self._target.url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, self._headers())
            response = connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES).decode(errors="replace")
            if not response.isclosed() or response.will_close:
                self.close()
            return _Answer(response.status, self._shown(text), _delay(response))
        finally:
            watch.cancel()
            if self._connection is not connection:  # it was closed while it was being opened
                connection.close()

    def _shown(self, text: str) -> str:
        """What the other side said, fit for a message: one line, bounded, without credentials."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[:MAX_REASON]

    def _headers(self) -> dict[str, str]:
        headers = {**HEADERS, "User-Agent": self._agent, **self._target.headers}
        try:
            authorization = self._target.authorization()
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(f"the credentials for {self._target.url} cannot be read: {error}") from None
        if authorization:
            headers["Authorization"] = authorization
        sent = [value for name, value in headers.items() if name.lower() == "authorization"]
        self._secrets = tuple(secret for value in sent for secret in _secrets_of(value))
        return headers

    def _connect(self) -> http.client.HTTPConnection:
        target, parts = self._target, urlsplit(self._target.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=target.timeout)
        try:
            context = ssl.create_default_context(cafile=target.ca_file or None)
            if target.certificate_file:
                context.load_cert_chain(target.certificate_file, target.key_file or None, password="")
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (target.ca_file, target.certificate_file, target.key_file)))
            raise PermanentError(f"TLS files {files} cannot be used: {error}") from None
        return http.client.HTTPSConnection(host, parts.port, timeout=target.timeout, context=context)


def check_url(url: str) -> None:
    """InvalidObjectError unless it is a whole http or https URL without a password in it."""
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError as error:
        raise InvalidObjectError("url", str(error)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise InvalidObjectError("url", f"{url!r} is no URL such as https://prometheus:9090/api/v1/write")
    if parts.username or parts.password:
        raise InvalidObjectError("url", "has a user in it; use username and password_file")


def basic_authorization(username: str, password_file: str) -> str:
    """The header's value for a user whose password is the first line of a file (RFC 7617)."""
    both = f"{username}:{_secret(password_file)}"
    return "Basic " + base64.b64encode(both.encode()).decode()


def bearer_authorization(token_file: str) -> str:
    """The header's value for the token in a file (RFC 6750)."""
    return f"Bearer {_secret(token_file)}"


def _secrets_of(authorization: str) -> list[str]:
    """What must be in no message: the credentials, and for a user also the password they are made of."""
    scheme, _, credentials = authorization.strip().partition(" ")
    found = [credentials.strip() or scheme]
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(found[0]).decode(errors="replace").partition(":")[2])
    return sorted(filter(None, found), key=len, reverse=True)


def _secret(path: str) -> str:
    secret = Path(path).read_text().partition("\n")[0].strip()
    if not secret or not secret.isprintable():
        raise OSError(f"{path} has no secret in its first line")
    return secret


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            # Not by way of TLS, which another thread is in. Who reads there is told of the end by this alone.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _delay(response: http.client.HTTPResponse) -> float | None:
    """``Retry-After`` in seconds: it may say that itself, or a date, which counts from the answer's own."""
    text = response.getheader("Retry-After", "")
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_DELAY_SECONDS)
    try:
        until = parsedate_to_datetime(text)
        now = parsedate_to_datetime(response.getheader("Date", ""))
    except (TypeError, ValueError):
        return None
    seconds = (_aware(until) - _aware(now)).total_seconds()
    return min(max(0.0, seconds), MAX_DELAY_SECONDS)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
