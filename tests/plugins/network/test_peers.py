"""Pods of several nodes reach each other, whatever the overlay, and what happens to their ways meanwhile."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.network import Problem
from edgeagent.api.objects.network import Overlay
from edgeagent_network.programs import Runner
from edgeagent_network.vxlan import vtep_mac
from tests.plugins.network.nodeskit import Nodes
from tests.support.netprobe import Probe
from tests.support.stream import Stream
from tests.support.wireguardlab import missing

pytestmark = pytest.mark.slow

CASES: list[tuple[Overlay, bool]] = [
    ("vxlan", False),
    ("vxlan", True),
    ("wireguard", False),
    ("wireguard", True),
]


def needs(overlay: Overlay) -> None:
    if overlay == "wireguard" and missing():
        pytest.skip(missing())


def brief(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    assert all(problem.kind == "NodeNetwork" for problem in problems)
    return [(problem.name, problem.reason) for problem in problems]


class Recorder:
    """Runs programs, and notes all but those that only ask."""

    def __init__(self, run: Runner) -> None:
        self.run = run
        self.changes: list[str] = []

    def __call__(self, argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        """As ``Runner`` says."""
        if "show" not in argv and "list" not in argv and "sysctl" not in argv:
            self.changes += stdin.splitlines() or [" ".join(argv)]
        return self.run(argv, stdin, check=check)


@pytest.mark.parametrize(("overlay", "six"), CASES)
def test_pods_of_three_nodes_reach_each_other_in_both_families(
    tmp_path: Path, overlay: Overlay, six: bool
) -> None:
    needs(overlay)
    with Nodes(tmp_path, overlay, six=six) as nodes:
        assert nodes.settle() == []
        assert nodes.reached("a", "b", "c") == nodes.all_ways("a", "b", "c")
        # The host itself speaks to other nodes' pods from its own address in its pods' range.
        for version, own in ((4, "10.42.0.1"), (6, "fd42::1")):
            outcome = nodes.lab.probe(nodes.lab.host.name, nodes.ip("b", version), 80, timeout=5)
            assert (outcome.server, outcome.seen) == ("b", own)
        rows = {row["node"]: row for row in nodes.nodes["a"].network.show("peers")}
        assert list(rows) == ["b", "c"]
        assert rows["b"]["cidrs"] == "10.42.1.0/24,fd42:0:0:1::/64"
        host = nodes.nodes["b"].host
        assert (rows["b"]["overlay"], rows["b"]["address"]) == (overlay, host.ip6 if six else host.ip4)
        assert int(rows["b"]["rx"]) > 500
        assert int(rows["b"]["tx"]) > 500
        if overlay == "wireguard":
            assert rows["b"]["handshake"].endswith("s")
        else:
            assert rows["b"]["handshake"] == "-"


@pytest.mark.parametrize("six", [False, True])
def test_plain_routes_lead_to_pods_of_the_family_that_nodes_speak(tmp_path: Path, six: bool) -> None:
    with Nodes(tmp_path, "route", six=six) as nodes:
        for name in nodes.nodes:
            cidr = 0 if not six else 1
            nodes.change(name, pod_cidrs=[nodes.nodes[name].cidrs[cidr]])
        assert nodes.settle() == []
        version = 6 if six else 4
        ways = {way for way in nodes.all_ways("a", "b", "c") if way[2] == version}
        assert nodes.reached("a", "b", "c", timeout=2) == ways
        assert {row["rx"] for row in nodes.nodes["a"].network.show("peers")} == {"-"}


def test_a_plain_route_is_refused_where_it_cannot_lead(tmp_path: Path) -> None:
    with Nodes(tmp_path, "route") as nodes:
        nodes.change("c", address="172.31.0.9")
        report = nodes.reconcile("a")
        assert brief(report.problems) == [("c", "NotInForce"), ("b", "NotInForce")]
        assert "172.31.0.9 is on no network" in report.problems[0].message
        assert "no plain route to fd42:0:0:1::/64" in report.problems[1].message
        assert report.retry_after > 0
        nodes.reconcile("b")
        assert nodes.lab.probe(nodes.pod("a"), nodes.ip("b"), 80, timeout=3).server == "b"


@pytest.mark.parametrize("overlay", ["vxlan", "wireguard"])
def test_peers_come_and_go_while_others_talk(tmp_path: Path, overlay: Overlay) -> None:
    needs(overlay)
    with Nodes(tmp_path, overlay) as nodes:
        nodes.settle()
        nodes.settle(["a", "b"])
        recorder = {name: Recorder(nodes.runners[name]) for name in ("a", "b")}
        for name, one in recorder.items():
            nodes.restart(name, one)
            nodes.reconcile(name, ["a", "b"])
        with Stream(nodes.lab, nodes.pod("a"), nodes.ip("b"), 53) as stream:
            for one in recorder.values():
                one.changes.clear()
            for _ in range(3):
                for known in (["a", "b", "c"], ["a", "b"]):
                    assert brief(nodes.settle(known)) == []
                    stream.wait_for(50)
            nodes.settle()
            assert nodes.reached("c", "a") == nodes.all_ways("c", "a")
        assert stream.lost == []
        # Not one command named the other one's ranges, address or key.
        b = nodes.objects["b"].spec
        said = [change for change in recorder["a"].changes if "element" not in change]
        assert said
        words = (*b.pod_cidrs, vtep_mac("b"), b.public_key or "no key", f"{b.address}:")
        assert not [change for change in said for word in words if word in change]


@pytest.mark.parametrize("overlay", ["vxlan", "wireguard"])
def test_an_agent_that_starts_anew_finds_its_ways_as_they_were(tmp_path: Path, overlay: Overlay) -> None:
    needs(overlay)
    with Nodes(tmp_path, overlay, names=("a", "b")) as nodes:
        nodes.settle()
        key = nodes.reconcile("a").public_key
        with Stream(nodes.lab, nodes.pod("a"), nodes.ip("b"), 53) as stream:
            for _ in range(2):
                recorder = Recorder(nodes.runners["a"])
                nodes.restart("a", recorder)
                report = nodes.reconcile("a")
                assert (report.problems, report.public_key) == ([], key)
                stream.wait_for(50)
                touched = [
                    one
                    for one in recorder.changes
                    if one.startswith(("neigh", "fdb", "route", "link", "wg set"))
                ]
                assert touched == []
                recorder.changes.clear()
                nodes.reconcile("a")
                assert recorder.changes == []
        assert stream.lost == []


def _flush_routes(run: Runner) -> None:
    run(["ip", "route", "flush", "proto", "237"])
    run(["ip", "-6", "route", "flush", "proto", "237"])


def _break_vxlan(run: Runner) -> None:
    run(["bridge", "fdb", "del", vtep_mac("b"), "dev", "edge-vxlan", "dst", "192.168.77.2"])
    run(["bridge", "fdb", "add", "02:aa:aa:aa:aa:aa", "dev", "edge-vxlan", "dst", "192.168.77.9"])
    run(
        [
            "ip",
            "neigh",
            "replace",
            "10.42.1.0",
            "lladdr",
            "02:aa:aa:aa:aa:aa",
            "dev",
            "edge-vxlan",
            "nud",
            "permanent",
        ]
    )
    run(["ip", "address", "flush", "dev", "edge-vxlan"])


def _other_vxlan(run: Runner) -> None:
    run(["ip", "link", "del", "edge-vxlan"])
    run(["ip", "link", "add", "edge-vxlan", "type", "vxlan", "id", "7", "dstport", "4789"])


def _down(run: Runner) -> None:
    run(["ip", "link", "set", "edge-vxlan", "down"])
    run(["ip", "link", "set", "edge-vxlan", "mtu", "1000"])
    run(["ip", "link", "set", "edge-vxlan", "address", "02:aa:aa:aa:aa:aa"])


@pytest.mark.parametrize("harm", [_flush_routes, _break_vxlan, _other_vxlan, _down])
def test_what_others_changed_is_repaired(tmp_path: Path, harm: Callable[[Runner], None]) -> None:
    with Nodes(tmp_path, "vxlan", names=("a", "b")) as nodes:
        nodes.settle()
        good = kernel(nodes)
        harm(nodes.lab.host.run)
        assert kernel(nodes) != good
        nodes.nodes["a"].now += 61
        assert nodes.reconcile("a").problems == []
        assert kernel(nodes) == good
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")


def kernel(nodes: Nodes) -> dict[str, list[str]]:
    """All of the overlay in node ``a``'s kernel."""
    run = nodes.lab.host.run
    return {
        " ".join(argv): sorted(run(argv, check=False).splitlines())
        for argv in (
            ["ip", "route", "show", "proto", "237"],
            ["ip", "-6", "route", "show", "proto", "237"],
            ["bridge", "fdb", "show", "dev", "edge-vxlan"],
            ["ip", "neigh", "show", "dev", "edge-vxlan", "nud", "permanent"],
            ["ip", "-br", "address", "show", "dev", "edge-vxlan"],
            ["ip", "-br", "link", "show"],
        )
    }


