"""The endpoint on real sockets: HTTP as Prometheus speaks it, mutual TLS, and clients that behave badly."""

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent_metrics.config import MetricsConfig, TlsConfig
from edgeagent_metrics.endpoint import AT_ONCE, STOP_SECONDS, Endpoint
from tests.plugins.metrics.metricskit import fetch, parsed
from tests.support.broker import CertKey, TlsMaterial, tls_material
from tests.support.proc import free_port

GRID = [MetricFamily(f"grid_{i}", "gauge", "Help.", [Sample(i, {"n": str(i)})]) for i in range(200)]
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


class Core:
    """What gathers: remembers how much time it was given, and may be told to wait or to fail."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.busy = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.error: TemporaryError | None = None

    def gather(self, seconds: float) -> list[MetricFamily]:
        """As the core's."""
        self.seconds.append(seconds)
        self.busy.release()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        return GRID


@pytest.fixture
def core() -> Core:
    """The core's side."""
    return Core()


@contextmanager
def serving(core: Core, tls: TlsConfig | None = None, ca: Path = Path("/nowhere")) -> Iterator[int]:
    """An endpoint; its port."""
    port = free_port()
    config = MetricsConfig(listen=f"127.0.0.1:{port}", tls=tls or TlsConfig())
    endpoint = Endpoint(config, gather=core.gather, cluster_ca=ca)
    endpoint.start()
    try:
        yield port
    finally:
        core.go.set()
        endpoint.stop()
    assert not any(thread.name == "metrics" for thread in threading.enumerate())


@pytest.fixture
def port(core: Core) -> Iterator[int]:
    """Of an endpoint in clear."""
    with serving(core) as found:
        yield found


@pytest.mark.parametrize("gzip", [False, True])
def test_text(core: Core, port: int, gzip: bool) -> None:
    status, headers, page = fetch(port, headers={"Accept-Encoding": "gzip"} if gzip else {})
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers.get("Content-Encoding") == ("gzip" if gzip else None)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert len(parsed(page, "text")) == 200
    assert core.seconds == [10.0]
    if gzip:
        assert int(headers["Content-Length"]) < len(page) / 4


def test_openmetrics(core: Core, port: int) -> None:
    status, headers, page = fetch(
        port, headers={**OPENMETRICS, "X-Prometheus-Scrape-Timeout-Seconds": "4.000000"}
    )
    assert status == 200
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert len(parsed(page, "openmetrics")) == 200
    assert core.seconds == [3.5]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/", 404, "metrics are at /metrics"),
        ("GET", "/metrics/", 404, ""),
        ("GET", "/metrics?collect[]=cpu", 200, ""),
        ("HEAD", "/metrics", 200, ""),
        ("POST", "/metrics", 405, "with GET"),
        ("DELETE", "/metrics", 405, ""),
    ],
)
def test_other_questions(port: int, method: str, path: str, status: int, words: str) -> None:
    found, headers, body = fetch(port, path, method=method)
    assert found == status
    assert words in body
    if method == "HEAD":
        assert body == ""
        assert int(headers["Content-Length"]) > 1000
    if status == 405:
        assert headers["Allow"] == "GET, HEAD"


def test_an_agent_that_stops_says_so(core: Core, port: int) -> None:
    core.error = TemporaryError("the agent is stopping")
    status, _, body = fetch(port)
    assert (status, body) == (503, "the agent is stopping\n")


def raw(port: int, *pieces: bytes) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /metrics HTTP/x\r\n\r\n", b"400"),
        (b"\xff\xfe\x00\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % i for i in range(200)) + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", b"200"),
    ],
)
def test_requests_of_a_strange_shape_get_an_answer(port: int, request_: bytes, status: bytes) -> None:
    assert raw(port, request_).split(b" ", 2)[:2] == [b"HTTP/1.1", status]
    assert fetch(port)[0] == 200


