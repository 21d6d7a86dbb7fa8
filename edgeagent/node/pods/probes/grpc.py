"""The grpc action: ``grpc.health.v1.Health/Check``, over HTTP/2 without TLS.

The one module that imports h2; it is itself imported when the first container has such a probe.
"""

import asyncio
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

from edgeagent import __version__
from edgeagent.api.objects.probe import GRPCAction
from edgeagent.node.pods.probes.connection import Conversation, address, converse, reason
from edgeagent.node.pods.probes.health import ANSWER_LIMIT, decode_response, encode_request
from edgeagent.node.pods.probes.target import Outcome, ProbeTarget, failure, resolve_port

WIRE_LIMIT = 256 * 1024
"""Bytes that are read in all, whatever frames they are."""
_SETTINGS_AT, _SETTINGS = 4, 4
"""A server's first frame is SETTINGS, which its fourth byte says."""
_PATH = "/grpc.health.v1.Health/Check"
_CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
_CONFIG = H2Configuration(client_side=True, header_encoding="utf-8")


class _Check(Conversation):
    """One unary call. ``headers`` are those of the answer and its trailers, ``message`` its body."""

    def __init__(self, authority: str, service: str) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}
        self.message = b""
        self._http2 = H2Connection(_CONFIG)
        self._authority = authority
        self._service = service
        self._read = 0
        self._beginning = b""

    def opened(self, transport: asyncio.Transport) -> None:
        http2 = self._http2
        http2.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", _PATH),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", f"edgeagent-probe/{__version__}"),
        ]
        http2.send_headers(1, headers)
        http2.send_data(1, encode_request(self._service), end_stream=True)
        transport.write(http2.data_to_send())

    def received(self, data: bytes) -> None:
        self._read += len(data)
        if self._read > WIRE_LIMIT:
            raise ValueError(f"the answer is longer than {WIRE_LIMIT // 1024} KiB")
        # h2 would first wait for the megabytes that a line of text looks like as a frame's length.
        self._beginning = (self._beginning + data[:_SETTINGS_AT])[:_SETTINGS_AT]
        if len(self._beginning) == _SETTINGS_AT and self._beginning[-1] != _SETTINGS:
            raise ValueError("the server does not speak HTTP/2")
        try:
            for event in self._http2.receive_data(data):
                self._take(event)
        except H2Error as error:
            raise ValueError(f"broken HTTP/2: {error}") from error
        reply = self._http2.data_to_send()
        if reply and self.transport is not None and not self.done.done():
            self.transport.write(reply)

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                self.headers.update((_text(name), _text(value)) for name, value in headers)
            case DataReceived(data=data):
                self.message += data
                if len(self.message) > ANSWER_LIMIT:
                    raise ValueError(f"the message is longer than {ANSWER_LIMIT // 1024} KiB")
            case StreamEnded():
                self.finish()
            case StreamReset(error_code=code) | ConnectionTerminated(error_code=code):
                name = code.name if isinstance(code, ErrorCodes) else code
                raise ValueError(f"the call was ended with {name}")


async def grpc_check(action: GRPCAction, target: ProbeTarget) -> Outcome:
    """Ask for the service's health; ``SERVING`` is success."""
    try:
        port = resolve_port(action.port, target.container)
    except ValueError as error:
        return failure(str(error))
    authority = address(target.host, port)
    check = _Check(authority, action.service)
    try:
        await converse(check, target.host, port)
        return _judged(check.headers, check.message)
    except OSError as error:
        return failure(f'error: failed to connect service at "{authority}": {reason(error)}')
    except ValueError as error:
        return failure(f"error: health rpc probe failed: {error}")


def _judged(headers: dict[str, str], message: bytes) -> Outcome:
    """The outcome of a call that ended. Raises ValueError where the answer is no gRPC."""
    if "grpc-status" not in headers:
        raise ValueError(f"no gRPC status came with HTTP status {headers.get(':status')}")
    status, said = headers["grpc-status"], unquote(headers.get("grpc-message", ""))
    code = _CODES[int(status)] if status in map(str, range(len(_CODES))) else status
    if code == "Unimplemented":
        return failure(
            f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {said}"
        )
    if code != "OK":
        raise ValueError(f"rpc error: code = {code} desc = {said}")
    health = decode_response(message)
    return Outcome(True) if health == "SERVING" else failure(f'service unhealthy (responded with "{health}")')


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