def test_another_overlay_replaces_the_one_before(tmp_path: Path) -> None:
    with Nodes(tmp_path, "vxlan", names=("a", "b")) as nodes:
        empty = nodes.nodes["a"].seen()
        nodes.settle()
        for overlay in ("route", "vxlan"):
            for name in nodes.nodes:
                nodes.change(name, overlay=overlay)
            nodes.settle()
            assert nodes.lab.probe(nodes.pod("a"), nodes.ip("b"), 80, timeout=3).server == "b"
            links = {link["ifname"] for link in nodes.lab.host.json("ip", "-j", "link")}
            assert ("edge-vxlan" in links) == (overlay == "vxlan")
        # Also where the agent did not run while it was changed.
        nodes.restart("a")
        nodes.change("a", overlay="none")
        assert nodes.reconcile("a").problems == []
        left = nodes.nodes["a"].seen()
        for what in ("links", "routes", "routes6", "neighbours", "addresses"):
            assert left[what] == empty[what], what


def test_a_node_moves_and_is_found_at_its_new_address(tmp_path: Path) -> None:
    with Nodes(tmp_path, "vxlan", names=("a", "b")) as nodes:
        nodes.settle()
        nodes.nodes["b"].host.ip(
            "address del 192.168.77.2/24 dev uplink",
            "address add 192.168.77.50/24 dev uplink",
            "route add default via 192.168.77.254",
        )
        nodes.change("b", address="192.168.77.50")
        assert nodes.settle() == []
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")


