"""Policies that are no good, what drops leave behind, and what a change costs."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from edgeagent.api.network import NamedPort, NetworkPod, NetworkState, Problem
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.policy import NetworkPolicy
from edgeagent_network.policies import Policies
from edgeagent_network.policyrules import chain_name
from tests.support.netprobe import Probe, has_sctp
from tests.support.policyevaluator import Evaluator
from tests.support.policylab import PODS, Connection, PolicyLab, network_pod, policy

DB = {"matchLabels": {"role": "db"}}
FRONTEND = {"matchLabels": {"role": "frontend"}}
DENY = policy("deny", podSelector={}, policyTypes=["Ingress", "Egress"])


@pytest.fixture(scope="module")
def lab() -> Iterator[PolicyLab]:
    with PolicyLab() as made:
        yield made


def only(lab: PolicyLab, *allowed_to_db: str) -> dict[Connection, bool]:
    """What is expected where nobody but these reaches ``db``, on TCP 6379."""
    return {
        one: one[1] != "db" or "host" in one or (one[0] in allowed_to_db and one[2:] == (6379, "TCP"))
        for one in lab.connections()
    }


GOOD_RULE = {"from": [{"podSelector": FRONTEND}], "ports": [{"port": 6379}]}


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}, "spec.ingress[1].from[0].ipBlock.cidr"),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}}]},
            "spec.ingress[1].from[0].ipBlock.except[0]",
        ),
        ({"ports": [{"port": 6379, "endPort": 10}]}, "spec.ingress[1].ports[0].endPort"),
        ({"ports": [{"port": 70_000}]}, "spec.ingress[1].ports[0].port"),
        (
            {"from": [{"podSelector": {"matchLabels": {"a b": "c"}}}]},
            "spec.ingress[1].from[0].podSelector.matchLabels",
        ),
        ({"from": [{"podSelector": {}}, {}]}, "spec.ingress[1].from[1]"),
    ],
)
def test_a_bad_rule_allows_nothing_and_the_rest_of_its_policy_stands(
    lab: PolicyLab, bad: dict[str, Any], place: str
) -> None:
    problems = lab.apply([policy(podSelector=DB, ingress=[GOOD_RULE, bad])])
    [problem] = problems
    assert (problem.kind, problem.namespace, problem.name) == ("NetworkPolicy", "default", "p")
    assert problem.reason == "InvalidObject"
    assert place in problem.message
    assert lab.differences(only(lab, "web")) == []


def test_a_bad_selector_isolates_the_namespace_and_allows_nothing(lab: PolicyLab) -> None:
    bad = policy(podSelector={"matchLabels": {"role": "d b"}}, ingress=[{}])
    good = policy("good", podSelector=DB, ingress=[GOOD_RULE])
    [problem] = lab.apply([bad, good])
    assert "spec.podSelector.matchLabels.role" in problem.message
    expected = only(lab, "web") | {one: "host" in one for one in lab.connections() if one[1] == "web"}
    assert lab.differences(expected) == []


def test_a_policy_without_a_namespace_is_reported_and_the_others_stand(lab: PolicyLab) -> None:
    [problem] = lab.apply([policy("lost", "", podSelector={}), policy(podSelector=DB, ingress=[GOOD_RULE])])
    assert (problem.name, problem.reason) == ("lost", "InvalidObject")
    assert lab.differences(only(lab, "web")) == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"ingress": [{"ports": [{"port": "nope"}]}]},
            "spec.ingress[0].ports: no selected pod has a TCP port",
        ),
        (
            {"egress": [{}, {"to": [{"podSelector": FRONTEND}], "ports": [{"port": "redis"}]}]},
            "spec.egress[1].ports: no pod it may reach has a TCP port named 'redis'",
        ),
        (
            {"ingress": [{"ports": [{"port": "redis"}, {"port": "redis", "protocol": "SCTP"}]}]},
            "no selected pod has a SCTP port named 'redis'",
        ),
    ],
)
def test_a_port_by_a_name_that_nobody_has_is_reported(
    lab: PolicyLab, spec: dict[str, Any], said: str
) -> None:
    [problem] = lab.apply([policy(podSelector=DB, **spec)])
    assert (problem.name, problem.reason) == ("p", "NamedPortNotFound")
    assert said in problem.message


def test_a_policy_that_selects_no_pod_here_is_not_looked_at_for_names(lab: PolicyLab) -> None:
    assert (
        lab.apply([policy(namespace="empty", podSelector={}, ingress=[{"ports": [{"port": "nope"}]}])]) == []
    )
    assert lab.fragments == [{}, {}]


def drops(lab: PolicyLab, name: str) -> int:
    said = lab.host.run(
        ["nft", "list", "counter", "inet", "edgeagent", chain_name("default", name, "ingress")]
    )
    found = re.search(r"packets (\d+)", said)
    assert found is not None
    return int(found[1])


def test_drops_are_counted_for_each_policy_and_noted_by_address(lab: PolicyLab) -> None:
    open_port = policy("open", podSelector=DB, ingress=[{"ports": [{"port": 6379}]}])
    lab.apply([open_port, policy("deny", podSelector={})])
    assert lab.lab.probe(lab.lab.lan, "10.244.0.10", 6379)
    assert (drops(lab, "open"), drops(lab, "deny")) == (0, 0)
    wanted = [Probe(lab.lab.lan, address, 5978, "UDP") for address in ("10.244.0.10", "fd44::10")]
    assert not any(lab.lab.probes(wanted, 0.1))
    assert (drops(lab, "open"), drops(lab, "deny")) == (2, 2)
    assert not any(lab.lab.probes([Probe(lab.lab.lan, "10.244.0.11", 5978, "UDP")], 0.1))
    assert (drops(lab, "open"), drops(lab, "deny")) == (2, 3)
    noted = lab.host.run(["nft", "list", "set", "inet", "edgeagent", "dropped4"])
    assert re.search(rf"{lab.lab.lan4} \. 10\.244\.0\.10 \. udp \. 5978 .*counter packets 1 ", noted)
    noted = lab.host.run(["nft", "list", "set", "inet", "edgeagent", "dropped6"])
    assert re.search(rf"{lab.lab.lan6} \. fd44::10 \. udp \. 5978 .*counter packets 1 ", noted)


def test_counts_stay_while_policies_and_pods_change(lab: PolicyLab) -> None:
    lab.apply([policy("deny", podSelector={})])
    assert not any(lab.lab.probes([Probe(lab.lab.lan, "10.244.0.10", 5978, "UDP")], 0.1))
    before = drops(lab, "deny")
    assert before > 0
    lab.apply([policy("deny", podSelector={}), policy("open", podSelector=DB, ingress=[GOOD_RULE])])
    assert drops(lab, "deny") == before


def test_drops_are_logged_on_request() -> None:
    with PolicyLab(log_group=77) as lab:
        lab.apply([DENY])
        rules = lab.host.run(["nft", "list", "chain", "inet", "edgeagent", "policy_drop"])
        assert 'log prefix "edgeagent: policy " group 77' in rules
        assert not any(lab.lab.probes([Probe(lab.lab.lan, "10.244.0.10", 6379)], 0.1))


def test_what_is_established_goes_on_and_answers_come_back(lab: PolicyLab) -> None:
    lab.apply([])
    lan = lab.lab.lan

    def connect() -> socket.socket:
        made = socket.create_connection(("10.244.0.10", 6379), timeout=5)
        assert made.recv(100).endswith(b"\n")
        return made

    with lab.lab.inside(lan, connect) as opened:
        lab.apply([DENY])
        assert not lab.lab.probe(lan, "10.244.0.10", 6379, timeout=0.15)
        opened.sendall(b"still there")
        assert opened.recv(100) == b"still there"


def test_a_pod_reaches_itself_and_its_node_whatever_its_policies_are(lab: PolicyLab) -> None:
    lab.apply([DENY])
    spaces = {name: f"{lab.lab.prefix}pod-{name}" for name in ("db", "web")}
    assert lab.lab.probe(spaces["db"], "10.244.0.10", 6379)
    assert lab.lab.probe(spaces["db"], "fd44::10", 5978, "UDP")
    assert lab.lab.probe(spaces["db"], lab.host.ip4, 6379)
    assert lab.lab.probe(lab.host.name, "fd44::10", 6379)
    assert not lab.lab.probe(spaces["web"], "10.244.0.10", 6379, timeout=0.15)


@pytest.mark.skipif(not has_sctp(), reason="this kernel has no SCTP")
def test_sctp(lab: PolicyLab) -> None:
    lab.serve(7000, 7001, protocol="SCTP")
    lab.apply([policy(podSelector=DB, ingress=[{"ports": [{"port": 7000, "protocol": "SCTP"}]}])])
    wanted = {
        one: one[1] != "db" or "host" in one or one[2] == 7000
        for one in lab.connections((7000, 7001), ("SCTP",))
    }
    assert lab.differences(wanted) == []


def test_a_rule_for_sctp_is_taken_by_nft_and_lets_nothing_else_pass(lab: PolicyLab) -> None:
    sctp_only = [
        {"ports": [{"protocol": "SCTP"}]},
        {"ports": [{"protocol": "SCTP", "port": 1, "endPort": 9}]},
    ]
    assert lab.apply([policy(podSelector=DB, ingress=sctp_only)]) == []
    assert lab.differences(only(lab)) == []


# Changes ------------------------------------------------------------------------------------------


class World:
    """A state that is changed a piece at a time, and what ``Policies`` makes of it."""

    def __init__(self, *manifests: dict[str, Any]) -> None:
        self.policies = Policies()
        self.state = NetworkState(
            node="a",
            pods=[network_pod(pod) for pod in PODS],
            namespaces={"default": {}, "other": {"a": "b"}},
            policies=[convert(manifest, NetworkPolicy) for manifest in manifests],
        )
        self.problems: list[Problem] = []
        self.fragments, self.problems = self.policies.fragments(self.state)

    def change(self, **fields: Any) -> set[str]:
        """The keys of the fragments that are new, others, or gone."""
        before = self.fragments
        self.state = msgspec.structs.replace(self.state, **fields)
        self.fragments, self.problems = self.policies.fragments(self.state)
        fresh, _ = Policies().fragments(self.state)
        assert self.fragments == fresh
        keys = before.keys() | self.fragments.keys()
        return {key for key in keys if before.get(key) is not self.fragments.get(key)}

    def may(self, source: str, target: str, port: int = 6379) -> bool:
        """Whether the fragments let a connection pass."""
        return Evaluator(self.fragments).passes(source, target, port, "TCP")


def pod(name: str, ip: str, **fields: Any) -> NetworkPod:
    return NetworkPod(uid=f"uid-{name}", namespace="default", name=name, ips=[ip], **fields)


MANY = [
    policy(f"p{number}", podSelector={}, ingress=[{"from": [{"podSelector": FRONTEND}]}])
    for number in range(20)
]


def test_nothing_changed_nothing_new() -> None:
    world = World(*MANY)
    assert len(world.fragments) == 20 + 1 + 1 + 1 + 2  # policies, their set, drops, isolation, pods
    assert world.change() == set()
    renewed = [msgspec.structs.replace(one) for one in world.state.pods]
    assert world.change(pods=renewed) == set()


def test_readiness_is_nothing_to_policies() -> None:
    world = World(*MANY)
    assert world.change(pods=[msgspec.structs.replace(one, ready=False) for one in world.state.pods]) == set()


def test_a_pod_that_comes_or_goes_is_its_own_fragment_alone() -> None:
    world = World(*MANY)
    pods = world.state.pods
    new = pod("new", "10.244.0.50", labels={"role": "frontend"})
    assert world.change(pods=[*pods, new]) == {"policies of pod uid-new"}
    elements = world.fragments["policies of pod uid-new"].elements
    assert len(elements) == 1 + 1  # its isolation, and the set that all rules ask
    assert world.may("10.244.0.50", "10.244.0.10")
    assert world.change(pods=pods) == {"policies of pod uid-new"}


def test_a_policy_that_changes_touches_what_it_speaks_of() -> None:
    world = World(*MANY)

    def with_p3(**rule: Any) -> list[NetworkPolicy]:
        changed = convert(policy("p3", podSelector={}, ingress=[rule]), NetworkPolicy)
        return [changed if one.metadata.name == "p3" else one for one in world.state.policies]

    to_db = [{"podSelector": DB}]
    before = world.state.policies
    changed = world.change(policies=with_p3(**{"from": to_db}))
    [made] = [key for key in changed if key.startswith("policy set ")]
    assert changed == {"policy default/p3", made, "policies of pod uid-db"}
    changed = world.change(policies=with_p3(**{"from": to_db, "ports": [{"port": 1}]}))
    assert changed == {"policy default/p3"}
    assert world.change(policies=before) == {"policy default/p3", made, "policies of pod uid-db"}
    assert made not in world.fragments


def test_a_policy_that_nobody_here_needs_any_more_is_gone() -> None:
    world = World(policy(podSelector=DB, ingress=[{"from": [{"namespaceSelector": {}}]}]))
    rest = [one for one in world.state.pods if one.name != "db"]
    world.change(pods=rest)
    assert world.fragments == {}
    world.change(pods=world.state.pods, remote_pods=[network_pod(PODS[0])])
    assert world.fragments == {}


def test_labels_of_a_namespace_change() -> None:
    selector = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    world = World(policy(podSelector=DB, ingress=[{"from": [selector]}]))
    assert world.may("10.244.0.13", "10.244.0.10")
    assert world.change(namespaces={"default": {}, "other": {}}) == {"policies of pod uid-alien"}
    assert not world.may("10.244.0.13", "10.244.0.10")
    assert world.change(namespaces={"default": {"a": "b"}}) == {
        "policies of pod uid-db",
        "policies of pod uid-web",
    }
    assert world.may("10.244.0.11", "10.244.0.10")


def test_labels_of_a_pod_change() -> None:
    world = World(policy(podSelector=DB, ingress=[{"from": [{"podSelector": FRONTEND}]}]))
    assert world.may("10.244.0.11", "10.244.0.10")
    assert not world.may("10.244.0.10", "10.244.0.10")
    swapped = {"db": "frontend", "web": "db"}
    pods = [
        msgspec.structs.replace(one, labels={"role": swapped.get(one.name, "client")})
        for one in world.state.pods
    ]
    world.change(pods=pods)
    assert world.may("10.244.0.10", "10.244.0.11")
    assert not world.may("10.244.0.13", "10.244.0.11")
    assert world.may("10.244.0.13", "10.244.0.10")


def test_a_pod_moves_to_another_node() -> None:
    world = World(DENY)
    here, moved = world.state.pods[1:], [world.state.pods[0]]
    world.change(pods=here, remote_pods=moved)
    assert "policies of pod uid-db" not in world.fragments
    world.change(pods=[*here, *moved], remote_pods=[])
    assert not world.may("10.244.0.13", "10.244.0.10")


def test_pods_on_the_hosts_network_are_neither_isolated_nor_peers() -> None:
    world = World(policy(podSelector={}, ingress=[{"from": [{"podSelector": {}}]}]))
    on_host = pod("agent", "192.168.77.1", host_network=True)
    assert world.change(pods=[*world.state.pods, on_host]) == set()
    assert world.may("10.244.0.13", "192.168.77.1")
    assert not world.may("192.168.77.1", "10.244.0.10")


def test_of_two_pods_with_one_address_one_has_it() -> None:
    world = World(policy(podSelector=DB, ingress=[{"from": [{"podSelector": FRONTEND}]}]))
    stale = pod("stale", "10.244.0.12", labels={"role": "frontend"})
    world.change(remote_pods=[stale])
    assert not world.may("10.244.0.12", "10.244.0.10"), "the local pod has it, and is no frontend"
    world.change(pods=[one for one in world.state.pods if one.name != "mine"])
    assert world.may("10.244.0.12", "10.244.0.10")
    ending = pod("ending", "10.244.0.12", terminating=True)
    world.change(pods=[*world.state.pods, ending])
    assert world.may("10.244.0.12", "10.244.0.10"), "one that is ending has it last"


@pytest.mark.parametrize("bad", ["10.244.0.300", "fe80::1%eth0", "1.2.3.4 } ; flush ruleset", ""])
def test_an_address_that_is_none_is_reported(bad: str) -> None:
    world = World(DENY)
    world.change(pods=[*world.state.pods, pod("odd", bad, labels={"role": "db"})])
    [problem] = world.problems
    assert (problem.kind, problem.name, problem.reason) == ("Pod", "odd", "InvalidAddress")
    assert "policies of pod uid-odd" not in world.fragments


def test_ports_by_name_follow_the_pods() -> None:
    by_name = policy(podSelector={}, ingress=[{"ports": [{"port": "web"}]}])
    world = World(by_name)
    assert [one.reason for one in world.problems] == ["NamedPortNotFound"]
    named = pod("named", "10.244.0.60", named_ports=[NamedPort(name="web", port=8080)])
    world.change(pods=[*world.state.pods, named])
    assert world.problems == []
    assert world.may("10.244.0.13", "10.244.0.60", 8080)
    assert not world.may("10.244.0.13", "10.244.0.60", 8081)
    moved = msgspec.structs.replace(named, named_ports=[NamedPort(name="web", port=8081)])
    world.change(pods=[*world.state.pods[:-1], moved])
    assert world.may("10.244.0.13", "10.244.0.60", 8081)
    world.change(pods=world.state.pods[:-1])
    assert [one.reason for one in world.problems] == ["NamedPortNotFound"]


def test_more_policies_than_one_rule_has_room_for_counters(lab: PolicyLab) -> None:
    many = [policy(f"p{number}", podSelector=DB) for number in range(150)]
    lab.apply([*many, policy("open", podSelector=DB, ingress=[GOOD_RULE])])
    assert lab.differences(only(lab, "web")) == []
    assert drops(lab, "p0") == drops(lab, "p149") > 0
