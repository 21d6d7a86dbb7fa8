"""Asking the agent on this machine through its unix socket: plain HTTP, no network."""

import http.client
import socket
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import KubernetesObject, decode_object_json
from edgeagent.api.objects.node import NodeStatus

TIMEOUT_SECONDS = 30.0


class LocalError(EdgeAgentError):
    """The agent could not be asked, or answered that it cannot; ``reason`` as Kubernetes' StatusReason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StaticSummary(KubernetesStruct, frozen=True):
    """The folder of static pods: ``objects`` are in it; ``problems`` by the path of a file, or of itself."""

    path: str
    objects: int = 0
    problems: dict[str, str] = {}


class LogSinkSummary(KubernetesStruct, frozen=True):
    """A place that logs are shipped to; ``problem``: why none goes there at the moment."""

    name: str
    delivered: int = 0
    rejected: int = 0
    problem: str = ""


class Summary(KubernetesStruct, frozen=True):
    """What ``/edge/v1/status`` answers. A node that is not ``enrolled`` has no ``cluster``."""

    node: str
    cluster: str
    broker: str
    connected: bool
    last_error: str
    generation: int
    outbox: int
    status: NodeStatus
    enrolled: bool = True
    static_pods: StaticSummary | None = None
    log_sinks: list[LogSinkSummary] = []
    logs_waiting: int = 0
    metrics_exporters: list[LogSinkSummary] = []
    metrics_waiting: int = 0


class Listing(msgspec.Struct):
    """What a path that names no object answers."""

    items: list[msgspec.Raw]


def fetch(path: Path, kind: str, namespace: str = "", name: str = "") -> list[KubernetesObject]:
    """Objects of the agent at ``path``. ``kind`` as in Kubernetes' paths (``pods``); all without a ``name``.

    An empty namespace stands for every one. Raises LocalError, and PermanentError where the agent is another
    version's, whose answer cannot be read.
    """
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    url = f"/api/v1{place}/{kind}"
    try:
        if name:
            return [decode_object_json(get(path, f"{url}/{quote(name, safe='')}"))]
        items = msgspec.json.decode(get(path, url), type=Listing).items
        return [decode_object_json(bytes(item)) for item in items]
    except (InvalidObjectError, msgspec.MsgspecError) as error:
        raise PermanentError(f"the agent's answer cannot be read (another version?): {error}") from None


class _Failure(msgspec.Struct):
    reason: str = "InternalError"
    message: str = ""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("node", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(path: Path, url: str, **query: str) -> bytes:
    """The body of GET ``url`` on the socket ``path``; raises LocalError with what to do next."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", url + (f"?{urlencode(query)}" if query else ""))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(path, error) from None
    finally:
        connection.close()
    if response.status != 200:
        raise failure_of(response.status, body)
    return body


def unreachable(path: Path, error: Exception) -> LocalError:
    """Why the agent at ``path`` cannot be asked, and what to do about it."""
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return LocalError(
                "NotRunning",
                f"the agent is not running ({path} does not answer). Start it with `edgeagent run`, or "
                f"`systemctl start edgeagent` where it is a service, or name another socket with --socket",
            )
        case PermissionError():
            return LocalError("Forbidden", f"{path} may be used by root only: try again with sudo")
        case TimeoutError():
            return LocalError("Unavailable", f"the agent does not answer on {path} in time")
    return LocalError("Unavailable", f"the agent does not answer on {path}: {error}")


def failure_of(status: int, body: bytes) -> LocalError:
    """What an answer with an error status says."""
    try:
        failure = msgspec.json.decode(body, type=_Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        failure = _Failure(message=f"HTTP status {status}")
    return LocalError(failure.reason, failure.message)