def test_a_request_may_come_in_pieces(port: int) -> None:
    assert raw(port, b"GET /met", b"rics HTTP/1.1\r\nHo", b"st: a\r\n", b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_clients_that_say_nothing_hold_nobody_up_for_long(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have their time, then their places are free again."""
    monkeypatch.setattr("edgeagent_metrics.http.HEAD_SECONDS", 0.2)
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(AT_ONCE + 1)
        ]
        assert fetch(port)[0] == 200
        for one in silent:
            one.settimeout(30)
            assert one.recv(1) == b""


def hung_up(client: socket.socket) -> bool:
    """Say one more letter, and look whether the other side has had enough."""
    try:
        client.sendall(b"G")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_client_that_dribbles_has_a_deadline_for_the_whole(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeagent_metrics.http.HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        began = time.monotonic()
        client.settimeout(0.05)
        while not hung_up(client):
            assert time.monotonic() - began < 10


def test_no_more_than_a_few_are_served_at_once(core: Core, port: int) -> None:
    core.go.clear()
    results: list[int] = []
    clients = [threading.Thread(target=lambda: results.append(fetch(port)[0])) for _ in range(AT_ONCE + 2)]
    for one in clients:
        one.start()
    for _ in range(AT_ONCE):
        assert core.busy.acquire(timeout=30)
    assert not core.busy.acquire(timeout=0.2), "one more was served"
    core.go.set()
    for one in clients:
        one.join(30)
    assert results == [200] * (AT_ONCE + 2)


def test_clients_that_are_being_served_do_not_hold_up_the_end(core: Core) -> None:
    core.go.clear()
    number = free_port()
    endpoint = Endpoint(MetricsConfig(listen=f"127.0.0.1:{number}"), gather=core.gather, cluster_ca=Path("/"))
    endpoint.start()
    clients = [threading.Thread(target=lambda: fetch(number)) for _ in range(AT_ONCE)]
    for one in clients:
        one.start()
    for _ in range(AT_ONCE):
        assert core.busy.acquire(timeout=30)
    began = time.monotonic()
    endpoint.stop()
    took = time.monotonic() - began
    alive = [thread for thread in threading.enumerate() if thread.name == "metrics"]
    core.go.set()
    for one in clients:
        one.join(30)
    assert not alive
    assert took < STOP_SECONDS / 2


def test_an_address_in_use_says_what_to_change(core: Core, port: int) -> None:
    config = MetricsConfig(listen=f"127.0.0.1:{port}")
    with pytest.raises(TemporaryError, match="in use; change listen in") as caught:
        Endpoint(config, gather=core.gather, cluster_ca=Path("/nowhere")).start()
    assert caught.value.reason == "CannotListen"


def test_an_ipv6_address(core: Core) -> None:
    number = free_port()
    endpoint = Endpoint(MetricsConfig(listen=f"[::1]:{number}"), gather=core.gather, cluster_ca=Path("/"))
    endpoint.start()
    try:
        assert fetch(number, host="::1")[0] == 200
    finally:
        endpoint.stop()


def test_it_can_be_started_again(core: Core) -> None:
    """As the core does with a service that failed to start; stopping one that did not is no error."""
    config = MetricsConfig(listen=f"127.0.0.1:{free_port()}")
    endpoint = Endpoint(config, gather=core.gather, cluster_ca=Path("/nowhere"))
    endpoint.stop()
    for _ in range(2):
        endpoint.start()
        assert fetch(int(config.listen.rpartition(":")[2]))[0] == 200
        endpoint.stop()


# Mutual TLS


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> TlsMaterial:
    """A cluster's CA, a server, an operator, a node, and a stranger of another CA."""
    return tls_material(tmp_path_factory.mktemp("tls"), ["user:prometheus", "node-7"])


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> TlsMaterial:
    """Another CA, and somebody with a good name."""
    return tls_material(tmp_path_factory.mktemp("other"), ["user:prometheus"])


def settings(material: TlsMaterial, **more: object) -> TlsConfig:
    pair = {"certificate_file": str(material.server.cert), "key_file": str(material.server.key)}
    return TlsConfig(**pair, **more)  # type: ignore[arg-type]


def client(ca: CertKey, pair: CertKey | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def is_turned_away(ask: Callable[[], object]) -> bool:
    """With TLS 1.3 a client learns of it only when it reads, however that is then called."""
    try:
        ask()
    except OSError as error:
        return isinstance(error, ssl.SSLError | ConnectionError) or error.errno == errno.ECONNRESET
    except Exception as error:  # http.client's for no answer at all
        return "RemoteDisconnected" in type(error).__name__
    return False


def test_an_operator_is_let_in_and_nobody_else(
    core: Core, material: TlsMaterial, strangers: TlsMaterial
) -> None:
    operator, node = material.clients["user:prometheus"], material.clients["node-7"]
    with serving(core, settings(material), material.ca.cert) as port:
        assert fetch(port, tls=client(material.ca, operator), headers=OPENMETRICS)[0] == 200
        for pair in (None, node, strangers.clients["user:prometheus"]):
            context = client(material.ca, pair)
            assert is_turned_away(lambda context=context: fetch(port, tls=context))  # type: ignore[misc]
        assert is_turned_away(lambda: fetch(port)), "in clear"
        assert len(core.seconds) == 1


def test_names_can_be_allowed(core: Core, material: TlsMaterial) -> None:
    with serving(core, settings(material, allowed_clients=["node-*"]), material.ca.cert) as port:
        assert fetch(port, tls=client(material.ca, material.clients["node-7"]))[0] == 200
        operator = client(material.ca, material.clients["user:prometheus"])
        assert is_turned_away(lambda: fetch(port, tls=operator))


def test_a_ca_of_the_clients_own(core: Core, material: TlsMaterial, strangers: TlsMaterial) -> None:
    tls = settings(material, client_ca_file=str(strangers.ca.cert))
    with serving(core, tls, material.ca.cert) as port:
        assert fetch(port, tls=client(material.ca, strangers.clients["user:prometheus"]))[0] == 200
        ours = client(material.ca, material.clients["user:prometheus"])
        assert is_turned_away(lambda: fetch(port, tls=ours))


def test_a_certificate_that_was_renewed_is_shown_without_a_restart(
    core: Core,
    material: TlsMaterial,
    strangers: TlsMaterial,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate, key = tmp_path / "s.crt", tmp_path / "s.key"

    def use(pair: CertKey) -> None:
        for source, target in ((pair.cert, certificate), (pair.key, key)):
            target.with_suffix(".new").write_bytes(source.read_bytes())
            os.replace(target.with_suffix(".new"), target)

    use(material.server)
    tls = TlsConfig(certificate_file=str(certificate), key_file=str(key))
    operator = material.clients["user:prometheus"]
    with serving(core, tls, material.ca.cert) as port:
        assert fetch(port, tls=client(material.ca, operator))[0] == 200
        use(strangers.server)
        assert fetch(port, tls=client(strangers.ca, operator))[0] == 200
        certificate.unlink()
        for _ in range(3):
            assert is_turned_away(lambda: fetch(port, tls=client(strangers.ca, operator)))
        told = [one.getMessage() for one in caplog.records if str(certificate) in one.getMessage()]
        assert len(told) == 1, "a person has to know of it, once"
        use(material.server)
        assert fetch(port, tls=client(material.ca, operator))[0] == 200


@pytest.mark.parametrize("broken", ["certificate", "key", "ca"])
def test_files_that_cannot_be_used_are_named(
    core: Core, material: TlsMaterial, tmp_path: Path, broken: str
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no PEM")
    tls = TlsConfig(
        certificate_file=str(wrong if broken == "certificate" else material.server.cert),
        key_file=str(wrong if broken == "key" else material.server.key),
        client_ca_file=str(wrong if broken == "ca" else material.ca.cert),
    )
    config = MetricsConfig(listen=f"127.0.0.1:{free_port()}", tls=tls)
    with pytest.raises(PermanentError, match=r"wrong\.pem"):
        Endpoint(config, gather=core.gather, cluster_ca=material.ca.cert).start()
    wrong.unlink()
    with pytest.raises(PermanentError, match=r"cannot read .*wrong\.pem"):
        Endpoint(config, gather=core.gather, cluster_ca=material.ca.cert).start()
