"""Talks to Podman over its socket. The only module that imports podman-py; import it when it is needed.

Every request has a connection of its own. Podman's service counts a kept-alive connection as a user, and
would never exit while one is open (``pkg/api/server/idle``); connecting a unix socket costs next to nothing.
"""

import importlib
import importlib.util
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote

import msgspec

from edgeagent.api.errors import TemporaryError
from edgeagent_podman.answers import Answer

if TYPE_CHECKING:
    from podman.api.client import APIClient, APIResponse

API_VERSION = "4.3.0"
"""The oldest API that is spoken here; every later Podman answers it."""
MAX_BODY_BYTES = 16 * 1024 * 1024
UNAVAILABLE = "RuntimeUnavailable"

T = TypeVar("T")
Params = Mapping[str, str | list[str]]


class _LazyPackage(ModuleType):
    """The package ``podman`` with its ``__init__`` not run yet; it runs when a name of it is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]  # before it runs: it may ask itself for names
        spec.loader.exec_module(self)
        return getattr(self, name)


def _load() -> "type[APIClient]":
    """Import ``podman.api.client``, without what ``podman/__init__`` adds to it.

    That is a class for every kind of object and a library for progress bars, a third of the time and of
    the memory. This process may run only for one container's start, so the time counts.
    """
    if "podman" not in sys.modules and (spec := importlib.util.find_spec("podman")) is not None:
        package: ModuleType = _LazyPackage("podman")
        package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())
        package.__package__, package.__file__, package.__loader__ = "podman", spec.origin, spec.loader
        sys.modules["podman"] = package
        importlib.import_module("podman.version")  # podman.api asks the package for it by name
    from podman.api.client import APIClient

    return APIClient


_APIClient = _load()

# podman-py's own dependency and a module of it, both imported by it already.
import urllib3.exceptions  # noqa: E402
from podman.api import uds  # noqa: E402


class _Connection(uds.UDSConnection):
    """podman-py's connection, which leaves its socket open where connecting fails."""

    def connect(self) -> None:
        """Connect, or raise the operating system's error with nothing left open."""
        sock = uds.UDSSocket(self.uds)
        try:
            sock.settimeout(self.timeout)
            sock.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Pool(uds.UDSConnectionPool):
    ConnectionCls = _Connection


