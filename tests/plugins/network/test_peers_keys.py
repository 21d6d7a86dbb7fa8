"""WireGuard's keys: who has which, where they are, and what is no key."""

import base64
import stat
from pathlib import Path

import pytest

from tests.plugins.network.nodeskit import Nodes
from tests.support.wireguardlab import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]


def test_a_key_is_made_once_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    with Nodes(tmp_path, "wireguard", names=("a",)) as nodes:
        public = nodes.reconcile("a").public_key
        file = tmp_path / "a" / "wireguard.key"
        assert len(base64.b64decode(public)) == 32
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert public not in file.read_text()
        nodes.restart("a")
        assert nodes.reconcile("a").public_key == public
        run = nodes.runners["a"]
        assert run(["wg", "show", "edge-wg", "public-key"]).strip() == public
        # Without its file it is another node.
        file.write_text("no key\n")
        nodes.restart("a")
        report = nodes.reconcile("a")
        assert report.public_key not in ("", public)
        assert [(one.name, one.reason) for one in report.problems] == [("a", "KeyUnreadable")]
        assert run(["wg", "show", "edge-wg", "public-key"]).strip() == report.public_key
        assert (tmp_path / "a" / "wireguard.key.corrupt").read_text() == "no key\n"


def test_peers_need_keys_of_their_own(tmp_path: Path) -> None:
    with Nodes(tmp_path, "wireguard") as nodes:
        own = nodes.reconcile("a").public_key
        key = nodes.reconcile("b").public_key
        assert nodes.reconcile("a").problems == []
        nodes.change("b", public_key=key)
        for bad, reason in (("?", "InvalidPublicKey"), (key, "PublicKeyConflict"), (own, "NotInForce")):
            nodes.change("c", public_key=bad)
            (problem,) = nodes.reconcile("a").problems
            assert (problem.name, problem.reason) == ("c", reason)
            shown = nodes.runners["a"](["wg", "show", "edge-wg", "allowed-ips"])
            assert shown.split() == [key, "10.42.1.0/24", "fd42:0:0:1::/64"]


def test_a_peer_that_lost_its_key_is_found_by_its_new_one(tmp_path: Path) -> None:
    with Nodes(tmp_path, "wireguard", names=("a", "b")) as nodes:
        assert nodes.settle() == []
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        (tmp_path / "b" / "wireguard.key").unlink()
        nodes.restart("b")
        assert nodes.settle() == []
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        assert len(nodes.runners["a"](["wg", "show", "edge-wg", "peers"]).split()) == 1


def test_a_peer_that_speaks_from_elsewhere_is_answered_there(tmp_path: Path) -> None:
    with Nodes(tmp_path, "wireguard", names=("a", "b")) as nodes:
        nodes.settle()
        assert nodes.reached("b", "a") == nodes.all_ways("a", "b")
        run = nodes.runners["a"]
        key = nodes.objects["b"].spec.public_key
        # As where a router translates b's port.
        nodes.runners["b"](["wg", "set", "edge-wg", "listen-port", "40000"])
        assert nodes.reached("b", "a") == nodes.all_ways("a", "b")
        roamed = f"{nodes.nodes['b'].host.ip4}:40000"
        assert run(["wg", "show", "edge-wg", "endpoints"]).split() == [key, roamed]
        nodes.nodes["a"].now += 61
        nodes.reconcile("a")
        nodes.restart("a")
        nodes.reconcile("a")
        assert run(["wg", "show", "edge-wg", "endpoints"]).split() == [key, roamed]
        # What the hub says anew counts.
        nodes.change("b", port=40001)
        nodes.reconcile("a")
        assert run(["wg", "show", "edge-wg", "endpoints"]).split()[1].endswith(":40001")
