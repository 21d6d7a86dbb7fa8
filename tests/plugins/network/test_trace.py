"""What ``trace`` tells is what the kernel does: over documented policies, and through Services."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.network import Backend, HostPort, NetworkPod, NetworkState
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.policy import NetworkPolicy
from edgeagent.api.objects.service import ServicePort
from edgeagent_network.ruleset import TABLE as RULES
from edgeagent_network.trace import Tracer
from tests.plugins.network.netkit import Node
from tests.plugins.network.servicemaking import backend, service
from tests.plugins.network.test_policies import TABLE
from tests.support.netlab import Lab
from tests.support.policylab import ConnectionOfVersion, PolicyLab, policy

ROWS = [
    (name, policies)
    for name, policies, _ in TABLE
    if name
    in (
        "default deny ingress",
        "egress rules without types isolate both ways",
        "default deny both",
        "the documentation's example",
    )
]
NAMED = [
    policy(
        podSelector={"matchLabels": {"role": "db"}},
        ingress=[
            {
                "from": [{"namespaceSelector": {"matchLabels": {"project": "myproject"}}}],
                "ports": [{"port": "redis"}, {"port": 5900, "endPort": 5999, "protocol": "UDP"}],
            }
        ],
    )
]


@pytest.fixture(scope="module")
def policy_lab() -> Iterator[PolicyLab]:
    with PolicyLab() as made:
        yield made


def traced(lab: PolicyLab, policies: list[dict[str, object]]) -> dict[ConnectionOfVersion, bool]:
    """Whether every node on the way says that it passes."""
    states = lab.states(policies)
    tracers = [
        Tracer(
            state,
            fragments,
            host.run,
            plan=lambda _: None,
            policies=made.compiled,
            host_firewall=lambda _: (True, ""),
        )
        for state, fragments, host, made in zip(
            states, lab.fragments, (lab.host, lab.other), lab.policies, strict=True
        )
    ]

    def passes(one: ConnectionOfVersion) -> bool:
        source, target, port, protocol, version = one
        nodes = tracers if "far" in (source, target) else tracers[:1]
        ends = lab.addresses[source][version], lab.addresses[target][version]
        lines = [node.trace(*ends, port, protocol) for node in nodes]  # type: ignore[arg-type]
        return all(told[-1].startswith("allowed") for told in lines)

    wanted = [(*one, version) for one in lab.connections() for version in (0, 1)]
    return {one: passes(one) for one in wanted}


@pytest.mark.parametrize(("name", "policies"), [*ROWS, ("ports by name and range", NAMED)])
def test_the_kernel_does_what_is_traced(
    policy_lab: PolicyLab, name: str, policies: list[dict[str, object]]
) -> None:
    policy_lab.apply(policies)
    found = traced(policy_lab, policies)
    assert len(set(found.values())) == 2, "a table in which nothing differs shows nothing"
    assert policy_lab.differences_by_version(found) == []


def test_there_are_the_documented_rows() -> None:
    assert len(ROWS) == 4


# The whole plugin


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(forwarding=False) as made:
        yield made


@pytest.fixture
def node(lab: Lab, tmp_path: Path) -> Iterator[Node]:
    made = Node(lab, lab.host, tmp_path)
    yield made
    lab.host.nft(f"add table inet {RULES}\ndelete table inet {RULES}\n")
    for uid in ("client", "web"):
        made.detach(uid)
    made.close()


def whole(node: Node, policies: list[dict[str, object]]) -> NetworkState:
    """A client and a web server with Services before it, in force."""
    ips = {uid: node.attach(uid).ips for uid in ("client", "web")}
    pods = [
        NetworkPod(uid=uid, namespace="default", name=uid, ips=ips[uid], labels={"app": uid}, ready=True)
        for uid in ips
    ]
    pods[1] = NetworkPod(
        uid="web", namespace="default", name="web", ips=ips["web"], labels={"app": "web"}, ready=True,
        host_ports=[HostPort(host_port=8080, container_port=80)],
    )  # fmt: skip
    backends = [backend(ips["web"][0]), backend(ips["web"][1]), Backend(ip="10.42.7.7", port=80, ready=False)]
    state = NetworkState(
        node="a",
        pods=pods,
        remote_pods=[NetworkPod(uid="far", namespace="other", name="far", ips=["10.42.7.7"], node="b")],
        services=[
            service("site", ["10.43.0.1", "fd43::1"], backends),
            service("empty", "10.43.0.2"),
            service(
                "outside",
                "10.43.0.3",
                backends,
                ports=[ServicePort(port=80, node_port=30080)],
                type="NodePort",
            ),
            service("nowhere", "None"),
        ],
        policies=[convert(one, NetworkPolicy) for one in policies],
    )
    assert [one for one in node.network.reconcile(state).problems if one.kind != "Pod"] == []
    return state


ALLOW_OTHERS = [
    policy(
        "shut",
        podSelector={"matchLabels": {"app": "web"}},
        ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    )
]


def test_through_a_service(node: Node) -> None:
    whole(node, [])
    node.lab.serve(node.space("web"), 80)
    for family, address in (("v4", "10.43.0.1"), ("v6", "fd43::1")):
        told = node.network.trace("default/client", address, 80, "TCP")
        assert any(line.startswith("Service default/site maps") for line in told), family
        assert told[-1] == "allowed"
        assert node.lab.probe(node.space("client"), address, 80, timeout=3)
    assert node.network.trace("default/client", "default/site", 80, "TCP")[-1] == "allowed"
    told = node.network.trace("default/client", "default/empty", 80, "TCP")
    assert told[-1] == "refused: Service default/empty has no endpoint"
    assert node.lab.probe(node.space("client"), "10.43.0.2", 80, timeout=3).kind == "refused"
    told = node.network.trace(node.lab.lan4, node.host.ip4, 30080, "TCP")
    assert any("node port 30080 of Service default/outside" in line for line in told)
    assert any("masquerade" in line for line in told)
    told = node.network.trace(node.lab.lan4, node.host.ip4, 8080, "TCP")
    assert any("host port 8080/TCP leads to pod default/web" in line for line in told)
    assert told[-1] == "allowed"


def test_a_policy_is_named_that_drops_and_that_allows(node: Node) -> None:
    whole(node, ALLOW_OTHERS)
    told = node.network.trace("default/client", "default/site", 80, "TCP")
    assert told[-1] == "dropped: no ingress rule of NetworkPolicy default/shut allows it"
    friend = [
        policy(
            "open",
            podSelector={"matchLabels": {"app": "web"}},
            ingress=[{"ports": [{"port": 1}]}, {"ports": [{"port": 80}]}],
        )
    ]
    whole(node, [*ALLOW_OTHERS, *friend])
    told = node.network.trace("default/client", "default/web", 80, "TCP")
    assert "NetworkPolicy default/open allows it by spec.ingress[1]" in told
    assert told[-1] == "allowed"


def test_out_of_the_cluster_and_to_other_nodes(node: Node) -> None:
    whole(node, [])
    told = node.network.trace("default/client", node.lab.lan4, 80, "TCP")
    assert "its source becomes this node's own address (masquerade)" in told
    assert told[-1] == "allowed"
    told = node.network.trace("default/client", "other/far", 80, "TCP")
    assert told[-1] == "allowed here; ingress policies are asked on node b"
    told = node.network.trace("default/client", node.host.ip4, 22, "TCP")
    assert any("for this node itself" in line for line in told)


@pytest.mark.parametrize(
    ("source", "target", "port", "said"),
    [
        ("default/nobody", "10.43.0.1", 80, "knows no pod default/nobody"),
        ("default/site", "10.43.0.1", 80, "knows no pod default/site"),
        ("nonsense", "10.43.0.1", 80, "'nonsense' is not an IP address"),
        ("fe80::1%eth0", "10.43.0.1", 80, "is not an IP address"),
        ("default/client", "default/nowhere", 80, "no cluster IP"),
        ("default/client", "10.43.0.1", 0, "ports are 1 to 65535"),
        ("fd42::9", "10.43.0.1", 80, "no address of one IP family"),
    ],
)
def test_what_cannot_be_traced(node: Node, source: str, target: str, port: int, said: str) -> None:
    whole(node, [])
    with pytest.raises(PermanentError, match=said):
        node.network.trace(source, target, port, "TCP")


def test_before_the_network_is_made_it_says_so(node: Node) -> None:
    with pytest.raises(TemporaryError, match="try again"):
        node.network.trace("10.42.0.9", "10.43.0.1", 80, "TCP")
    with pytest.raises(EdgeAgentError):
        node.network.show("services")


# What is shown


def test_services_with_their_hits(node: Node) -> None:
    whole(node, [])
    node.lab.serve(node.space("web"), 80)
    for address in ("10.43.0.1", "fd43::1", "10.43.0.3"):
        assert node.lab.probe(node.space("client"), address, 80, timeout=3)
    assert node.lab.probe(node.lab.lan, node.host.ip4, 30080, timeout=3)
    rows = {row["name"]: row for row in node.network.show("services")}
    assert rows["site"] == {
        "namespace": "default",
        "name": "site",
        "type": "ClusterIP",
        "cluster-ip": "10.43.0.1,fd43::1",
        "ports": "80/TCP",
        "endpoints": "1/2 IPv4, 1/1 IPv6",
        "hits": "2",
    }
    assert (rows["outside"]["ports"], rows["outside"]["hits"]) == ("80:30080/TCP", "2")
    assert (rows["empty"]["endpoints"], rows["nowhere"]["hits"]) == ("0/0", "0")


def test_policies_and_what_they_dropped(node: Node) -> None:
    state = whole(node, ALLOW_OTHERS)
    assert [row["drops"] for row in node.network.show("policies")] == ["0"]
    assert node.network.show("drops") == []
    for ip in state.pods[1].ips:
        assert not node.lab.probe(node.space("client"), ip, 80, timeout=0.2)
    (row,) = node.network.show("policies")
    assert (row["namespace"], row["name"], row["directions"]) == ("default", "shut", "ingress")
    assert row["pods"] == "web"
    assert int(row["drops"]) >= 2
    drops = node.network.show("drops")
    assert {row["source"] for row in drops} == {"default/client"}
    assert {row["target"] for row in drops} == {"default/web"}
    assert {row["target address"] for row in drops} == set(state.pods[1].ips)
    assert {row["port"] for row in drops} == {"80/TCP"}
    assert all(int(row["age"].removesuffix("s")) < 60 for row in drops)


def test_without_policies_nothing_was_dropped(node: Node) -> None:
    whole(node, [])
    assert node.network.show("drops") == []
    assert node.network.show("policies") == []