def test_ranges_of_two_nodes_do_not_overlap(tmp_path: Path) -> None:
    with Nodes(tmp_path, "vxlan") as nodes:
        nodes.settle()
        good = nodes.objects["c"]
        for cidrs, reason, said in (
            (["10.42.0.0/24"], "PodCIDRConflict", "this node's own range 10.42.0.0/24"),
            (["10.42.1.128/25"], "PodCIDRConflict", "the range of node b, 10.42.1.0/24"),
            (["10.0.0.0/8"], "PodCIDRConflict", "this node's own range"),
            (["10.99.0.0/33"], "InvalidPodCIDR", "10.99.0.0/33"),
            (["0.0.0.0/0"], "InvalidPodCIDR", "can be no node's"),
            (["10.60.0.0/24", "10.61.0.0/24"], "InvalidPodCIDR", "one of each family"),
            (["192.168.77.0/24"], "PodCIDRConflict", "this node's own address 192.168.77.1"),
            (["192.168.77.3/32"], "PodCIDRConflict", "overlaps 192.168.77.0/24, which this host is on"),
                (["10.60.0.0/24"], "InvalidAddress", "10.60.0.9 lies in the pod range"),
        ):  # fmt: skip
            nodes.objects["c"] = good
            nodes.change("c", pod_cidrs=cidrs)
            if reason == "InvalidAddress":
                nodes.change("c", address="10.60.0.9")
            (problem, *more) = [p for p in nodes.reconcile("a").problems if p.name == "c"]
            assert (problem.reason, more) == (reason, [])
            assert said in problem.message
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        # It is the first by name that keeps what two want, and it does not matter which is named first.
        nodes.objects["c"] = good
        nodes.change("c", pod_cidrs=["10.42.1.0/24"])
        assert brief(nodes.reconcile("a", ["c", "b", "a"]).problems) == [("c", "PodCIDRConflict")]
        nodes.objects["c"] = good
        assert nodes.settle() == []
        assert nodes.reached("a", "b", "c") == nodes.all_ways("a", "b", "c")


@pytest.mark.parametrize("overlay", ["vxlan", "none"])
def test_a_range_that_can_be_nobodys_does_not_count_as_the_clusters(tmp_path: Path, overlay: Overlay) -> None:
    with Nodes(tmp_path, overlay, names=("a", "b")) as nodes:
        nodes.settle()
        lab = nodes.lab
        lab.serve(lab.lan, 80)
        for cidr in ("0.0.0.0/0", "192.168.0.0/16"):
            nodes.change("b", pod_cidrs=[cidr], address=nodes.nodes["b"].host.ip4)
            report = nodes.reconcile("a")
            assert {problem.name for problem in report.problems} == {"b"}
            # What leaves the cluster still has the host's address: the LAN knows no pod.
            outcome = lab.probe(nodes.pod("a"), lab.lan4, 80, timeout=2)
            assert outcome.seen == lab.host.ip4


