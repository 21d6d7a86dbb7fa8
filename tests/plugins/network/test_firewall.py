"""The host's firewall in the kernel, and its dead man's switch over outages and restarts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeagent.api.network import NetworkReport, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.network import HostFirewall, NodeNetwork, NodeNetworkSpec
from edgeagent_network.config import NetworkConfig
from edgeagent_network.firewall import MAX_TRIALS, Firewall
from edgeagent_network.programs import run_program
from edgeagent_network.ruleset import TABLE
from tests.plugins.network.netkit import Node
from tests.support.netlab import Lab
from tests.support.netprobe import Probe

KEY = "firewall host"
CONFIG = NetworkConfig()


def firewall(*allow: dict[str, Any], uid: str = "u", confirm: int = 60) -> HostFirewall:
    """A HostFirewall named ``host``; rules without a name get one."""
    rules = [{"name": f"r{number}", **one} for number, one in enumerate(allow)]
    return convert(
        {
            "apiVersion": "edgeagent/v1",
            "kind": "HostFirewall",
            "metadata": {"name": "host", "uid": uid},
            "spec": {"allow": rules, "confirmSeconds": confirm},
        },
        HostFirewall,
    )


def state(
    wanted: HostFirewall | None, *, connected: bool = True, brokers: tuple[str, ...] = ("hub:8883",)
) -> NetworkState:
    return NetworkState(node="a", firewall=wanted, connected=connected, broker_addresses=list(brokers))


# In the kernel


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(forwarding=False) as made:
        for port in (22, 80, 81, 8100):
            made.serve(made.host.name, port)
        for port in (53, 5000):
            made.serve(made.host.name, port, protocol="UDP")
        made.serve(made.lan, 80)
        made.serve(made.lan, 53, protocol="UDP")
        yield made


@pytest.fixture
def node(lab: Lab, tmp_path: Path) -> Iterator[Node]:
    made = Node(lab, lab.host, tmp_path)
    yield made
    for uid in ("one", "two"):
        made.detach(uid)
    lab.host.nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
    made.close()


def reasons(report: NetworkReport) -> list[str]:
    return [one.reason for one in report.problems if one.kind == "HostFirewall"]


def reached(node: Node, *ports: tuple[int, str]) -> list[bool]:
    """From the LAN: IPv4 then IPv6 of each port."""
    probes = [
        Probe(node.lab.lan, address, port, protocol)  # type: ignore[arg-type]
        for port, protocol in ports
        for address in (node.host.ip4, node.host.ip6)
    ]
    return [bool(one) for one in node.lab.probes(probes, timeout=0.4)]


def test_only_what_is_allowed_comes_in(node: Node) -> None:
    wanted = firewall(
        {"ports": [22, "8000-8200"]},
        {"protocol": "UDP", "ports": [53]},
        {"ports": [80], "sources": [{"cidr": "192.168.0.0/16", "except": [f"{node.lab.lan4}/32"]}]},
        {"ports": [81], "sources": [{"cidr": "fd77::/64"}], "interfaces": ["uplink", "eth9"]},
    )
    assert all(reached(node, (22, "TCP"), (80, "TCP"), (5000, "UDP")))
    assert reasons(node.network.reconcile(state(wanted))) == []
    assert reached(node, (22, "TCP"), (8100, "TCP"), (53, "UDP")) == [True] * 6
    assert reached(node, (80, "TCP"), (81, "TCP"), (5000, "UDP")) == [False] * 3 + [True] + [False] * 2
    # Outwards, and to itself, the host does as before.
    outside = [
        Probe(node.host.name, node.lab.lan4, 80),
        Probe(node.host.name, node.lab.lan6, 80),
        Probe(node.host.name, node.lab.lan4, 53, "UDP"),
        Probe(node.host.name, "127.0.0.1", 80),
        Probe(node.host.name, node.host.ip4, 80),
    ]
    assert all(node.lab.probes(outside, timeout=3))
    counted = node.host.run(["nft", "list", "counter", "inet", TABLE, "host_firewall_drops"])
    assert "packets 0 " not in counted
    assert reasons(node.network.reconcile(state(None))) == []
    assert all(reached(node, (80, "TCP"), (5000, "UDP")))


def test_neighbours_are_found_anew_and_an_echo_needs_a_rule(node: Node) -> None:
    def pings() -> list[bool]:
        ping = ["nsenter", f"--net=/run/netns/{node.lab.lan}", "busybox", "ping", "-c1", "-W1"]
        found = [run_program([*ping, ip], check=False) for ip in (node.host.ip4, node.host.ip6)]
        return [" 0% packet loss" in said for said in found]

    assert pings() == [True, True]
    node.network.reconcile(state(firewall({"ports": [22]})))
    for space in (node.lab.lan, node.host.name):
        run_program(["ip", "-n", space, "neigh", "flush", "all"])
    assert reached(node, (22, "TCP")) == [True, True]
    assert pings() == [False, False]
    node.network.reconcile(state(firewall({"protocol": "ICMP"})))
    assert pings() == [True, True]


def test_pods_are_not_kept_out(node: Node) -> None:
    ips = {uid: node.attach(uid).ips for uid in ("one", "two")}
    node.lab.serve(node.space("two"), 80)
    node.network.reconcile(state(firewall({"ports": [1]})))
    probes = [
        *(Probe(node.space("one"), ip, 80) for ip in ips["two"]),
        *(Probe(node.space("one"), ip, 80) for ip in (node.host.ip4, node.host.ip6)),
        *(Probe(node.space("one"), ip, 80) for ip in (node.lab.lan4, node.lab.lan6)),
    ]
    assert all(node.lab.probes(probes, timeout=3))
    assert reached(node, (80, "TCP")) == [False, False]


def test_what_costs_the_broker_is_taken_back_in_the_kernel(node: Node) -> None:
    good, bad = firewall({"ports": [80]}), firewall({"ports": [22]})
    report = node.network.reconcile(state(good))
    assert report.on_trial
    node.now += 60
    report = node.network.reconcile(state(good))
    assert (reasons(report), report.on_trial) == ([], False)
    report = node.network.reconcile(state(bad))
    assert report.retry_after <= 60
    assert report.on_trial
    assert reached(node, (80, "TCP"), (22, "TCP")) == [False, False, True, True]
    node.now += 30
    node.network.reconcile(state(bad, connected=False))
    assert reached(node, (22, "TCP")) == [True, True]
    node.now += 30
    report = node.network.reconcile(state(bad, connected=False))
    assert (reasons(report), report.on_trial) == (["RolledBack"], False)
    assert reached(node, (80, "TCP"), (22, "TCP")) == [True, True, False, False]
    node.start()
    assert reasons(node.network.reconcile(state(bad))) == ["RolledBack"]
    assert reached(node, (80, "TCP"), (22, "TCP")) == [True, True, False, False]


def test_a_trace_asks_the_firewall(node: Node) -> None:
    ip = node.attach("one").ips[0]
    node.network.reconcile(state(firewall({"name": "ssh", "ports": [22], "interfaces": ["uplink"]})))
    told = node.network.trace(node.lab.lan4, node.host.ip4, 22, "TCP")
    assert "HostFirewall host lets it in by its rule ssh, if it comes in by uplink" in told
    assert told[-1] == "allowed"
    told = node.network.trace(node.lab.lan4, node.host.ip4, 80, "TCP")
    assert told[-1] == "dropped by the host's firewall"
    assert node.network.trace(ip, node.host.ip4, 80, "TCP")[-1] == "allowed"


def test_what_it_dropped_is_shown(node: Node) -> None:
    """While it is on trial, accepted, and where another is wanted that is not in force."""
    wanted = firewall({"ports": [22]}, {"ports": [8100]})
    assert node.network.reconcile(state(wanted)).problems == []
    (row,) = node.network.show("firewall")
    assert row == {
        "name": "host",
        "state": "on trial, 60s left",
        "allows": "r0,r1",
        "drops": "0",
        "note": "<none>",
    }
    assert reached(node, (80, "TCP"), (22, "TCP")) == [False, False, True, True]
    node.now = 60
    node.network.reconcile(state(wanted))
    (row,) = node.network.show("firewall")
    assert row["state"] == "accepted"
    assert int(row["drops"]) >= 2, "a packet of each family"
    node.network.reconcile(state(firewall({"ports": [80]}), connected=False))
    (row,) = node.network.show("firewall")
    assert (row["state"], row["allows"]) == ("accepted", "r0,r1")
    assert row["note"].startswith("Pending: ")
    node.network.reconcile(state(None))
    assert node.network.show("firewall") == []
    node.network.reconcile(state(wanted, connected=False))
    (row,) = node.network.show("firewall")
    assert (row["state"], row["drops"]) == ("not in force", "0")
    node.network.reconcile(state(None))


@pytest.mark.parametrize("overlay", ["vxlan", "wireguard"])
def test_the_overlay_comes_in(node: Node, overlay: Any) -> None:
    port = 5000
    nodes = [
        NodeNetwork(
            api_version="edgeagent/v1",
            metadata=ObjectMeta(name=name),
            spec=NodeNetworkSpec(address=address, overlay=overlay, port=port),
        )
        for name, address in (("a", node.host.ip4), ("b", node.lab.lan4))
    ]
    made = Firewall(CONFIG, node.state_dir / "other.json").reconcile(
        NetworkState(node="a", firewall=firewall({"ports": [1]}), nodes=nodes)
    )
    node.host.nft(_script(made.fragments[KEY]))
    assert reached(node, (port, "UDP")) == [True, overlay == "wireguard"]
    assert reached(node, (53, "UDP")) == [False, False]


def _script(fragment: Any) -> str:
    """The fragment alone in the table."""
    lines = [f"add table inet {TABLE}", f"add set inet {TABLE} pod_links {{ type ifname; }}"]
    lines += [f"add counter inet {TABLE} {name}" for name in fragment.counters]
    for name, declared in fragment.sets.items():
        held = fragment.elements.get(name, {})
        elements = f" elements = {{ {', '.join(held)} }};" if held else ""
        lines.append(f"add set inet {TABLE} {name} {{ {declared}{elements} }}")
    for name, chain in fragment.chains.items():
        lines.append(f"add chain inet {TABLE} {name} {{ {chain.hook} }}")
        lines += [f"add rule inet {TABLE} {name} {rule_}" for rule_ in chain.rules]
    return "\n".join(lines) + "\n"


# The dead man's switch


class World:
    """A firewall with a clock, and restarts of its process."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.file = folder / "firewall.json"
        self.restart()

    def restart(self) -> None:
        """A new process."""
        self.made = Firewall(CONFIG, self.file, monotonic=lambda: self.now)

    def look(self, wanted: HostFirewall | None, **more: Any) -> tuple[bool | int, list[str], float]:
        """The first port that is allowed (False without a firewall), problems, and when to call again."""
        report = self.made.reconcile(state(wanted, **more))
        return allowed(report.fragments), [one.reason for one in report.problems], report.retry_after


