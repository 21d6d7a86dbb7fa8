"""Sinks over HTTP: who is believed, and who this node is."""

import json
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from tests.plugins.logs.sinkkit import MakeSink, deliver, lines
from tests.support import httpreceiver as faults
from tests.support.broker import TlsMaterial
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import HttpReceiver


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


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", "sn☃w".encode(), b"x" * 70_000], ids=repr
)
def test_files_that_hold_no_credential(sink_of: MakeSink, tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    section = {"url": "http://127.0.0.1:9", "bearer_token_file": str(secret), "plain_credentials": True}
    with pytest.raises(PermanentError, match=f"{secret} (must hold one line|must hold ASCII|is not UTF-8)"):
        sink_of({"type": "otlp", **section}).ship("central", "s", 0, lines(1))


def test_headers_are_sent(sink_of: MakeSink, kind: str, receiver: HttpReceiver, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abc\n")
    section = {"headers": {"X-Site": "north"}, "header_files": {"X-Api-Key": str(tmp_path / "key")}}
    deliver(sink_of({"type": kind, "url": receiver.url, "plain_credentials": True, **section}), lines(1))
    headers = receiver.requests[0].headers
    assert (headers["x-site"], headers["x-api-key"]) == ("north", "abc")
    assert headers["user-agent"].startswith("edgeagent/")
