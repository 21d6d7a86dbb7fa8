"""The local API: HTTP on a unix socket, for a technician or a local application, with no network at all.

``curl --unix-socket /run/edgeagent/api.sock http://node/api/v1/pods``. Reads are in Kubernetes' paths and
shapes. ``POST /edge/v1/streams/<method>`` with ``Upgrade: edgeagent-channels`` opens a stream (``follow``,
``exec``, ``portforward``): after the answer 101 the connection carries channels, as
``edgeagent.wire.socketlink`` says. Until somebody connects, it is one socket; what speaks HTTP is imported
then.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError
from edgeagent.api.objects.decode import convert
from edgeagent.node.localstreams import LocalStreams, OpenedStream
from edgeagent.node.reads import NodeReads
from edgeagent.node.streams.service import Services
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.rpc import LogsParams, NetworkParams
from edgeagent.wire.top import METRICS_API

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 8
ANSWER_SECONDS = 30.0
ACCEPT_PAUSE_SECONDS = 1.0
NO_SUCH_PATH = "there is no such path; try /api/v1/pods or /edge/v1/status"
_STATUSES = {
    "NotFound": 404,
    "BadRequest": 400,
    "InvalidObject": 400,
    "NetworkNotReady": 503,
    "TooManyRequests": 429,
}


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"


class LocalApi:
    """Listens on ``path`` (mode 0600: its owner and root) from ``start`` to ``stop``."""

    def __init__(
        self,
        path: Path,
        reads: NodeReads,
        services: Services,
        agent_status: Callable[[], Mapping[str, object]],
    ) -> None:
        self._path = path
        self._reads = reads
        self._streams = LocalStreams(services)
        self._agent_status = agent_status
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._busy = threading.BoundedSemaphore(AT_ONCE)

    def start(self) -> None:
        """Bind and wait. A socket left behind by a killed agent is replaced."""
        loop = asyncio.get_running_loop()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            os.chmod(self._path, 0o600)
            listener.listen(16)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._listen(loop, listener)

    async def stop(self) -> None:
        """Close the socket and remove it, and end the streams that were opened there."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)
        await self._streams.stop()

    def _listen(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        loop.add_reader(listener, self._accept, loop, listener)

    def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Most likely no descriptor is free. The socket stays readable: without a pause this would spin.
            log.warning("a local connection cannot be accepted: %s", error)
            loop.remove_reader(listener)
            self._pause = loop.call_later(ACCEPT_PAUSE_SECONDS, self._listen, loop, listener)
            return
        if not self._busy.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(target=self._serve, args=(loop, connection), name="local API", daemon=True).start()

    def _serve(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        # Imported only now: http.server and what it needs are of no use to an agent nobody talks to.
        from edgeagent.node.localhttp import serve_connection

        def on_loop(asked: Coroutine[Any, Any, T]) -> T | Answer:
            try:
                future: Future[T] = asyncio.run_coroutine_threadsafe(asked, loop)
            except RuntimeError:
                asked.close()
                return failure(503, "ServiceUnavailable", "the agent has stopped")
            try:
                return future.result(ANSWER_SECONDS)
            except (CancelledError, TimeoutError):
                future.cancel()
                return failure(503, "ServiceUnavailable", "the agent is stopping, or too busy to answer")

        def begin(stream: OpenedStream, upgraded: socket.socket) -> None:
            try:
                loop.call_soon_threadsafe(self._streams.begin, stream, upgraded)
            except RuntimeError:
                upgraded.close()  # the agent has stopped

        try:
            serve_connection(
                connection,
                ask=lambda path, query: on_loop(self.answer(path, query)),
                open_stream=lambda path, body: on_loop(self.open_stream(path, body)),
                begin=begin,
            )
        finally:
            self._busy.release()

    async def answer(self, path: str, query: Mapping[str, str]) -> Answer:
        """The answer to GET ``path``."""
        try:
            return await self._route(path.strip("/").split("/"), query)
        except Exception as error:
            return _failed(path, error)

    async def open_stream(self, path: str, body: bytes) -> "OpenedStream | Answer":
        """What POST ``path`` opens, or why it does not."""
        try:
            match path.strip("/").split("/"):
                case ["edge", "v1", "streams", method]:
                    return await self._streams.open(method, body)
            return failure(404, "NotFound", NO_SUCH_PATH)
        except Exception as error:
            return _failed(path, error)

    async def _route(self, parts: list[str], query: Mapping[str, str]) -> Answer:
        match parts:
            case ["healthz"]:
                return Answer(200, b"ok", "text/plain")
            case ["edge", "v1", "status"]:
                return Answer(200, canonical_json(self._agent_status()))
            case ["edge", "v1", "network", what]:
                return Answer(
                    200, canonical_json(await self._reads.network.ask(_network_params(what, query)))
                )
            case ["edge", "v1", "audit"]:
                return Answer(200, canonical_json(self._reads.audit(_count(query.get("tail", ""), "tail"))))
            case ["api", "v1", "nodes"]:
                return _listing([self._reads.node()])
            case ["api", "v1", "nodes", name] if name == self._reads.node().metadata.name:
                return Answer(200, canonical_json(self._reads.node()))
            case ["api", "v1", "pods"]:
                return _listing(self._reads.pods())
            case ["api", "v1", "events"]:
                return _listing(self._reads.events())
            case ["api", "v1", "namespaces", namespace, "events"]:
                return _listing(self._reads.events(namespace))
            case ["api", "v1", "namespaces", namespace, "events", name]:
                for event in self._reads.events(namespace, name):
                    return Answer(200, canonical_json(event))
                return failure(404, "NotFound", f'events "{name}" not found')
            case ["api", "v1", "namespaces", namespace, "pods"]:
                return _listing([pod for pod in self._reads.pods() if pod.metadata.namespace == namespace])
            case ["api", "v1", "namespaces", namespace, "pods", name]:
                for pod in self._reads.pods():
                    if (pod.metadata.namespace, pod.metadata.name) == (namespace, name):
                        return Answer(200, canonical_json(pod))
                return failure(404, "NotFound", f'pods "{name}" not found')
            case ["apis", "metrics.k8s.io", "v1beta1", *rest]:
                return await self._metrics(rest)
            case ["api", "v1", "namespaces", namespace, "pods", name, "log"]:
                result = await self._reads.logs(_logs_params(namespace, name, query))
                return Answer(200, result.text, "text/plain")
        return failure(404, "NotFound", NO_SUCH_PATH)

    async def _metrics(self, parts: list[str]) -> Answer:
        usage, node = self._reads.usage, self._reads.node().metadata.name
        match parts:
            case ["nodes"]:
                return _metrics_list("NodeMetricsList", [await usage.node()])
            case ["nodes", name] if name == node:
                return Answer(200, canonical_json(await usage.node()))
            case ["pods"]:
                return _metrics_list("PodMetricsList", await usage.pods())
            case ["namespaces", namespace, "pods"]:
                return _metrics_list("PodMetricsList", await usage.pods(namespace))
            case ["namespaces", namespace, "pods", name]:
                return Answer(200, canonical_json((await usage.pods(namespace, name))[0]))
        return failure(404, "NotFound", NO_SUCH_PATH)


def _metrics_list(kind: str, items: Sequence[object]) -> Answer:
    return Answer(200, canonical_json({"apiVersion": METRICS_API, "kind": kind, "items": items}))


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise InvalidObjectError(name, "must be a whole number")
    return int(text)


def _network_params(what: str, query: Mapping[str, str]) -> NetworkParams:
    """``from``, ``to``, ``port`` and ``protocol`` are what ``trace`` takes."""
    port = query.get("port", "0")
    if not (port.isascii() and port.isdecimal() and len(port) < 6):
        raise InvalidObjectError("port", "must be a whole number")
    asked = {
        "what": what,
        "source": query.get("from", ""),
        "target": query.get("to", ""),
        "port": int(port),
        "protocol": query.get("protocol", "TCP"),
    }
    return convert(asked, NetworkParams)


def _logs_params(namespace: str, name: str, query: Mapping[str, str]) -> LogsParams:
    tail = query.get("tailLines", "")
    if tail and not (tail.isascii() and tail.isdecimal() and len(tail) < 10):
        raise InvalidObjectError("tailLines", "must be a whole number")
    since_time = query.get("sinceTime", "")
    try:
        since = parse_rfc3339(since_time) if since_time else 0.0
    except (ValueError, OverflowError):
        raise InvalidObjectError("sinceTime", "must be a time as in RFC 3339") from None
    return LogsParams(
        namespace=namespace,
        pod=name,
        container=query.get("container", ""),
        tail_lines=int(tail) if tail else None,
        previous=query.get("previous") == "true",
        timestamps=query.get("timestamps") == "true",
        since=since,
        since_seconds=_count(query.get("sinceSeconds") or "0", "sinceSeconds"),
        all_containers=query.get("allContainers") == "true",
    )


def _failed(path: str, error: Exception) -> Answer:
    if not isinstance(error, EdgeAgentError):
        log.error("a local request for %s met a bug", path, exc_info=error)
        return failure(500, "InternalError", f"{type(error).__name__}; see the agent's log")
    reason = "BadRequest" if isinstance(error, InvalidObjectError) else getattr(error, "reason", "")
    return failure(_STATUSES.get(reason, 500), reason or "InternalError", str(error))


def _listing(items: Sequence[object]) -> Answer:
    return Answer(200, canonical_json({"apiVersion": "v1", "kind": "List", "items": items}))


def failure(status: int, reason: str, message: str) -> Answer:
    """An error in the shape of Kubernetes' Status."""
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": status,
    }
    return Answer(status, canonical_json(body))
