"""httpGet and tcpSocket against real servers on loopback: judged as Kubernetes documents it, and bounded.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.objects.container import Container, ContainerPort
from edgeagent.api.objects.probe import (
    HTTPGetAction,
    HTTPHeader,
    LifecycleHandler,
    Probe,
    TCPSocketAction,
)
from edgeagent.api.runtime import ExecResult
from edgeagent.node.pods.probes import Outcome, ProbeTarget, perform
from edgeagent.node.pods.probes.http import Url, clean_path, request
from edgeagent.node.pods.probes.response import BODY_LIMIT, HEAD_LIMIT, ResponseReader
from edgeagent.testing.clock import settle
from tests.support.probed import unvouched_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server(asyncio.Protocol):
    """Sends ``pieces`` after a request and, unless it ``holds``, closes. Notes what it was asked."""

    def __init__(self, seen: list[bytes], pieces: Sequence[bytes], holds: bool) -> None:
        self.seen, self.pieces, self.holds = seen, pieces, holds
        self.request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Something was sent."""
        self.request += data
        if self.request.endswith(b"\r\n\r\n"):
            self.seen.append(self.request)
            port = self.transport.get_extra_info("sockname")[1]
            path = self.request.split(b" ")[1]
            for piece in self.pieces:
                self.transport.write(piece.replace(b"@PORT@", b"%d" % port).replace(b"@PATH@", path))
            if not self.holds:
                self.transport.close()