def allowed(fragments: Any) -> bool | int:
    if not fragments:
        return False
    last = fragments[KEY].chains["host_input"].rules[-2]
    return int(last.split("{ ")[1].split(" }")[0])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


ONE, TWO = firewall({"ports": [1]}), firewall({"ports": [2]})


def test_it_is_accepted_where_the_broker_is_still_reached(world: World) -> None:
    assert world.look(ONE) == (1, [], 60)
    world.now = 59
    assert world.look(ONE, connected=False) == (1, [], 1)
    world.now = 60
    assert world.look(ONE) == (1, [], 0)
    world.now = 100
    assert world.look(ONE, connected=False) == (1, [], 0)
    world.restart()
    assert world.look(ONE, connected=False) == (1, [], 0)


def test_it_is_taken_back_where_the_broker_is_lost_and_not_tried_until_it_changes(world: World) -> None:
    world.look(ONE)
    world.now = 60
    assert world.look(ONE, connected=False) == (False, ["RolledBack"], 0)
    world.now = 1000
    assert world.look(ONE) == (False, ["RolledBack"], 0)
    assert world.look(TWO)[0] == 2
    world.now = 1060
    assert world.look(TWO) == (2, [], 0)
    assert world.look(ONE) == (1, [], 60)
    world.now = 1120
    assert world.look(ONE, connected=False) == (2, ["RolledBack"], 0)


