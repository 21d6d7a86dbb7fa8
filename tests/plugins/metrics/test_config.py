"""``[plugins.metrics]``: what is refused, and in which words."""

import tomllib
from pathlib import Path

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import convert
from edgeagent_metrics.collectors import NodeMetrics
from edgeagent_metrics.config import MetricsConfig, parse_address

PAIR = {"certificate_file": "/c.crt", "key_file": "/c.key"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"listen": "19100"}, "no address with a port"),
        ({"listen": "localhost:19100"}, "no IP address"),
        ({"listen": "::1:19100"}, "stands in brackets"),
        ({"listen": "[127.0.0.1]:19100"}, "no IP address"),
        ({"listen": "127.0.0.1:0"}, "no address with a port"),
        ({"listen": "127.0.0.1:70000"}, "no address with a port"),
        ({"listen": "0.0.0.0:19100"}, "mutual TLS only"),
        ({"listen": "[::]:19100"}, "mutual TLS only"),
        ({"listen": "192.0.2.1:19100"}, r"certificate_file and key_file in \[plugins.metrics.tls\]"),
        ({"tls": {"key_file": "/c.key"}}, "give both, or neither"),
        ({"tls": {**PAIR, "allowed_clients": []}}, "tls.allowed_clients"),
        ({"tls": {**PAIR, "allowed_clients": ["*.example.com"]}}, "tls.allowed_clients"),
        ({"tls": {"client_ca_file": "ca.crt"}}, "tls.client_ca_file"),
        ({"collectors_off": ["everything"]}, "collectors_off"),
        ({"disk_devices_ignored": "(sd"}, "disk_devices_ignored: no regular expression"),
    ],
)
def test_a_wrong_setting_is_named(section: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words):
        convert(section, MetricsConfig)


@pytest.mark.parametrize("listen", ["", "127.0.0.1:1", "127.8.9.1:19100", "[::1]:19100"])
def test_loopback_needs_no_certificate(listen: str) -> None:
    assert convert({"listen": listen}, MetricsConfig).listen == listen


def test_any_address_with_a_certificate() -> None:
    found = convert({"listen": "[2001:db8::1]:443", "tls": PAIR}, MetricsConfig)
    assert parse_address(found.listen) == ("2001:db8::1", 443)


def test_every_collector_can_be_switched_off() -> None:
    names = NodeMetrics(MetricsConfig()).names
    off = convert({"collectors_off": names}, MetricsConfig)
    assert NodeMetrics(off).names == []


def test_the_sample_is_what_holds_without_it(checkout: Path) -> None:
    text = (checkout / "plugins/edgeagent_metrics/sample.toml").read_text()
    section = tomllib.loads(text)["plugins"]["metrics"]
    assert section.pop("enabled") is True
    assert convert(section, MetricsConfig) == MetricsConfig()
