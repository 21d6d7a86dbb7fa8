"""The grpc action against a real HTTP/2 server: grpc.health.v1, in health, in sickness and in nonsense.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine

import pytest
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.probe import GRPCAction, Probe
from edgeagent.api.runtime import ExecResult
from edgeagent.node.pods.probes import Outcome, ProbeTarget, perform
from edgeagent.node.pods.probes.health import STATUSES, decode_response, encode_request
from tests.support.healthserver import HealthServer


def serving(server: Callable[[], asyncio.Protocol], service: str = "", timeout: float = 5) -> Outcome:
    """What the probe finds at such a server."""

    async def run() -> Outcome:
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            return await check(port, service, timeout)

    return asyncio.run(run())


async def no_exec(command: list[str], timeout: float) -> ExecResult:
    raise AssertionError("nothing is executed")


def check(port: int, service: str = "", timeout: float = 5) -> Coroutine[object, object, Outcome]:
    target = ProbeTarget(Container(name="c", image="i"), "127.0.0.1", no_exec)
    return perform(Probe(grpc=GRPCAction(port=port, service=service)), target, timeout)


@pytest.mark.parametrize("service", ["", "späth"])
def test_serving_is_success(service: str) -> None:
    assert serving(HealthServer, service) == Outcome(True)


@pytest.mark.parametrize(
    ("service", "status"),
    [("sick", "NOT_SERVING"), ("never-heard-of", "SERVICE_UNKNOWN"), ("strange", "UNKNOWN")],
)
def test_any_other_status_is_a_failure_that_names_it(service: str, status: str) -> None:
    assert serving(HealthServer, service) == Outcome(False, f'service unhealthy (responded with "{status}")')


def test_an_error_status_is_a_failure_with_its_message() -> None:
    outcome = serving(HealthServer, "no such")
    assert outcome.message.endswith("rpc error: code = NotFound desc = unknown service")


def test_the_request_is_one_of_grpc() -> None:
    seen: list[HealthServer] = []

    def server() -> HealthServer:
        seen.append(HealthServer())
        return seen[0]

    assert serving(server).success
    headers = seen[0].headers
    assert headers[":method"] == "POST"
    assert headers[":path"] == "/grpc.health.v1.Health/Check"
    assert headers["te"] == "trailers"
    assert headers["content-type"] == "application/grpc"
    assert headers["user-agent"].startswith("edgeagent-probe/")


class Unimplemented(HealthServer):
    """Answers with trailers only, as servers without the health service do."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Answer as the class says."""
        headers = [(":status", "200"), ("grpc-status", "12"), ("grpc-message", "unknown service")]
        http2.send_headers(stream, headers, end_stream=True)


class NotGrpc(HealthServer):
    """A web server that speaks HTTP/2."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Answer as the class says."""
        http2.send_headers(stream, [(":status", "404")], end_stream=True)


class Resets(HealthServer):
    """Refuses each call."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Answer as the class says."""
        http2.reset_stream(stream, 7)


class GoesAway(HealthServer):
    """Ends each connection."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Answer as the class says."""
        http2.close_connection()


class Huge(HealthServer):
    """Answers with more than any status needs."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Answer as the class says."""
        http2.send_headers(stream, [(":status", "200")])
        for _ in range(3):
            http2.send_data(stream, bytes(16_000))
        # The window of a stream is 65,535 bytes, and none is given back.
        http2.send_data(stream, bytes(16_000))
        http2.send_data(stream, bytes(1_500), end_stream=True)


class Babbler(asyncio.Protocol):
    """Greets in another language."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"220 mail.example.com ESMTP\r\n" * 20)


class Broken(asyncio.Protocol):
    """Begins as HTTP/2 does, and goes on with a frame that may not be there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + bytes([0, 0, 1, 0, 0, 0, 0, 0, 7, 0]))


class Pinger(HealthServer):
    """Sends frames that are allowed, and never an answer."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Answer as the class says."""
        for _ in range(20_000):
            http2.ping(b"12345678")


class Hangs(HealthServer):
    """Takes the call, and thinks."""

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Later."""


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            Unimplemented,
            "does not implement the grpc health protocol (grpc.health.v1.Health): unknown service",
        ),
        (NotGrpc, "no gRPC status came with HTTP status 404"),
        (Resets, "the call was ended with REFUSED_STREAM"),
        (GoesAway, "the call was ended with NO_ERROR"),
        (Huge, "the message is longer than 16 KiB"),
        (Babbler, "the server does not speak HTTP/2"),
        (Broken, "broken HTTP/2"),
        (Pinger, "the answer is longer than 256 KiB"),
    ],
)
def test_what_is_no_answer_is_a_failure_that_says_so(server: type[asyncio.Protocol], message: str) -> None:
    outcome = serving(server)
    assert not outcome.success
    assert not outcome.unknown
    assert message.lower() in outcome.message.lower()
    assert len(outcome.message) <= 1024


def test_a_server_that_does_not_answer_fails_at_the_timeout() -> None:
    assert serving(Hangs, timeout=0.05) == Outcome(False, "timed out after 0.05s")


def test_nobody_listening_is_a_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = asyncio.run(check(unused.getsockname()[1]))
    assert outcome.message.endswith("connect: connection refused")


def test_without_h2_the_probe_says_what_is_missing() -> None:
    code = (
        "import asyncio, sys\n"
        "sys.modules['h2'] = sys.modules['h2.config'] = None\n"
        "from edgeagent.api.objects.container import Container\n"
        "from edgeagent.api.objects.probe import GRPCAction, Probe\n"
        "from edgeagent.node.pods.probes import ProbeTarget, perform\n"
        "target = ProbeTarget(Container(name='c', image='i'), '127.0.0.1', None)\n"
        "print(asyncio.run(perform(Probe(grpc=GRPCAction(port=1)), target, 1)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs the Python package h2, which is not installed" in done.stdout


def test_h2_and_http_cost_nothing_until_a_probe_uses_them() -> None:
    code = (
        "import sys, edgeagent.node.pods.probes as p\n"
        "print([m for m in sys.modules if m in ('h2', 'http.client', p.__name__ + '.http')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_request_carries_the_service_as_field_one(service: str) -> None:
    data = encode_request(service)
    name = service.encode()
    assert data[0] == 0
    assert int.from_bytes(data[1:5], "big") == len(data) - 5
    assert data.endswith(name)
    if name:
        size = [len(name)] if len(name) < 128 else [len(name) & 127 | 128, len(name) >> 7]
        assert data[5:] == bytes([0x0A, *size]) + name


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize("number", range(4))
def test_a_status_is_read_between_fields_of_later_versions(number: int) -> None:
    others = b"\x12\x03abc" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x28\x96\x01"
    assert decode_response(framed(others + bytes([8, number]) + others)) == STATUSES[number]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0\0", b"\1\0\0\0\0", framed(b"\x08"), framed(b"\x12\x7f"), framed(b"\x0b"),
     framed(b"\x08" + b"\xff" * 11), framed(b"")[:-1], framed(b"\x08\x01") + b"x", framed(b"\x19\0")],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|answer|wire type|number"):
        decode_response(data)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_status_or_refused(message: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert decode_response(framed(message))