class PodmanClient:
    """Requests to the libpod API on a unix socket, from any thread.

    Whatever keeps an answer from coming is a TemporaryError that names the socket and what to do; an
    answer with an error status is returned, since what it means depends on the request.
    """

    def __init__(self, socket: str, timeout: float) -> None:
        self._socket = socket
        self._timeout = timeout
        self._local = threading.local()  # requests does not promise that a session is safe to share

    def get(self, path: str, params: Params | None = None) -> Answer:
        """GET ``path``."""
        return self._ask(_Request("GET", path, params or {}, self._timeout))

    def delete(self, path: str, params: Params | None = None) -> Answer:
        """DELETE ``path``."""
        return self._ask(_Request("DELETE", path, params or {}, self._timeout))

    def post(
        self,
        path: str,
        params: Params | None = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        repeat: bool = True,
    ) -> Answer:
        """POST ``body``, as JSON, to ``path``. ``repeat`` is False where a second request could do harm."""
        return self._ask(
            _Request("POST", path, params or {}, timeout or self._timeout, body, headers or {}), repeat=repeat
        )

    def target(self, path: str) -> str:
        """``path`` as it stands in a request, for one that is made elsewhere."""
        return f"/v{API_VERSION}/libpod/{path}"

    def decode(self, body: bytes, kind: type[T]) -> T:
        """An answer's body, or a line of it, as ``kind``."""
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            problem = f"Podman's answer on {self._socket} could not be understood ({error})"
            raise TemporaryError(f"{problem}; is it Podman that listens there?", reason=UNAVAILABLE) from None

    def _ask(self, request: "_Request", *, repeat: bool = True) -> Answer:
        try:
            return self._exchange(request)
        except _ConnectionLost as lost:
            if not repeat:
                raise lost.told from None
        # The service may have been on its way out, its time being up, when the connection was made.
        try:
            return self._exchange(request)
        except _ConnectionLost as lost:
            raise lost.told from None

    def _exchange(self, request: "_Request") -> Answer:
        deadline = time.monotonic() + request.timeout
        try:
            response = self._send(request)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            causes = list(_causes(error))
            told = self._unavailable(causes, request.timeout)
            raise (_ConnectionLost(told) if _is_lost(causes) else told) from None
        try:
            body = self._read(response.raw, deadline, request.timeout)
            version = response.headers.get("Libpod-API-Version", "")
            return Answer(response.status_code, body, version, self._socket)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise self._unavailable(list(_causes(error)), request.timeout) from None
        finally:
            response.close()
            self._client().close()  # the connection; the "Connection: close" alone leaves it to the server

    def _send(self, request: "_Request") -> "APIResponse":
        client = self._client()
        path, params, timeout = request.path, request.params, request.timeout
        if request.method == "GET":
            return client.get(path, params=params, timeout=timeout, stream=True)
        if request.method == "DELETE":
            return client.delete(path, params=params, timeout=timeout, stream=True)
        return client.post(
            path, params=params, data=request.body, headers=request.headers, timeout=timeout, stream=True
        )

    def _read(self, raw: "urllib3.HTTPResponse", deadline: float, timeout: float) -> bytes:
        """The body, within the time and the size allowed."""
        body = bytearray()
        while chunk := raw.read1(65536):
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                problem = f"Podman's answer on {self._socket} is larger than {MAX_BODY_BYTES} bytes"
                raise TemporaryError(f"{problem}; it was not read", reason=UNAVAILABLE)
            if time.monotonic() > deadline:
                raise self._unavailable([TimeoutError()], timeout)
        return bytes(body)

    def _client(self) -> "APIClient":
        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = _APIClient(base_url="http+unix://" + quote(self._socket, safe=""), version=API_VERSION)
            client.headers.update(
                {"Connection": "close", "Accept-Encoding": "identity", "Content-Type": "application/json"}
            )
            adapter = client.get_adapter("http://")
            assert isinstance(adapter, uds.UDSAdapter)
            assert adapter.poolmanager is not None
            adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool}
            self._local.client = client
        return client

    def _unavailable(self, causes: list[BaseException], timeout: float) -> TemporaryError:
        """The error a person can act on, from what the libraries raised."""
        where = f"Podman's socket {self._socket}"
        journal = "'journalctl -u podman.service' may tell why"
        if _has(causes, FileNotFoundError):
            text = f"{where} does not exist; start it with 'systemctl enable --now podman.socket'"
        elif _has(causes, ConnectionRefusedError):
            text = f"nothing listens on {where}; start it with 'systemctl restart podman.socket'"
        elif _has(causes, PermissionError):
            text = f"{where} may not be opened by this user; the agent needs root, or a socket of its own"
        elif _has(causes, TimeoutError):
            text = f"no whole answer on {where} within {timeout:g} s; {journal}"
        else:
            text = f"the answer on {where} broke off or is not HTTP; {journal}"
        return TemporaryError(text, reason=UNAVAILABLE)


class _Request(msgspec.Struct, frozen=True):
    method: Literal["GET", "DELETE", "POST"]
    path: str
    params: Params
    timeout: float
    body: bytes = b""
    headers: Mapping[str, str] = {}


class _ConnectionLost(Exception):
    """The connection ended before there was an answer; ``told`` is the error for the caller."""

    def __init__(self, told: TemporaryError) -> None:
        super().__init__(str(told))
        self.told = told


def _is_lost(causes: list[BaseException]) -> bool:
    return _has(causes, ConnectionError) and not _has(causes, ConnectionRefusedError)


def _has(causes: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it was raised from or wraps: the libraries nest the operating system's."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        item = queue.pop()
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        queue += [item.__cause__, item.__context__, *item.args]
