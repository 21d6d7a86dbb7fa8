"""Remote calls over MQTT 5: a request, and one or more answers on the caller's own reply topic.

The correlation data ties answers to their request. A request is signed by the operator who makes it
(``edgeagent.wire.operatorcalls``); what it asks of a node the hub passes on in a signed envelope of its own
(``edgeagent.wire.noderequest``).
"""

from typing import Literal

import msgspec

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.network import Rows
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent.wire.canonical import canonical_json

MAX_RPC_BYTES = 4_000_000
NODE_REQUEST_SECONDS = 60
"""How long a signed request to a node may be under way before it is refused."""


class Failure(KubernetesStruct, frozen=True):
    """Why a call failed: ``reason`` as Kubernetes' StatusReason (``NotFound``, ``Invalid``, …)."""

    reason: str
    message: str


class Reply(KubernetesStruct, frozen=True, omit_defaults=False):
    """One answer: ``result`` (JSON) or ``failure``; ``last`` false where more follow; ``sequence`` from 0."""

    sequence: int = 0
    last: bool = True
    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


class CallParams(KubernetesStruct, frozen=True):
    """What a call to a node says. ``about`` is the namespace and name of the object that it concerns."""

    def about(self) -> tuple[str, str]:
        """Both empty where the call is about the node itself."""
        return "", ""


class LogsParams(CallParams, frozen=True):
    """Which log: ``tail_lines`` None for all that fits; ``previous`` for the run before this one.

    ``since``: seconds since the epoch; ``since_seconds``: no older than that. ``all_containers`` one after
    the other, each with its tail.
    """

    namespace: str
    pod: str
    container: str = ""
    tail_lines: int | None = None
    previous: bool = False
    timestamps: bool = False
    since: float = 0
    since_seconds: float = 0
    all_containers: bool = False

    def about(self) -> tuple[str, str]:
        """The pod."""
        return self.namespace, self.pod


class LogsResult(KubernetesStruct, frozen=True):
    """Bytes of a log. ``truncated`` where the beginning was left out to keep within the limit."""

    text: bytes
    truncated: bool = False


class NetworkParams(CallParams, frozen=True):
    """What of a node's network: rows, or for ``trace`` the way from ``source`` to ``target``."""

    what: Rows | Literal["trace"]
    source: str = ""
    target: str = ""
    port: int = 0
    protocol: Transport = "TCP"


class NetworkResult(KubernetesStruct, frozen=True):
    """Rows, each by its headings, which ``columns`` has in their order, or lines of a trace.

    ``truncated`` where the last rows were left out.
    """

    columns: list[str] = []
    rows: list[dict[str, str]] = []
    lines: list[str] = []
    truncated: bool = False


class RebootParams(CallParams, frozen=True):
    """Nothing is to be said."""


class RebootResult(KubernetesStruct, frozen=True):
    """The node goes down now; ``boot_id`` is the one that it still runs under."""

    boot_id: str = ""


class RpcError(EdgeAgentError):
    """The other side answered that it cannot: ``reason`` and message are its own."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def encode_reply(result: object, *, sequence: int = 0, last: bool = True) -> bytes:
    """A good answer."""
    return canonical_json(Reply(sequence=sequence, last=last, result=msgspec.Raw(canonical_json(result))))


def encode_failure(error: Exception) -> bytes:
    """A bad one. Only errors that edgeagent raises on purpose show their text to the other side."""
    if isinstance(error, InvalidObjectError):
        failure = Failure(reason="Invalid", message=str(error))
    elif isinstance(error, RpcError | TemporaryError | PermanentError):
        failure = Failure(reason=error.reason or "InternalError", message=str(error))
    else:
        failure = Failure(
            reason="InternalError", message=f"{type(error).__name__} on the other side; see its log"
        )
    return canonical_json(Reply(failure=failure))


def decode_reply(payload: bytes) -> Reply:
    """An answer; raises InvalidObjectError, or RpcError with what the other side gave as the reason."""
    reply = decode_json(payload, Reply, limit=MAX_RPC_BYTES)
    if reply.failure is not None:
        raise RpcError(reply.failure.reason, reply.failure.message)
    return reply
