"""The sink for syslog: a real rsyslog, and receivers that fail."""

import contextlib
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from tests.plugins.logs.sinkkit import NOW, POD, STREAM, MakeSink, batch, deliver, lines, record
from tests.support.broker import TlsMaterial
from tests.support.proc import free_port
from tests.support.rsyslog import RSYSLOGD, Rsyslog
from tests.support.waiting import wait_for


def need_rsyslog() -> None:
    """Skip where there is none."""
    if shutil.which(RSYSLOGD) is None:
        pytest.skip("needs Debian's rsyslog, rsyslog-openssl and rsyslog-gnutls")


@pytest.fixture(scope="module", params=["ossl", "gtls"])
def rsyslog(
    request: pytest.FixtureRequest, material: TlsMaterial, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rsyslog]:
    """One that asks clients for the certificate of ``gateway-7``."""
    need_rsyslog()
    directory = tmp_path_factory.mktemp("rsyslog")
    with Rsyslog(directory, material, driver=request.param, permitted="gateway-7") as running:
        yield running


def section(
    port: int, material: TlsMaterial | None = None, client: str = "", **more: object
) -> dict[str, object]:
    """The sink's section."""
    found: dict[str, object] = {"type": "syslog", "host": "127.0.0.1", "port": port, "timeout": 5, **more}
    if material is not None:
        tls = {"ca_file": str(material.ca.cert)}
        if client:
            pair = material.clients[client]
            tls |= {"certificate_file": str(pair.cert), "key_file": str(pair.key)}
        found["tls"] = tls
    return found


def test_rsyslog_reads_what_was_said(rsyslog: Rsyslog, material: TlsMaterial, sink_of: MakeSink) -> None:
    before = len(rsyslog.received())
    given = batch(
        [
            record('say "hi" ] \\ ☃', severity="error"),
            record("Traceback:\n  File x\nValueError", stream="stderr", time=NOW + 999),
            record("Accepted", origin=1, stream="journal"),
            record("request", fields=b'{"status":200}'),
            record("", severity="debug"),
        ]
    )
    sinks = sink_of(
        section(rsyslog.port, material, "gateway-7", facility="local3", pod_labels=["tier", 'odd]"='])
    )
    assert sinks.ship("central", STREAM, 10, given).rejected == {}
    wait_for(lambda: len(rsyslog.received()) >= before + 5, what="five messages")
    first, second, third, fourth, fifth = rsyslog.received()[before:]
    assert first["raw"].startswith("<155>1 2025-11-24T16:00:00.123456Z gateway-7 nginx web-5d9f stdout [")
    assert (first["pri"], first["protocol"], first["host"], first["app"]) == (
        "155",
        "1",
        "gateway-7",
        "nginx",
    )
    assert (first["procid"], first["msgid"]) == ("web-5d9f", "stdout")
    assert first["time"] == "2025-11-24T16:00:00.123456Z"
    assert first["text"] == 'say "hi" ] \\ ☃'
    assert first["data"] == (
        f'[edgeagent@32473 id="{STREAM}-10" cluster="plant" namespace="shop" pod="web-5d9f"'
        f' pod_uid="{POD.pod_uid}"'
        f' container="nginx" image="{POD.image}" level="error" label.tier="front"]'
    )
    assert (second["pri"], second["text"]) == ("156", "Traceback:\n  File x\nValueError")
    assert (third["app"], third["procid"], third["msgid"]) == ("ssh.service", "-", "journal")
    assert third["data"] == f'[edgeagent@32473 id="{STREAM}-12" cluster="plant"]'
    assert fourth["text"] == '{"message":"request","status":200}'
    assert (fifth["pri"], fifth["text"]) == ("159", "")


def test_a_connection_is_kept(rsyslog: Rsyslog, material: TlsMaterial, sink_of: MakeSink) -> None:
    before = len(rsyslog.received())
    sinks = sink_of(section(rsyslog.port, material, "gateway-7"))
    for first in range(0, 3000, 1000):
        deliver(sinks, batch(f"{first + number} {'x' * 200}" for number in range(1000)), first=first)
    wait_for(lambda: len(rsyslog.received()) >= before + 3000, what="all messages", timeout=20)
    texts = [one["text"].split()[0] for one in rsyslog.received()[before:]]
    assert texts == [str(number) for number in range(3000)]


def test_whoever_has_no_certificate_is_told(
    rsyslog: Rsyslog, material: TlsMaterial, sink_of: MakeSink
) -> None:
    """It hangs up after the handshake of TLS 1.3 has ended for this side: nothing may count as arrived."""
    before = len(rsyslog.received())
    # rsyslog 8.2302 takes any name with its OpenSSL driver, also where permittedPeer is set.
    for client in ("", "stranger") if rsyslog.driver == "gtls" else ("",):
        with pytest.raises((PermanentError, TemporaryError)):
            sink_of(section(rsyslog.port, material, client)).ship("central", STREAM, 0, lines(3))
    assert len(rsyslog.received()) == before


def test_a_receiver_that_cannot_be_believed(rsyslog: Rsyslog, sink_of: MakeSink) -> None:
    with pytest.raises(PermanentError, match="certificate verify failed"):
        sink_of(section(rsyslog.port)).ship("central", STREAM, 0, lines(1))
    with Listener() as listener:
        with pytest.raises(TemporaryError, match=r"^tls://127.0.0.1:\d+: not taken within 1 s"):
            sink_of(section(listener.port, timeout=1)).ship("central", STREAM, 0, lines(1))
        assert b"line 0" not in listener.data


