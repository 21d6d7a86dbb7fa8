"""What NodeNetwork and HostFirewall may say."""

from typing import Any

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_object


def manifest(kind: str, **spec: Any) -> dict[str, Any]:
    """A manifest of this kind."""
    return {"apiVersion": "edgeagent/v1", "kind": kind, "metadata": {"name": "n1"}, "spec": spec}


def firewall(**rule: Any) -> dict[str, Any]:
    """A HostFirewall of one rule."""
    return manifest("HostFirewall", allow=[{"name": "ssh", **rule}])


@pytest.mark.parametrize(
    "found",
    [
        manifest("NodeNetwork", podCidrs=["10.42.1.0/24", "fd42::/64"], address="192.0.2.1"),
        manifest("NodeNetwork", publicKey="A" * 43 + "=", overlay="wireguard", port=51820),
        firewall(ports=[22, "8000-8010"], sources=[{"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}]),
        firewall(protocol="ICMP", interfaces=["eth0", "wlan0.5"]),
    ],
)
def test_good_ones(found: dict[str, Any]) -> None:
    decode_object(found)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            manifest("NodeNetwork", podCidrs=["10.42.1.0/99"]),
            r"spec.podCidrs\[0\]: '10.42.1.0/99' is not a CIDR",
        ),
        (manifest("NodeNetwork", podCidrs=["10.1.0.0/24", "10.2.0.0/24"]), "two ranges of one family"),
        (manifest("NodeNetwork", publicKey="short"), "spec.publicKey: must be 32 bytes in base64"),
        (manifest("NodeNetwork", address="here"), "spec.address: 'here' is not an IP address"),
        (firewall(ports=["20-10"]), r"spec.allow\[0\].ports\[0\]: '20-10' is no range of ports"),
        (firewall(ports=["ssh"]), "'ssh' is neither a port nor FIRST-LAST"),
        (firewall(ports=["1-99999"]), "is no range of ports"),
        (firewall(ports=[0]), "must be between 1 and 65535"),
        (firewall(protocol="ICMP", ports=[1]), "ICMP has no ports"),
        (firewall(interfaces=['e"; drop']), "is no name of an interface"),
        (firewall(sources=[{"cidr": "nowhere"}]), r"sources\[0\].cidr: 'nowhere' is not a CIDR"),
        (manifest("HostFirewall", confirmSeconds=1), "spec.confirmSeconds: must be between 5 and 3600"),
        (
            manifest("HostFirewall", allow=[{"name": "a"}, {"name": "a"}]),
            r"spec.allow\[1\].name: 'a' is there twice",
        ),
    ],
)
def test_what_is_refused_is_named(found: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words):
        decode_object(found)
