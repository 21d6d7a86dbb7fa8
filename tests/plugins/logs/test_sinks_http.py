"""Sinks over HTTP, against servers that fail in every way a network and a server have."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_logs.httpendpoint import HttpAnswer
from edgeagent_logs.httpverdict import retry_after
from tests.plugins.logs.sinkkit import MakeSink, batch, deliver, lines
from tests.support import httpreceiver as faults
from tests.support.broker import TlsMaterial, tls_material
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import Fault, HttpReceiver
from tests.support.lokireceiver import LokiReceiver
from tests.support.otlpreceiver import OtlpReceiver
from tests.support.proc import free_port


def arrived(receiver: HttpReceiver) -> list[str]:
    """The texts that a receiver has, in its order."""
    match receiver:
        case ElasticsearchReceiver():
            return receiver.messages()
        case LokiReceiver():
            return receiver.lines()
        case OtlpReceiver():
            return receiver.bodies()
    raise TypeError


KINDS: dict[str, Callable[[], HttpReceiver]] = {
    "elasticsearch": ElasticsearchReceiver,
    "loki": LokiReceiver,
    "otlp": OtlpReceiver,
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each type of sink that speaks HTTP."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def receiver(kind: str) -> Iterator[HttpReceiver]:
    """Its receiver."""
    with KINDS[kind]() as running:
        yield running


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> TlsMaterial:
    """A CA, a server's certificate and one client's."""
    return tls_material(tmp_path_factory.mktemp("tls"), ["gateway-7"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


PASSING: dict[str, Fault] = {
    "429": faults.says(429, b"slow down"),
    "429 with Retry-After": faults.says(429, b"", Retry_After="17"),
    "503": faults.says(503, b"down"),
    "502": faults.says(502, b"<html>bad gateway</html>", Content_Type="text/html"),
    "504": faults.says(504),
    "408": faults.says(408),
    "reset in the request": faults.resets_mid_request,
    "reset in the answer": faults.resets_mid_answer,
    "reset before the answer": faults.resets_before_answer,
    "cut answer": faults.cuts_the_answer,
    "cut chunk": faults.cuts_a_chunk,
    "no HTTP": faults.speaks_no_http,
    "slow reader": faults.reads_slowly,
    "hangs up later": faults.hangs_up_later,
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_costs_no_line_and_doubles_none(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, name: str
) -> None:
    sinks = sink_of({"type": kind, "url": receiver.url, "timeout": 5})
    deliver(sinks, lines(3))
    receiver.faults.extend([PASSING[name], None, PASSING[name]])
    for start in (3, 6, 9):
        deliver(sinks, batch(f"line {number}" for number in range(start, start + 3)), first=start)
    wanted = [f"line {number}" for number in range(12)]
    if kind == "otlp":  # which has no way to say that a record came twice, but for its log.record.uid
        assert sorted(set(arrived(receiver)), key=wanted.index) == wanted
    else:
        assert sorted(arrived(receiver), key=wanted.index) == wanted


@pytest.mark.parametrize(
    ("header", "delay"), [("17", 17.0), ("", None), ("soon", None), ("999999999", 3600.0)]
)
def test_retry_after_is_heeded(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, header: str, delay: float | None
) -> None:
    receiver.faults.append(faults.says(429, b"", **({"Retry_After": header} if header else {})))
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), lines(1))
    assert [error.delay for error in outcome.failures] == [delay]
    assert outcome.failures[0].reason == "TooManyRequests"


def test_retry_after_may_be_a_date() -> None:
    answer = HttpAnswer(503, {"retry-after": "Tue, 24 Nov 2026 12:00:00 GMT"}, b"")
    moment = 1_795_521_600.0
    assert retry_after(answer, lambda: moment - 90) == 90
    assert retry_after(answer, lambda: moment + 90) == 0
    assert retry_after(HttpAnswer(503, {"retry-after": "Tue, 99 Nov"}, b"")) is None


def test_too_large_a_request_is_divided(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    receiver.faults.extend([faults.says(413), faults.says(413)])
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), lines(8))
    assert outcome.rejected == {}
    assert arrived(receiver) == [f"line {number}" for number in range(8)]


def test_a_record_that_is_too_large_by_itself_is_given_up_alone(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver
) -> None:
    taken = receiver.serve

    def serve(request: faults.Request) -> faults.Answer:
        return faults.Answer(413, b"too large") if b"whale" in request.body else taken(request)

    receiver.serve = serve  # type: ignore[method-assign]
    given = batch([f"line {number}" for number in range(5)] + ["whale"] + ["line 6"])
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), given)
    assert list(outcome.rejected) == [5]
    assert "413" in outcome.rejected[5]
    assert sorted(arrived(receiver)) == [f"line {number}" for number in (0, 1, 2, 3, 4, 6)]


def test_requests_are_held_to_their_size(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    sinks = sink_of({"type": kind, "url": receiver.url, "max_request_bytes": 20_000})
    deliver(sinks, batch(f"{number} {'x' * 3000}" for number in range(40)))
    assert len(arrived(receiver)) == 40
    assert max(len(one.body) for one in receiver.requests) < 24_000
    assert receiver.connections == 1


def test_a_connection_is_kept_and_packed(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    sinks = sink_of({"type": kind, "url": receiver.url})
    for number in range(5):
        deliver(sinks, batch(["a line with much in common with others " * 20]), first=number)
    assert receiver.connections == 1
    assert all(one.headers["content-encoding"] == "gzip" for one in receiver.requests)
    assert all(one.packed < len(one.body) / 2 for one in receiver.requests)


def test_without_compression(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    deliver(sink_of({"type": kind, "url": receiver.url, "compression": "none"}), lines(1))
    assert "content-encoding" not in receiver.requests[0].headers
    assert arrived(receiver) == ["line 0"]


@pytest.mark.parametrize("fault", [faults.trickles, faults.never_reads], ids=["trickles", "never reads"])
def test_nobody_is_waited_for_longer_than_the_time_out(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, fault: Fault
) -> None:
    receiver.faults.append(fault)
    sinks = sink_of({"type": kind, "url": receiver.url, "timeout": 1, "compression": "none"})
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"no answer within 1 s"):
        sinks.ship("central", "s", 0, batch(["x" * 200_000] * 50))
    assert time.monotonic() - begun < 10
    deliver(sinks, lines(1), first=50)
    assert "line 0" in arrived(receiver)


def test_a_redirect_is_not_followed(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    with KINDS[kind]() as elsewhere:
        receiver.faults.append(faults.says(307, b"", Location=f"{elsewhere.url}/steal"))
        with pytest.raises(PermanentError, match=r"307: redirected to http://127.0.0.1:.*not followed"):
            sink_of({"type": kind, "url": receiver.url}).ship("central", "s", 0, lines(1))
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 405, 415])
def test_what_a_person_must_mend_loses_nothing(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, status: int
) -> None:
    receiver.faults.append(faults.says(status, b"no\x1b[2J\r\nway"))
    sinks = sink_of({"type": kind, "url": receiver.url})
    with pytest.raises(PermanentError, match=rf"{status}: no \[2J way"):
        sinks.ship("central", "s", 0, lines(2))
    deliver(sinks, lines(2))
    assert arrived(receiver) == ["line 0", "line 1"]


def test_an_answer_is_read_to_a_bound(sink_of: MakeSink, receiver: HttpReceiver) -> None:
    receiver.faults.append(faults.is_huge)
    sinks = sink_of({"type": kind_of(receiver), "url": receiver.url})
    outcome = deliver(sinks, lines(2))
    assert set(arrived(receiver)) == {"line 0", "line 1"}
    assert outcome.rejected == {}


def kind_of(receiver: HttpReceiver) -> str:
    """The type of the sink that belongs to it."""
    return next(name for name, made in KINDS.items() if isinstance(receiver, made))  # type: ignore[arg-type]


def test_an_unreachable_server_is_waited_for(sink_of: MakeSink, kind: str) -> None:
    port = free_port()
    sinks = sink_of({"type": kind, "url": f"http://127.0.0.1:{port}"})
    assert sinks.names() == ["central"]
    with pytest.raises(TemporaryError, match=rf"http://127.0.0.1:{port}/.*: Connection refused"):
        sinks.ship("central", "s", 0, lines(1))


def test_a_name_that_is_none(sink_of: MakeSink, kind: str) -> None:
    sinks = sink_of({"type": kind, "url": "http://logs.invalid", "timeout": 10})
    with pytest.raises(TemporaryError, match=r"logs.invalid cannot be resolved"):
        sinks.ship("central", "s", 0, lines(1))


# Who is believed, and who this node is


def test_mutual_tls(sink_of: MakeSink, material: TlsMaterial) -> None:
    with ElasticsearchReceiver(tls=material, client_certificates=True) as receiver:
        pair = material.clients["gateway-7"]
        tls = {
            "ca_file": str(material.ca.cert),
            "certificate_file": str(pair.cert),
            "key_file": str(pair.key),
        }
        sinks = sink_of({"type": "elasticsearch", "url": receiver.url, "tls": tls})
        deliver(sinks, lines(2))
        deliver(sinks, lines(2), first=2)
        assert receiver.connections == 1
        assert len(receiver.messages()) == 4
        without = {"type": "elasticsearch", "url": receiver.url, "tls": {"ca_file": str(material.ca.cert)}}
        with pytest.raises(PermanentError, match=r"(?i)certificate"):
            sink_of(without).ship("central", "s", 0, lines(1))


@pytest.mark.parametrize(
    ("tls", "host", "message"),
    [
        ({}, "127.0.0.1", "certificate verify failed"),
        ({"server_name": "other.example.com"}, "127.0.0.1", "other.example.com"),
    ],
)
def test_whoever_cannot_be_believed_gets_nothing(
    sink_of: MakeSink, material: TlsMaterial, tls: dict[str, str], host: str, message: str
) -> None:
    with ElasticsearchReceiver(tls=material) as receiver:
        if tls:
            tls = {"ca_file": str(material.ca.cert), **tls}
        sinks = sink_of({"type": "elasticsearch", "url": f"https://{host}:{receiver.port}", "tls": tls})
        with pytest.raises(PermanentError, match=message):
            sinks.ship("central", "s", 0, lines(1))
        assert receiver.requests == []


def test_a_server_without_tls_is_said_to_be_one(sink_of: MakeSink, receiver: HttpReceiver, kind: str) -> None:
    sinks = sink_of({"type": kind, "url": f"https://127.0.0.1:{receiver.port}"})
    with pytest.raises(PermanentError, match=r"(?i)wrong.version"):
        sinks.ship("central", "s", 0, lines(1))


def test_a_ca_that_is_put_there_later_is_used(
    sink_of: MakeSink, material: TlsMaterial, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    with ElasticsearchReceiver(tls=material) as receiver:
        sinks = sink_of({"type": "elasticsearch", "url": receiver.url, "tls": {"ca_file": str(ca)}})
        with pytest.raises(PermanentError, match=f"cannot read {ca}: No such file"):
            sinks.ship("central", "s", 0, lines(1))
        ca.write_text("no certificate")
        with pytest.raises(PermanentError, match=f"cannot use the CA file {ca}"):
            sinks.ship("central", "s", 0, lines(1))
        ca.write_bytes(material.ca.cert.read_bytes())
        deliver(sinks, lines(1))
        assert receiver.messages() == ["line 0"]


@pytest.mark.parametrize(
    ("section", "header"),
    [
        ({"username": "edge", "password_file": "SECRET"}, "Basic ZWRnZTpzM2NyZXQtdDBrZW4="),
        ({"bearer_token_file": "SECRET"}, "Bearer s3cret-t0ken"),
        ({"header_files": {"Authorization": "SECRET"}}, "s3cret-t0ken"),
    ],
    ids=["basic", "bearer", "header"],
)
def test_credentials_come_from_files_and_are_never_shown(
    sink_of: MakeSink,
    kind: str,
    receiver: HttpReceiver,
    tmp_path: Path,
    section: dict[str, object],
    header: str,
) -> None:
    secret = tmp_path / "secret"
    section = json.loads(json.dumps(section).replace("SECRET", str(secret)))
    sinks = sink_of({"type": kind, "url": receiver.url, "plain_credentials": True, **section})
    with pytest.raises(PermanentError, match=f"cannot read {secret}"):
        sinks.ship("central", "s", 0, lines(1))
    secret.write_text("s3cret-t0ken\n")
    sent: list[str] = []

    def repeats(one: HttpReceiver, wire: faults.Wire) -> bool:
        sent.append(wire.headers["Authorization"])
        return faults.says(400, sent[-1].encode(), Content_Type="text/html")(one, wire)

    receiver.faults.extend([repeats, repeats])
    with pytest.raises((PermanentError, TemporaryError)) as caught:
        sinks.ship("central", "s", 0, lines(1))
    assert "***" in str(caught.value)
    assert sent[0].split()[-1] not in str(caught.value)
    secret.write_text("an0ther\n")
    with pytest.raises((PermanentError, TemporaryError)):
        sinks.ship("central", "s", 0, lines(1))
    assert sent[0] != sent[1]
    receiver.credential = sent[1]
    deliver(sinks, lines(1))
    assert sent[0] == header


def test_a_refused_password_keeps_the_batch(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    receiver.credential = "Bearer right"
    section = {"type": kind, "url": receiver.url, "bearer_token_file": str(secret), "plain_credentials": True}
    sinks = sink_of(section)
    with pytest.raises(PermanentError, match=r"401: .*who this node is, is not accepted") as caught:
        sinks.ship("central", "s", 0, lines(1))
    assert "wrong" not in str(caught.value)
    secret.write_text("right\n")
    deliver(sinks, lines(1))


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 70_000], ids=repr)
def test_files_that_hold_no_credential(sink_of: MakeSink, tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    section = {"url": "http://127.0.0.1:9", "bearer_token_file": str(secret), "plain_credentials": True}
    with pytest.raises(PermanentError, match=f"{secret} (must hold one line|is not UTF-8)"):
        sink_of({"type": "otlp", **section}).ship("central", "s", 0, lines(1))


def test_headers_are_sent(sink_of: MakeSink, kind: str, receiver: HttpReceiver, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abc\n")
    section = {"headers": {"X-Site": "north"}, "header_files": {"X-Api-Key": str(tmp_path / "key")}}
    deliver(sink_of({"type": kind, "url": receiver.url, "plain_credentials": True, **section}), lines(1))
    headers = receiver.requests[0].headers
    assert (headers["x-site"], headers["x-api-key"]) == ("north", "abc")
    assert headers["user-agent"].startswith("edgeagent/")


# Proxies


class Proxy:
    """An HTTP proxy for one connection after another: ``lines`` are the heads of what it was asked."""

    def __init__(self, *, refuse: bytes = b"") -> None:
        self.refuse = refuse
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._run, daemon=True)]

    def __enter__(self) -> "Proxy":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        self.heads.append(head)
        if self.refuse:
            client.sendall(self.refuse)
            return
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        place = target if method == b"CONNECT" else target.split(b"/")[2]
        host, port = place.decode().split(":")
        with socket.create_connection((host, int(port))) as server:
            self._open.append(server)
            if method == b"CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server.sendall(head.replace(b"http://" + place, b""))
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_proxy_of_the_environment(
    sink_of: MakeSink, material: TlsMaterial, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ElasticsearchReceiver(tls=material) as receiver, Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://edge:pa%73s@127.0.0.1:{proxy.port}")
        section = {"type": "elasticsearch", "url": receiver.url, "tls": {"ca_file": str(material.ca.cert)}}
        sinks = sink_of(section)
        deliver(sinks, lines(2))
        deliver(sinks, lines(2), first=2)
        assert len(receiver.messages()) == 4
        assert len(proxy.heads) == 1
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization: Basic ZWRnZTpwYXNz\r\n" in proxy.heads[0]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        deliver(sink_of(section), lines(1), first=4)
        assert len(proxy.heads) == 1
        sinks.ship("central", "s", 9, lines(0))


def test_a_proxy_without_tls(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        deliver(sink_of({"type": kind, "url": receiver.url}), lines(2))
        assert arrived(receiver) == ["line 0", "line 1"]
        assert proxy.heads[0].startswith(f"POST {receiver.url}/".encode())


@pytest.mark.parametrize(("status", "error"), [(407, PermanentError), (502, TemporaryError)])
def test_a_proxy_that_refuses(
    sink_of: MakeSink,
    material: TlsMaterial,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: type[Exception],
) -> None:
    with Proxy(refuse=b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://edge:s3cret@127.0.0.1:{proxy.port}")
        with pytest.raises(
            error, match=f"the proxy 127.0.0.1:{proxy.port} does not connect: {status} No"
        ) as caught:
            sink_of({"type": "otlp", "url": "https://logs.example.com"}).ship("central", "s", 0, lines(1))
        assert "s3cret" not in str(caught.value)


def test_a_proxy_that_cannot_be_used(sink_of: MakeSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://edge:s3cret@127.0.0.1:1080")
    with pytest.raises(PermanentError, match="proxy for https is not of the form") as caught:
        sink_of({"type": "otlp", "url": "https://logs.example.com"}).ship("central", "s", 0, lines(1))
    assert "s3cret" not in str(caught.value)