def test_a_change_waits_for_the_broker(world: World) -> None:
    assert world.look(ONE, connected=False) == (False, ["Pending"], 0)
    assert world.look(ONE) == (1, [], 60)
    world.now = 60
    world.look(ONE)
    assert world.look(TWO, connected=False) == (1, ["Pending"], 0)


def test_without_a_broker_there_is_nothing_to_lose(world: World) -> None:
    assert world.look(ONE, connected=False, brokers=()) == (1, [], 0)
    world.restart()
    assert world.look(ONE, connected=False) == (1, [], 0)


def test_a_restart_in_a_trial_begins_with_what_was_accepted(world: World) -> None:
    world.look(ONE)
    world.now = 60
    world.look(ONE)
    world.look(TWO)
    for _ in range(MAX_TRIALS - 1):
        world.restart()
        assert world.look(TWO, connected=False) == (1, ["Pending"], 0)
        assert world.look(TWO) == (2, [], 60)
    world.restart()
    assert world.look(TWO) == (1, ["RolledBack"], 0)
    world.restart()
    assert world.look(TWO) == (1, ["RolledBack"], 0)


def test_back_to_what_was_accepted_needs_no_trial(world: World) -> None:
    world.look(ONE)
    world.now = 60
    world.look(ONE)
    world.look(TWO)
    assert world.look(ONE, connected=False) == (1, [], 0)