def test_plain_tcp_and_udp(rsyslog: Rsyslog, sink_of: MakeSink) -> None:
    before = len(rsyslog.received())
    deliver(sink_of(section(rsyslog.tcp_port, transport="tcp", structured_data="")), batch(["tcp\nline"]))
    deliver(sink_of(section(rsyslog.udp_port, transport="udp")), batch(["udp"]))
    wait_for(lambda: len(rsyslog.received()) >= before + 2, what="both")
    received = {one["text"]: one["data"] for one in rsyslog.received()[before:]}
    assert received["tcp\nline"] == "-"
    assert received["udp"].startswith("[edgeagent@32473 ")


def test_what_is_too_long_is_cut(rsyslog: Rsyslog, material: TlsMaterial, sink_of: MakeSink) -> None:
    before = len(rsyslog.received())
    body = "ä" * 50_000
    deliver(
        sink_of(section(rsyslog.port, material, "gateway-7", max_message_bytes=2048)), batch([body, "next"])
    )
    wait_for(lambda: len(rsyslog.received()) >= before + 2, what="both")
    cut, after = rsyslog.received()[before:]
    assert 2046 <= len(cut["raw"].encode()) <= 2048
    assert body.startswith(cut["text"])
    assert cut["data"].startswith('[edgeagent@32473 original_bytes="100000" id=')
    assert after["text"] == "next"


def test_a_restart_of_the_receiver(material: TlsMaterial, tmp_path: Path, sink_of: MakeSink) -> None:
    need_rsyslog()
    with Rsyslog(tmp_path, material) as rsyslog:
        sinks = sink_of(section(rsyslog.port, material))
        deliver(sinks, lines(3))
        wait_for(lambda: len(rsyslog.received()) == 3, what="three messages")
        rsyslog.process.terminate()
        with pytest.raises(TemporaryError, match="Connection refused"):
            sinks.ship("central", STREAM, 3, lines(3))
        rsyslog.start()
        deliver(sinks, lines(3), first=3)
        wait_for(lambda: len(rsyslog.received()) == 6, what="six messages")


# Receivers that fail


class Listener:
    """A TCP listener that does with each connection what ``serve`` does."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.data = bytearray()
        self.connections = 0
        self.served = 0
        self.ending = threading.Event()
        self.hang_up_after = 0
        self.reading = threading.Event()
        self.reading.set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.reading.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                with client:
                    self._serve(client)
                self.served += 1

    def _serve(self, client: socket.socket) -> None:
        got = 0
        while not self.ending.is_set():
            self.reading.wait(30)
            client.settimeout(0.2)
            try:
                data = client.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            self.data += data
            got += len(data)
            if self.hang_up_after and got >= self.hang_up_after:
                self.hang_up_after = 0
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return


def unframed(data: bytes) -> list[bytes]:
    """The messages of octet counting (RFC 6587, 3.4.1)."""
    found = []
    while data:
        size, _, data = data.partition(b" ")
        assert size.isdigit()
        assert not size.startswith(b"0")
        assert len(data) >= int(size)
        found.append(data[: int(size)])
        data = data[int(size) :]
    return found


def test_every_frame_says_its_length_in_bytes(sink_of: MakeSink) -> None:
    with Listener() as listener:
        sinks = sink_of(section(listener.port, transport="tcp"))
        deliver(sinks, batch(["☃" * 5, "", "1 2 3"]))
        sinks.close()
        wait_for(lambda: len(listener.data) and listener.data.endswith(b"1 2 3"), what="all")
        messages = unframed(bytes(listener.data))
        assert [one.partition(b"] ")[2].decode() for one in messages] == ["☃" * 5, "", "1 2 3"]


def test_a_reset_in_the_middle_is_no_arrival(sink_of: MakeSink) -> None:
    with Listener() as listener:
        listener.hang_up_after = 100_000
        sinks = sink_of(section(listener.port, transport="tcp"))
        given = batch(f"{number} {'x' * 2000}" for number in range(100))
        outcome = deliver(sinks, given)
        assert outcome.failures or outcome.retries
        assert listener.connections == 2
        sinks.close()
        wait_for(lambda: b" 99 x" in listener.data, what="the last")
        assert {one for one in range(100) if b"] %d x" % one in listener.data} == set(range(100))


def test_a_receiver_that_does_not_read_is_not_waited_for(sink_of: MakeSink) -> None:
    with Listener() as listener:
        listener.reading.clear()
        sinks = sink_of(section(listener.port, transport="tcp", timeout=1))
        begun = time.monotonic()
        with pytest.raises(TemporaryError, match="not taken within 1 s"):
            sinks.ship("central", STREAM, 0, batch("x" * 8000 for _ in range(2000)))
        assert time.monotonic() - begun < 10
        listener.reading.set()
        deliver(sinks, lines(1))


def test_a_connection_that_the_receiver_ended_is_made_anew(sink_of: MakeSink) -> None:
    with Listener() as listener:
        sinks = sink_of(section(listener.port, transport="tcp"))
        deliver(sinks, lines(1))
        listener.hang_up_after = 1
        deliver(sinks, lines(1), first=1)
        wait_for(lambda: listener.served == 1, what="the receiver to hang up")
        deliver(sinks, lines(1), first=2)
        sinks.close()
        wait_for(lambda: listener.data.count(b"line 0") >= 3, what="three messages")
        assert listener.connections == 2


def test_nobody_there(sink_of: MakeSink) -> None:
    port = free_port()
    with pytest.raises(TemporaryError, match=f"tls://127.0.0.1:{port}: Connection refused"):
        sink_of(section(port)).ship("central", STREAM, 0, lines(1))
    with pytest.raises(TemporaryError, match="the name cannot be resolved"):
        sink_of(section(port) | {"host": "logs.invalid"}).ship("central", STREAM, 0, lines(1))
