"""Sinks by way of the proxy that the environment names."""

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from tests.plugins.logs.httpkinds import arrived
from tests.plugins.logs.sinkkit import MakeSink, deliver, lines
from tests.support.broker import TlsMaterial
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpproxy import Proxy
from tests.support.httpreceiver import HttpReceiver


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