@asynccontextmanager
async def server(
    *pieces: bytes, holds: bool = False, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Its port, and the requests it gets."""
    seen: list[bytes] = []
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Server(seen, pieces, holds), host, 0, ssl=tls)
    async with listener:
        yield listener.sockets[0].getsockname()[1], seen


async def no_exec(command: list[str], timeout: float) -> ExecResult:
    raise AssertionError("nothing is executed")


def target(port: int, host: str = "127.0.0.1") -> ProbeTarget:
    """A container whose port ``web`` has this number."""
    ports = [ContainerPort(container_port=port, name="web"), ContainerPort(container_port=9, name="other")]
    return ProbeTarget(Container(name="c", image="i", ports=ports), host, no_exec)


def asked(
    *pieces: bytes,
    holds: bool = False,
    timeout: float = 5,
    path: str = "/healthz",
    headers: Sequence[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
    hook: bool = False,
) -> tuple[Outcome, list[bytes]]:
    """The outcome of an httpGet at a server that answers so, and the requests that were made."""

    async def run() -> tuple[Outcome, list[bytes]]:
        async with server(*pieces, holds=holds, tls=tls) as (port, seen):
            action = HTTPGetAction(
                port="web",
                path=path,
                scheme="HTTPS" if tls else "HTTP",
                http_headers=[HTTPHeader(name=name, value=value) for name, value in headers],
            )
            subject = LifecycleHandler(http_get=action) if hook else Probe(http_get=action)
            return await perform(subject, target(port), timeout), seen

    return asyncio.run(run())


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_status_from_200_to_299_is_success(status: int) -> None:
    assert asked(answer(status))[0] == Outcome(True)


@pytest.mark.parametrize("status", [300, 302, 304, 399])
def test_a_redirect_that_leads_nowhere_is_success_with_a_warning(status: int) -> None:
    assert asked(answer(status))[0] == Outcome(True, f"Probe terminated redirects, statuscode: {status}")
    assert asked(answer(status), hook=True)[0] == Outcome(True)


@pytest.mark.parametrize("status", [400, 404, 500, 503, 199 + 400])
def test_any_other_status_is_a_failure(status: int) -> None:
    outcome, _ = asked(answer(status, body=b"sorry"))
    assert outcome == Outcome(False, f"HTTP probe failed with statuscode: {status}")


def test_a_hook_is_content_with_any_answer() -> None:
    outcome, seen = asked(answer(500), hook=True)
    assert outcome == Outcome(True)
    assert b"User-Agent: edgeagent-lifecycle/" in seen[0]


def test_the_request_says_who_asks_what() -> None:
    _, [seen] = asked(OK, path="/healthz?deep=1#part")
    lines = seen.decode().split("\r\n")
    assert lines[0] == "GET /healthz?deep=1 HTTP/1.1"
    assert any(line.startswith("Host: 127.0.0.1:") for line in lines)
    assert any(line.startswith("User-Agent: edgeagent-probe/") for line in lines)
    assert "Accept: */*" in lines
    assert "Connection: close" in lines


def test_headers_are_sent_as_given_and_replace_the_defaults() -> None:
    headers = [("X-One", "1"), ("X-One", "2"), ("host", "shop.example"), ("user-agent", "me"), ("Accept", "")]
    _, [seen] = asked(OK, headers=headers)
    lines = seen.decode().split("\r\n")
    assert [line for line in lines if line.startswith("X-One")] == ["X-One: 1", "X-One: 2"]
    assert [line for line in lines if line.lower().startswith("host")] == ["Host: shop.example"]
    assert [line for line in lines if line.lower().startswith("user-agent")] == ["user-agent: me"]
    assert not [line for line in lines if line.lower().startswith("accept")]


@pytest.mark.parametrize("header", [("X Y", "1"), ("", "1"), ("X", "a\r\nY: b"), ("X", "\0"), ("X:", "1")])
def test_a_header_that_cannot_be_sent_is_a_failure(header: tuple[str, str]) -> None:
    outcome, seen = asked(OK, headers=[header])
    assert "invalid" in outcome.message
    assert not outcome.success
    assert seen == []


REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"


def test_a_redirect_on_the_same_host_is_followed_ten_requests_far() -> None:
    outcome, seen = asked(REDIRECT % b"@PATH@x", path="/a", headers=[("Host", "shop.example")])
    assert not outcome.success
    assert "stopped after 10 redirects" in outcome.message
    assert [line.split(b" ")[1] for line in seen] == [b"/a" + b"x" * n for n in range(10)]
    assert all(b"Host: shop.example\r\n" in line for line in seen)


def test_what_the_redirect_leads_to_is_judged() -> None:
    async def run() -> Outcome:
        async with (
            server(answer(503)) as (last, _),
            server(REDIRECT % b"http://127.0.0.1:%d/" % last) as (port, _),
        ):
            return await perform(Probe(http_get=HTTPGetAction(port=port)), target(port), 5)

    assert asyncio.run(run()).message == "HTTP probe failed with statuscode: 503"


def test_a_redirect_to_another_host_is_success_with_a_warning_and_not_followed() -> None:
    outcome, seen = asked(REDIRECT % b"http://localhost:@PORT@/other")
    assert outcome.success
    assert "another host" in outcome.message
    assert len(seen) == 1


@pytest.mark.parametrize("location", [b"ftp://127.0.0.1/", b"http://[::", b"http://127.0.0.1:99999/"])
def test_a_redirect_to_nowhere_is_a_failure(location: bytes) -> None:
    outcome, seen = asked(REDIRECT % location)
    assert not outcome.success
    assert len(seen) == 1


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", OK],
        [b"HTTP/1.0 200\nX: y\nContent-Length: 0\n\n"],
        [b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", b"x" * BODY_LIMIT],
        [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * BODY_LIMIT],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"x" * BODY_LIMIT],
        [b"HTTP/1.1 204 No Content\r\n\r\n"],
        [OK[i : i + 1] for i in range(len(OK))],
    ],
)
def test_an_answer_is_complete_without_the_connection_ending(pieces: list[bytes]) -> None:
    assert asked(*pieces, holds=True)[0] == Outcome(True)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    assert asked(b"HTTP/1.0 200 OK\r\n\r\nsome text")[0] == Outcome(True)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "unexpected EOF"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "malformed HTTP response 'SSH-2.0-OpenSSH_9.2p1'"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "malformed HTTP header 'nonsense'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length '-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two different values"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "malformed chunked encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "malformed chunked encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 2000, "malformed chunked"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_LIMIT + b"\r\n\r\n", "longer than 64 KiB"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, "longer than 64 KiB"),
        (b"\0" * (HEAD_LIMIT + 1), "longer than 64 KiB"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_failure_that_says_so(piece: bytes, message: str) -> None:
    outcome, _ = asked(piece)
    assert not outcome.success
    assert not outcome.unknown
    assert outcome.message.startswith('Get "http://127.0.0.1:')
    assert message in outcome.message
    assert len(outcome.message) <= 1024


@pytest.mark.parametrize(
    "pieces", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"]]
)
def test_an_answer_that_does_not_come_whole_in_time_is_a_failure(pieces: list[bytes]) -> None:
    assert asked(*pieces, holds=True, timeout=0.05)[0] == Outcome(False, "timed out after 0.05s")


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=8), st.booleans())
def test_any_bytes_in_any_pieces_are_read_the_same(data: bytes, cuts: list[int], web: bool) -> None:
    if web:
        data = b"HTTP/1.1 200 OK\r\n" + data

    def read(pieces: list[bytes]) -> tuple[bool, int, str]:
        reader = ResponseReader()
        try:
            for piece in pieces:
                reader.feed(piece)
        except ValueError:
            return True, 0, ""
        return reader.complete, reader.status, reader.location

    pieces, start = [], 0
    for cut in cuts:
        pieces.append(data[start : start + cut])
        start += cut
    assert read([*pieces, data[start:]]) == read([data])


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.integers(1, 30))
def test_a_chunked_body_ends_where_it_ends(chunks: list[bytes], size: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    reader = ResponseReader()
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    assert not reader.complete
    with pytest.raises(ValueError, match="EOF"):
        reader.end()
    reader.feed(b"0\r\n\r\n")
    assert reader.complete


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_path_gets_out_of_the_request_line(path: str) -> None:
    line, *others = request(Url("http", "h", 80, clean_path(path)), [], "agent").split(b"\r\n")
    assert line.count(b" ") == 2
    assert line.startswith(b"GET /")
    assert others == [b"Host: h:80", b"User-Agent: agent", b"Accept: */*", b"Connection: close", b"", b""]


@pytest.mark.parametrize(
    ("port", "message"),
    [("absent", "no port named 'absent'"), ("", "no port named ''"), (0, "invalid port number: 0"),
     (70000, "invalid port number: 70000"),
     (-1, "invalid port number: -1"), ("99999", "invalid port number")],
)  # fmt: skip
def test_a_port_that_is_none_is_a_failure_that_names_it(port: int | str, message: str) -> None:
    for probe in (
        Probe(http_get=HTTPGetAction(port=port)),
        Probe(tcp_socket=TCPSocketAction(port=port)),
    ):
        outcome = asyncio.run(perform(probe, target(80), 1))
        assert not outcome.success
        assert message in outcome.message


async def refused() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_nobody_listening_is_a_failure_in_the_systems_words() -> None:
    async def run() -> None:
        port = await refused()
        words = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        outcome = await perform(Probe(tcp_socket=TCPSocketAction(port=str(port))), target(port), 5)
        assert outcome == Outcome(False, words)
        outcome = await perform(Probe(http_get=HTTPGetAction(port="web", path="x")), target(port), 5)
        assert outcome == Outcome(False, f'Get "http://127.0.0.1:{port}/x": {words}')

    asyncio.run(run())


def test_the_actions_host_goes_before_the_pods_and_ipv6_is_bracketed() -> None:
    async def run() -> None:
        async with server(OK, host="::1") as (port, seen):
            action = HTTPGetAction(port=port, host="::1")
            assert await perform(Probe(http_get=action), target(port), 5) == Outcome(True)
            assert b"Host: [::1]:%d\r\n" % port in seen[0]
            assert (
                await perform(Probe(tcp_socket=TCPSocketAction(port=port, host="::1")), target(port), 5)
            ).success
            assert (
                await perform(Probe(tcp_socket=TCPSocketAction(port=port)), target(port, "::1"), 5)
            ).success

    asyncio.run(run())


def test_a_pod_without_an_ip_is_not_looked_for_on_the_node() -> None:
    async def run() -> None:
        async with server(OK) as (port, seen):
            outcome = await perform(Probe(http_get=HTTPGetAction(port=port)), target(port, ""), 5)
            assert "the pod has no IP" in outcome.message
            assert seen == []

    asyncio.run(run())


def test_a_tcp_probe_succeeds_once_connected_and_leaves_no_connection() -> None:
    async def run() -> None:
        async with server(holds=True) as (port, _):
            for _ in range(20):
                outcome = await perform(Probe(tcp_socket=TCPSocketAction(port="web")), target(port), 5)
                assert outcome == Outcome(True)
            assert states(port).count("06") == 0  # TIME_WAIT

    asyncio.run(run())


def states(port: int) -> list[str]:
    """The states, as /proc/net/tcp numbers them, of all connections from or to ``port``."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ending = f":{port:04X}"
    return [row[3] for row in rows if row[2].endswith(ending) or (row[1].endswith(ending) and row[3] != "0A")]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that nobody vouches for, expired and for another name."""
    return unvouched_tls(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.mark.parametrize(("status", "success"), [(200, True), (500, False)])
def test_https_takes_any_certificate(tls: ssl.SSLContext, status: int, success: bool) -> None:
    assert asked(answer(status), tls=tls)[0].success is success


def test_https_at_a_server_without_tls_is_a_failure() -> None:
    async def run() -> Outcome:
        async with await asyncio.start_server(_plain, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            return await perform(Probe(http_get=HTTPGetAction(port=port, scheme="HTTPS")), target(port), 5)

    outcome = asyncio.run(run())
    assert not outcome.success
    assert "tls:" in outcome.message


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


def test_a_hanging_handshake_is_ended_at_the_timeout() -> None:
    async def run() -> Outcome:
        async with server(holds=True) as (port, _):
            return await perform(Probe(http_get=HTTPGetAction(port=port, scheme="HTTPS")), target(port), 0.1)

    assert asyncio.run(run()) == Outcome(False, "timed out after 0.1s")


@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS"])
def test_a_cancelled_probe_leaves_no_task_and_no_socket(scheme: Literal["HTTP", "HTTPS"]) -> None:
    """The event loop's own warnings are errors: a transport or socket left open fails the test."""

    async def run() -> None:
        async with server(b"HTTP/1.1 200 OK\r\n", holds=True) as (port, seen):
            action = HTTPGetAction(port=port, scheme=scheme)
            for turns in range(40):
                task = asyncio.get_running_loop().create_task(
                    perform(Probe(http_get=action), target(port), 60)
                )
                await settle(turns)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert seen or scheme == "HTTPS"
            await settle()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_an_empty_action_is_a_failure() -> None:
    for action in (Probe(), LifecycleHandler()):
        assert asyncio.run(perform(action, target(1), 1)) == Outcome(False, "no action is set")
