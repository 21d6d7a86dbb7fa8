"""Whom the node's DNS server asks."""

from pathlib import Path

import pytest

from edgeagent_network.config import NetworkConfig
from edgeagent_network.upstreams import MAX_UPSTREAMS, Upstreams


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    return tmp_path


def resolv(node: Path, text: str, path: str = "etc/resolv.conf") -> None:
    (node / path).write_text(text)


def test_the_nodes_own_in_order(node: Path) -> None:
    resolv(node, "search lan\nnameserver 192.0.2.2\nnameserver fe80::1%eth0 # router\nnameserver 192.0.2.2\n")
    assert Upstreams(NetworkConfig(), node).find() == (("192.0.2.2", "fe80::1%eth0"), [])


def test_those_behind_systemd_resolved(node: Path) -> None:
    resolv(node, "nameserver 127.0.0.53\n")
    resolv(node, "nameserver 192.0.2.3\n", "run/systemd/resolve/resolv.conf")
    assert Upstreams(NetworkConfig(), node).find() == (("192.0.2.3",), [])


def test_configured_ones_go_before(node: Path) -> None:
    resolv(node, "nameserver 192.0.2.2\n")
    assert Upstreams(NetworkConfig(upstreams=["192.0.2.9"]), node).find() == (("192.0.2.9",), [])


def test_never_the_server_itself(node: Path) -> None:
    resolv(node, "nameserver 169.254.20.10\nnameserver 192.0.2.2\n")
    assert Upstreams(NetworkConfig(), node).find() == (("192.0.2.2",), [])


def test_a_file_that_becomes_empty_takes_none_away(node: Path) -> None:
    upstreams = Upstreams(NetworkConfig(), node)
    resolv(node, "nameserver 192.0.2.2\n")
    upstreams.find()
    resolv(node, "")
    assert upstreams.find() == (("192.0.2.2",), [])
    resolv(node, "nameserver 192.0.2.4\n")
    assert upstreams.find() == (("192.0.2.4",), [])


@pytest.mark.parametrize("text", ["", "nameserver\n", "# nameserver 192.0.2.2\n"])
def test_none_is_said(node: Path, text: str) -> None:
    resolv(node, text)
    found, said = Upstreams(NetworkConfig(), node).find()
    assert found == ()
    assert said == ["/etc/resolv.conf names no DNS server: only the cluster's names are known"]


@pytest.mark.parametrize(
    "bad", ["dns", "192.0.2.2%eth0", "fe80::1%", "fe80::1%a\nb", '1.2.3.4"', "300.1.1.1"]
)
def test_a_bad_one_is_said_and_the_others_stay(node: Path, bad: str) -> None:
    found, said = Upstreams(NetworkConfig(upstreams=[bad, "192.0.2.9"]), node).find()
    assert found == ("192.0.2.9",)
    assert said == [f"plugins.network.upstreams: {bad!r} is not an IP address"]


def test_no_more_than_are_of_use(node: Path) -> None:
    many = [f"192.0.2.{number}" for number in range(1, 20)]
    assert len(Upstreams(NetworkConfig(upstreams=many), node).find()[0]) == MAX_UPSTREAMS