def test_a_route_that_was_there_before_is_nobody_elses(tmp_path: Path) -> None:
    with Nodes(tmp_path, "vxlan") as nodes:
        nodes.lab.host.ip("route add 10.42.2.0/24 via 192.168.77.254")
        report = nodes.reconcile("a")
        assert brief(report.problems) == [("c", "NotInForce")]
        assert "another route to 10.42.2.0/24" in report.problems[0].message
        assert "192.168.77.254" in nodes.lab.host.run(["ip", "route", "show", "10.42.2.0/24"])
        nodes.reconcile("b")
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        nodes.lab.host.ip("route del 10.42.2.0/24 via 192.168.77.254")
        assert nodes.settle() == []
        assert nodes.reached("a", "c") == nodes.all_ways("a", "c")


def test_nodes_that_are_not_known_yet_are_left_out_without_a_word(tmp_path: Path) -> None:
    with Nodes(tmp_path, "vxlan") as nodes:
        nodes.change("c", address="")
        assert nodes.settle() == []
        assert [row["node"] for row in nodes.nodes["a"].network.show("peers")] == ["b"]
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")
        nodes.change("c", address=nodes.nodes["a"].host.ip6)
        report = nodes.reconcile("a")
        assert brief(report.problems) == [("c", "NotInForce")]
        assert "not of IPv4" in report.problems[0].message
        nodes.change("c", address="not an address")
        assert brief(nodes.reconcile("a").problems) == [("c", "InvalidAddress")]
        nodes.change("a", address="")
        nodes.change("c", address=nodes.nodes["c"].host.ip4)
        nodes.settle()
        # Who does not know where it is itself still has a way to others.
        assert nodes.reached("b", "c") == nodes.all_ways("b", "c")
        assert [row["node"] for row in nodes.nodes["a"].network.show("peers")] == ["b", "c"]


def without(run: Runner, program: str, error: Exception) -> Runner:
    """A machine that lacks something."""

    def ask(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if program in argv:
            raise error
        return run(argv, stdin, check=check)

    return ask


@pytest.mark.parametrize(
    ("overlay", "program", "said"),
    [("vxlan", "vxlan", "no VXLAN"), ("wireguard", "wireguard-go", "no WireGuard")],
)
def test_a_kernel_without_the_overlay_keeps_everything_else(
    tmp_path: Path, overlay: Overlay, program: str, said: str
) -> None:
    needs(overlay)
    unknown = TemporaryError("Error: Unknown device type.", reason="NetworkFailed")
    error = unknown if program == "vxlan" else PermanentError("wireguard-go is not installed")
    with Nodes(tmp_path, overlay, names=("a", "b")) as nodes:
        if overlay == "wireguard" and Path("/sys/module/wireguard").exists():
            pytest.skip("the kernel has WireGuard, so nothing is missing")
        nodes.restart("a", without(nodes.runners["a"], program, error))
        report = nodes.reconcile("a")
        assert brief(report.problems) == [("a", "KernelFeatureMissing")]
        assert said in report.problems[0].message
        assert report.retry_after > 0
        nodes.nodes["a"].attach("more")
        nodes.reconcile("a")
        nodes.lab.serve(nodes.nodes["a"].space("more"), 81)
        assert nodes.lab.probe(nodes.pod("a"), "10.42.0.3", 81, timeout=3)
        nodes.restart("a")
        assert nodes.settle() == []
        assert nodes.reached("a", "b") == nodes.all_ways("a", "b")


def test_only_peers_may_speak_to_the_overlays_port(tmp_path: Path) -> None:
    with Nodes(tmp_path, "vxlan", names=("a", "b")) as nodes:
        assert nodes.settle() == []
        lab = nodes.lab
        # Stands where the kernel's VXLAN would: what reaches it would have been let in.
        for name in nodes.nodes:
            nodes.nodes[name].host.run(["ip", "link", "set", "edge-vxlan", "down"])
            lab.serve(nodes.nodes[name].host.name, 8472, protocol="UDP")
        ways = {
            "peer": Probe(nodes.nodes["b"].host.name, nodes.nodes["a"].host.ip4, 8472, "UDP"),
            "lan": Probe(lab.lan, nodes.nodes["a"].host.ip4, 8472, "UDP"),
            "own pod": Probe(nodes.pod("a"), nodes.nodes["a"].host.ip4, 8472, "UDP"),
            "other pod": Probe(nodes.pod("b"), nodes.nodes["a"].host.ip4, 8472, "UDP"),
        }
        outcomes = dict(zip(ways, lab.probes(list(ways.values()), timeout=1), strict=True))
        assert {name for name, outcome in outcomes.items() if outcome} == {"peer"}
