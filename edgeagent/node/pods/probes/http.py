"""The httpGet action: one GET over a connection of its own, redirects on the same host followed."""

import asyncio
import re
from functools import cache
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from edgeagent import __version__
from edgeagent.api.objects.probe import HTTPGetAction, HTTPHeader
from edgeagent.node.pods.probes.connection import Conversation, address, converse, reason
from edgeagent.node.pods.probes.response import ResponseReader
from edgeagent.node.pods.probes.target import Outcome, ProbeTarget, bounded, failure, resolve_port

if TYPE_CHECKING:
    import ssl

MAX_REQUESTS = 10
"""Requests of one action: the first, and those that redirects ask for."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "trailer"})
"""Headers that follow from the request itself, so that an action's are passed over."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_IN_URL = "/?:@!$&'()*+,;=~%[]-._"


class Url(msgspec.Struct, frozen=True):
    """Where a request goes. ``host`` is without brackets, ``path`` with the query and fit to be sent."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an absolute URL, as redirects give it. Raises ValueError."""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"unsupported protocol scheme {parts.scheme!r}")
        if not parts.hostname:
            raise ValueError("no host in the URL")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return cls(parts.scheme, parts.hostname, port, clean_path(path))

    def __str__(self) -> str:
        return f"{self.scheme}://{address(self.host, self.port)}{self.path}"


def clean_path(path: str) -> str:
    """A path with its query as a request line takes it: absolute, quoted, without fragment."""
    return quote("/" + path.partition("#")[0].removeprefix("/"), safe=_IN_URL)


def request(url: Url, headers: list[HTTPHeader], agent: str, host: str = "") -> bytes:
    """The request as it is sent; ``host`` stands in for the URL's in the Host header. Raises ValueError.

    An action's empty User-Agent or Accept leaves the header out.
    """
    fields: list[tuple[str, str]] = []
    named: set[str] = set()
    for header in headers:
        if not _TOKEN.fullmatch(header.name):
            raise ValueError(f"invalid header name {header.name!r}")
        if any((c < " " and c != "\t") or c == "\x7f" for c in header.value):
            raise ValueError(f"invalid value of header {header.name!r}")
        name = header.name.lower()
        named.add(name)
        if name not in _OURS and (header.value or name not in ("user-agent", "accept")):
            fields.append((header.name, header.value))
    fields += [
        (name, value)
        for name, value in (("User-Agent", agent), ("Accept", "*/*"))
        if name.lower() not in named
    ]
    lines = [f"GET {url.path} HTTP/1.1", f"Host: {host or address(url.host, url.port)}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


class _Get(Conversation):
    """Sends one request and reads its answer."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self.response = ResponseReader()
        self._request = request

    def opened(self, transport: asyncio.Transport) -> None:
        transport.write(self._request)

    def received(self, data: bytes) -> None:
        self.response.feed(data)
        if self.response.complete:
            self.finish()

    def ended(self) -> None:
        self.response.end()
        self.finish()


async def http_get(action: HTTPGetAction, target: ProbeTarget, *, hook: bool = False) -> Outcome:
    """Ask, and judge the answer by its status; a ``hook`` is content with any."""
    try:
        port = resolve_port(action.port, target.container)
    except ValueError as error:
        return failure(str(error))
    first = url = Url(action.scheme.lower(), action.host or target.host, port, clean_path(action.path))
    agent = f"edgeagent-{'lifecycle' if hook else 'probe'}/{__version__}"
    host = next((entry.value for entry in action.http_headers if entry.name.lower() == "host"), "")
    try:
        for _ in range(MAX_REQUESTS):
            response = await _ask(url, request(url, action.http_headers, agent, host))
            location = response.location if response.status in _REDIRECTS else ""
            if not location:
                return _judged(response.status, hook)
            url = Url.parse(urljoin(str(url), location))
            if url.host != first.host.lower():
                return Outcome(True, bounded(f"redirect to another host not followed: {url}"))
            if urlsplit(location).netloc:
                host = ""
        return failure(f'Get "{url}": stopped after {MAX_REQUESTS} redirects')
    except (OSError, ValueError) as error:
        return failure(f'Get "{url}": {reason(error)}')


async def _ask(url: Url, message: bytes) -> ResponseReader:
    get = _Get(message)
    await converse(get, url.host, url.port, _unverified() if url.scheme == "https" else None)
    return get.response


def _judged(status: int, hook: bool) -> Outcome:
    if hook or 200 <= status < 300:
        return Outcome(True)
    if 300 <= status < 400:
        return Outcome(True, f"Probe terminated redirects, statuscode: {status}")
    return failure(f"HTTP probe failed with statuscode: {status}")


@cache
def _unverified() -> "ssl.SSLContext":
    """TLS that takes any certificate, as Kubernetes says; made when the first HTTPS probe needs it."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