def test_a_bad_one_is_reported_and_the_one_before_stays(world: World) -> None:
    world.look(ONE)
    world.now = 60
    world.look(ONE)
    for bad in (
        firewall({"ports": ["9-3"]}),
        firewall({"sources": [{"cidr": "nowhere"}]}),
        firewall({"interfaces": ['lo" accept; drop']}),
        firewall({"protocol": "ICMP", "ports": [1]}),
    ):
        assert world.look(bad) == (1, ["InvalidObject"], 0)


def test_no_firewall_is_in_force_at_once(world: World) -> None:
    world.look(ONE)
    assert world.look(None, connected=False) == (False, [], 0)
    world.restart()
    assert world.look(ONE, connected=False) == (False, ["Pending"], 0)


@pytest.mark.parametrize("content", ["", "{", "[]", pytest.param('{"x":' + "[" * 100_000, id="deep")])
def test_a_file_that_is_none_is_set_aside_and_told(world: World, content: str) -> None:
    world.file.write_text(content)
    world.restart()
    assert world.look(ONE) == (1, ["FirewallUnreadable"], 60)
    assert world.file.with_name("firewall.json.corrupt").exists()


def test_what_cannot_be_kept_does_not_come_into_force(world: World) -> None:
    world.file.with_name(".firewall.json.partial").mkdir()
    found = world.look(ONE)
    assert found[:2] == (False, ["NetworkFailed"])
    assert found[2] > 0
    world.file.with_name(".firewall.json.partial").rmdir()
    assert world.look(ONE) == (1, [], 60)


def test_unchanged_it_is_the_very_same_fragment(world: World) -> None:
    first = world.made.reconcile(state(ONE)).fragments[KEY]
    assert world.made.reconcile(state(ONE)).fragments[KEY] is first
    assert world.made.reconcile(state(firewall({"ports": [1]}))).fragments[KEY] is first


class DeadMan(RuleBasedStateMachine):
    """Whatever happens: what costs the broker is not in force for long after, and what was accepted is."""

    ports = st.integers(1, 3)

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self._folder.name))
        self.wanted: HostFirewall | None = None
        self.online = True
        self.since = 0.0
        self.cuts: set[int] = {3}
        self.look()

    def look(self) -> None:
        """Reconcile; firewalls with port 3 cost the broker as soon as they are in force."""
        self.found = self.world.look(self.wanted, connected=self.online)
        if self.found[0] in self.cuts:
            self.online = False
        if self.found[2]:
            assert 0 < self.found[2] <= 60

    @rule(port=ports)
    def change(self, port: int) -> None:
        """Another firewall is wanted."""
        self.wanted = firewall({"ports": [port]})
        self.look()

    @rule()
    def delete(self) -> None:
        """None is."""
        self.wanted = None
        self.look()

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.world.now += seconds
        self.look()

    @rule()
    def back(self) -> None:
        """The broker is reached again, unless the firewall keeps it away."""
        if self.found[0] not in self.cuts:
            self.online = True
            self.look()

    @rule()
    def restart(self) -> None:
        """The agent ends and starts."""
        self.world.restart()
        self.look()

    @invariant()
    def what_cuts_is_never_accepted(self) -> None:
        """A trial ends."""
        if self.found[0] in self.cuts:
            assert self.found[2] > 0, "in force for ever"

    def teardown(self) -> None:
        """Remove the file."""
        self._folder.cleanup()


TestDeadMan = DeadMan.TestCase
TestDeadMan.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
