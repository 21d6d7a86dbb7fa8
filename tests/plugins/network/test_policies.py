"""Each policy of Kubernetes' documentation, probed between every pair of ends, before and after.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.policylab import PolicyLab, policy
from tests.support.policymodel import allowed

Rule = Callable[[str, str, int, str], bool]
"""Whether a connection is allowed: source, target, port, protocol."""

DB = {"matchLabels": {"role": "db"}}
FRONTEND = {"matchLabels": {"role": "frontend"}}
CLIENT = {"matchLabels": {"role": "client"}}
MYPROJECT = {"matchLabels": {"project": "myproject"}}
LAN4, LAN6 = "192.168.0.0/16", "fd77::/16"
TO_PODS: list[dict[str, Any]] = [{"to": [{"namespaceSelector": {}}]}]
IN_DEFAULT = ("db", "web")


@pytest.fixture(scope="module")
def lab() -> Iterator[PolicyLab]:
    with PolicyLab() as made:
        yield made


TABLE: list[tuple[str, list[dict[str, Any]], Rule]] = [
    (
        "default deny ingress",
        [policy(podSelector={}, policyTypes=["Ingress"])],
        lambda s, t, port, protocol: t not in IN_DEFAULT,
    ),
    ("ingress by default", [policy(podSelector={})], lambda s, t, port, protocol: t not in IN_DEFAULT),
    (
        "allow all ingress",
        [
            policy("deny", podSelector={}, policyTypes=["Ingress"]),
            policy("allow", podSelector={}, ingress=[{}], policyTypes=["Ingress"]),
        ],
        lambda s, t, port, protocol: True,
    ),
    (
        "default deny egress",
        [policy(podSelector={}, policyTypes=["Egress"])],
        lambda s, t, port, protocol: s not in IN_DEFAULT,
    ),
    (
        "allow all egress",
        [policy(podSelector={}, egress=[{}], policyTypes=["Egress"])],
        lambda s, t, port, protocol: True,
    ),
    (
        "egress rules without types isolate both ways",
        [policy(podSelector=DB, egress=[{}])],
        lambda s, t, port, protocol: t != "db",
    ),
    (
        "egress rules with type Ingress alone mean nothing",
        [policy(podSelector=DB, egress=[{"ports": [{"port": 1}]}], ingress=[{}], policyTypes=["Ingress"])],
        lambda s, t, port, protocol: True,
    ),
    (
        "default deny both",
        [policy(podSelector={}, policyTypes=["Ingress", "Egress"])],
        lambda s, t, port, protocol: s not in IN_DEFAULT and t not in IN_DEFAULT,
    ),
    (
        "the documentation's example",
        [
            policy(
                podSelector=DB,
                policyTypes=["Ingress", "Egress"],
                ingress=[
                    {
                        "from": [
                            {"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.1.0/24"]}},
                            {"ipBlock": {"cidr": "fd77::/64"}},
                            {"namespaceSelector": MYPROJECT},
                            {"podSelector": FRONTEND},
                        ],
                        "ports": [{"protocol": "TCP", "port": 6379}],
                    }
                ],
                egress=[
                    {
                        "to": [{"ipBlock": {"cidr": "10.244.0.0/24"}}, {"ipBlock": {"cidr": "fd44::/64"}}],
                        "ports": [{"protocol": "TCP", "port": 5978}],
                    }
                ],
            )
        ],
        lambda s, t, port, protocol: (
            (t != "db" or (s in ("lan", "mine", "far", "web") and (port, protocol) == (6379, "TCP")))
            and (s != "db" or (t in ("web", "mine", "alien", "far") and (port, protocol) == (5978, "TCP")))
        ),
    ),
    (
        "namespaceSelector and podSelector together",
        [
            policy(
                podSelector=DB, ingress=[{"from": [{"namespaceSelector": MYPROJECT, "podSelector": CLIENT}]}]
            )
        ],
        lambda s, t, port, protocol: t != "db" or s == "mine",
    ),
    (
        "namespaceSelector or podSelector",
        [
            policy(
                podSelector=DB,
                ingress=[{"from": [{"namespaceSelector": MYPROJECT}, {"podSelector": CLIENT}]}],
            )
        ],
        lambda s, t, port, protocol: t != "db" or s in ("mine", "far"),
    ),
    (
        "all namespaces",
        [policy(podSelector=DB, ingress=[{"from": [{"namespaceSelector": {}}]}])],
        lambda s, t, port, protocol: t != "db" or s != "lan",
    ),
    (
        "all pods of the own namespace",
        [policy(podSelector=DB, ingress=[{"from": [{"podSelector": {}}]}])],
        lambda s, t, port, protocol: t != "db" or s == "web",
    ),
    (
        "a namespace by its name, which no label of it says",
        [
            policy(
                podSelector=DB,
                ingress=[
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchExpressions": [
                                        {
                                            "key": "kubernetes.io/metadata.name",
                                            "operator": "In",
                                            "values": ["default", "other"],
                                        }
                                    ]
                                }
                            }
                        ]
                    }
                ],
            )
        ],
        lambda s, t, port, protocol: t != "db" or s in ("web", "alien"),
    ),
    (
        "ipBlock with exceptions",
        [
            policy(
                podSelector={},
                egress=[
                    {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.12/31", LAN4]}}]},
                    {"to": [{"ipBlock": {"cidr": "::/0", "except": ["fd44::12/127", LAN6]}}]},
                ],
                policyTypes=["Egress"],
            )
        ],
        lambda s, t, port, protocol: s not in IN_DEFAULT or t in ("db", "web", "far"),
    ),
    (
        "endPort",
        [policy(podSelector=DB, ingress=[{"ports": [{"port": 5979, "endPort": 6379}]}])],
        lambda s, t, port, protocol: t != "db" or (port, protocol) == (6379, "TCP"),
    ),
    (
        "overlapping ports",
        [
            policy(
                podSelector=DB,
                ingress=[
                    {
                        "ports": [
                            {"port": 5000, "endPort": 6000},
                            {"port": 5978},
                            {"port": 5900, "endPort": 6378},
                            {"port": 6379, "protocol": "UDP"},
                        ]
                    }
                ],
            )
        ],
        lambda s, t, port, protocol: t != "db" or (port, protocol) in ((5978, "TCP"), (6379, "UDP")),
    ),
    (
        "a protocol alone",
        [policy(podSelector=DB, ingress=[{"ports": [{"protocol": "UDP"}]}])],
        lambda s, t, port, protocol: t != "db" or protocol == "UDP",
    ),
    (
        "a protocol alone beside a port of it",
        [policy(podSelector=DB, ingress=[{"ports": [{"protocol": "UDP"}, {"port": 1, "protocol": "UDP"}]}])],
        lambda s, t, port, protocol: t != "db" or protocol == "UDP",
    ),
    (
        "the same selector in policies of two namespaces",
        [
            policy(podSelector=DB, ingress=[{"from": [{"podSelector": {}}]}]),
            policy(namespace="other", podSelector={}, ingress=[{"from": [{"podSelector": {}}]}]),
        ],
        lambda s, t, port, protocol: t not in ("db", "alien") or (s, t) == ("web", "db"),
    ),
    (
        "ports by the same name of the pods of two namespaces",
        [
            policy(podSelector={}, ingress=[{"ports": [{"port": "redis"}]}]),
            policy(namespace="myproject", podSelector={}, ingress=[{"ports": [{"port": "redis"}]}]),
        ],
        lambda s, t, port, protocol: (
            t not in ("db", "web", "mine", "far")
            or (t in ("db", "far") and (port, protocol) == (6379, "TCP"))
        ),
    ),
    (
        "ports by name, of the pods selected",
        [
            policy(
                podSelector={},
                ingress=[
                    {
                        "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "192.168.77.254/32"}}],
                        "ports": [{"port": "redis"}, {"port": "redis", "protocol": "UDP"}],
                    },
                    {"from": [{"ipBlock": {"cidr": "fd77::254/128"}}], "ports": [{"port": "redis"}]},
                    {
                        "from": [{"ipBlock": {"cidr": "fd77::254/128"}}],
                        "ports": [{"port": "redis", "protocol": "UDP"}],
                    },
                ],
            )
        ],
        lambda s, t, port, protocol: (
            t not in IN_DEFAULT
            or (
                t == "db" and s in ("web", "lan") and (port, protocol) in ((6379, "TCP"), (5978, "UDP"))
            )
        ),
    ),
    (
        "ports by name, of each pod that is reached",
        [
            policy(
                podSelector={"matchLabels": {"role": "frontend"}},
                egress=[{"to": [{"namespaceSelector": {}}], "ports": [{"port": "redis"}]}],
                policyTypes=["Egress"],
            )
        ],
        lambda s, t, port, protocol: (
            s != "web" or (t in ("db", "far") and (port, protocol) == (6379, "TCP"))
        ),
    ),
    (
        "ports by name, to everyone",
        [policy(podSelector=FRONTEND, egress=[{"ports": [{"port": "redis"}]}], policyTypes=["Egress"])],
        lambda s, t, port, protocol: (
            s != "web" or (t in ("db", "far") and (port, protocol) == (6379, "TCP"))
        ),
    ),
    (
        "policies add up",
        [
            policy("one", podSelector=DB, ingress=[{"from": [{"podSelector": FRONTEND}]}]),
            policy("two", podSelector={}, ingress=[{"ports": [{"port": 5978}]}]),
        ],
        lambda s, t, port, protocol: (
            t not in IN_DEFAULT or (t == "db" and s == "web") or (port, protocol) == (5978, "TCP")
        ),
    ),
    (
        "what may leave must be let in too",
        [
            policy("out", "other", podSelector={}, egress=TO_PODS, policyTypes=["Egress"]),
            policy("in", podSelector=DB, ingress=[{"from": [{"podSelector": {}}]}]),
        ],
        lambda s, t, port, protocol: (s != "alien" or t != "lan") and (t != "db" or s == "web"),
    ),
    (
        "expressions",
        [
            policy(
                podSelector={"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["db"]}]},
                ingress=[
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchExpressions": [{"key": "project", "operator": "Exists"}]
                                },
                                "podSelector": {
                                    "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]
                                },
                            }
                        ]
                    }
                ],
            )
        ],
        lambda s, t, port, protocol: t != "web" or s in ("mine", "far"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("manifests", "rule"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_documented_policy(lab: PolicyLab, manifests: list[dict[str, Any]], rule: Rule) -> None:
    everything = dict.fromkeys(lab.connections(), True)
    assert lab.apply([]) == []
    assert lab.fragments == [{}, {}]
    assert lab.differences(everything) == []
    expected = {one: "host" in one or rule(*one) for one in everything}
    problems = lab.apply(manifests)
    assert {one.reason for one in problems} <= {"NamedPortNotFound"}
    assert lab.differences(expected) == []
    for (source, target, port, protocol), wanted in expected.items():
        for ours, theirs in zip(lab.addresses[source], lab.addresses[target], strict=True):
            assert allowed(lab.world, manifests, ours, theirs, port, protocol) is wanted
