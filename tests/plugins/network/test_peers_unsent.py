"""With WireGuard, what is for another node's pods goes out encrypted or not at all."""

import socket
from pathlib import Path

import pytest

from tests.plugins.network.nodeskit import Nodes
from tests.support.netprobe import family_of
from tests.support.sniffer import Sniffer, packets
from tests.support.waiting import wait_for
from tests.support.wireguardlab import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]

SECRET = b"what one pod has to say to another"
OUTSIDE = {"10.42.9.9", "fd42:0:0:9::9"}
"""Of no node's range, so that they are as any address beyond the cluster's."""


def heard(nodes: Nodes, *targets: str) -> set[str]:
    """To which of these addresses a pod on node ``a`` says something that whoever has the LAN can read."""

    def say() -> None:
        for target in (*targets, *OUTSIDE):
            with socket.socket(family_of(target), socket.SOCK_DGRAM) as made:
                made.sendto(SECRET, (target, 53))

    found: set[str] = set()
    with Sniffer(nodes.lab.lan, "lan0") as sniffer:

        def listen() -> bool:
            found.update(str(one.target) for one in packets(sniffer.frames()) if one.payload == SECRET)
            return found >= OUTSIDE

        nodes.lab.inside(nodes.pod("a"), say)
        # What was said last is heard: so is all that can be of what was said before.
        wait_for(listen, what=f"the LAN to hear what is for {OUTSIDE}")
    return found - OUTSIDE


def test_nothing_is_said_in_clear_where_there_is_no_way(tmp_path: Path) -> None:
    with Nodes(tmp_path, "wireguard") as nodes:
        ips = [nodes.ip(name, version) for name in ("b", "c") for version in (4, 6)]
        for name in ("a", "b"):
            nodes.change(name, public_key=nodes.reconcile(name).public_key)
        # Of c there is no key yet.
        assert nodes.settle(["a", "b"]) == []
        assert nodes.reconcile("a").problems == []
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        assert heard(nodes, *ips) == set()
        # Nor is there a device while it is ended, by the kernel or with its program.
        run = nodes.runners["a"]
        run(["ip", "link", "del", "dev", "edge-wg"])
        assert heard(nodes, *ips) == set()
        nodes.nodes["a"].now += 61
        assert nodes.reconcile("a").problems == []
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        # What others took is put back, and an agent that starts changes nothing of it.
        run(["ip", "route", "flush", "proto", "237"])
        nodes.nodes["a"].now += 61
        assert nodes.reconcile("a").problems == []
        assert heard(nodes, *ips) == set()
        before = routes(nodes)
        nodes.restart("a")
        nodes.reconcile("a")
        assert routes(nodes) == before
        # A node that is gone has no range.
        nodes.reconcile("a", ["a", "b"])
        assert heard(nodes, *ips) == set(ips[2:])
        nodes.change("a", overlay="none")
        nodes.reconcile("a")
        assert routes(nodes) == []


def test_a_route_that_somebody_else_made_is_left_alone(tmp_path: Path) -> None:
    with Nodes(tmp_path, "wireguard", names=("a", "b")) as nodes:
        nodes.lab.host.ip(f"route add 10.42.1.0/24 via {nodes.lab.lan4}")
        nodes.settle()
        assert not [route for route in routes(nodes) if "10.42.1.0" in route]
        assert heard(nodes, nodes.ip("b")) == {nodes.ip("b")}


def routes(nodes: Nodes) -> list[str]:
    """All that node ``a``'s kernel has of the overlay."""
    return [
        line
        for family in ("-4", "-6")
        for line in nodes.lab.host.run(["ip", family, "route", "show", "proto", "237"]).splitlines()
    ]
