"""Policies that hypothesis draws: what a plain model of the documentation says, the kernel must do."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.policyevaluator import Evaluator
from tests.support.policylab import PolicyLab, policy
from tests.support.policymodel import allowed

NAMES = st.sampled_from(["default", "myproject", "other"])
LABELS = {"role": ["db", "frontend", "client"], "tier": ["edge"], "project": ["myproject", "other"]}
CIDRS = {
    "10.244.0.0/24": ["10.244.0.10/31", "10.244.0.12/32", "10.244.0.128/25"],
    "10.244.0.12/32": [],
    "192.168.77.0/24": ["192.168.77.254/32"],
    "0.0.0.0/0": ["10.0.0.0/8", "192.168.77.254/32", "10.244.0.200/32"],
    "fd44::/64": ["fd44::10/127", "fd44::200/120"],
    "::/0": ["fd44::/16", "fd77::254/128"],
}


@st.composite
def drawn_expression(draw: st.DrawFn) -> dict[str, Any]:
    key = draw(st.sampled_from(["role", "tier", "project", "kubernetes.io/metadata.name", "absent"]))
    operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]))
    found: dict[str, Any] = {"key": key, "operator": operator}
    if operator in ("In", "NotIn"):
        values = LABELS.get(key, ["default", "myproject"])
        found["values"] = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))
    return found


@st.composite
def drawn_selector(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        key = draw(st.sampled_from(sorted(LABELS)))
        found["matchLabels"] = {key: draw(st.sampled_from(LABELS[key]))}
    if draw(st.integers(0, 3)) == 0:
        found["matchExpressions"] = [draw(drawn_expression())]
    return found


@st.composite
def drawn_peer(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["pods", "namespaces", "both", "block", "block"]))
    if kind == "block":
        cidr = draw(st.sampled_from(sorted(CIDRS)))
        holes = draw(st.lists(st.sampled_from(CIDRS[cidr]), max_size=2)) if CIDRS[cidr] else []
        return {"ipBlock": {"cidr": cidr, **({"except": holes} if holes else {})}}
    found = {}
    if kind != "namespaces":
        found["podSelector"] = draw(drawn_selector())
    if kind != "pods":
        found["namespaceSelector"] = draw(drawn_selector())
    return found


@st.composite
def drawn_port(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["protocol"] = draw(st.sampled_from(["TCP", "UDP"]))
    number = draw(st.sampled_from([None, 6379, 5978, 6000, "redis"]))
    if number is not None:
        found["port"] = number
    if isinstance(number, int) and draw(st.booleans()):
        found["endPort"] = draw(st.integers(number, 6400))
    return found


def drawn_rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    rule = st.fixed_dictionaries(
        {},
        optional={
            side: st.lists(drawn_peer(), max_size=3),
            "ports": st.lists(drawn_port(), max_size=3),
        },
    )
    return st.lists(rule, max_size=2)


drawn_spec = st.fixed_dictionaries(
    {"podSelector": drawn_selector()},
    optional={
        "ingress": drawn_rules("from"),
        "egress": drawn_rules("to"),
        "policyTypes": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
    },
)
drawn_policies = st.lists(st.tuples(NAMES, drawn_spec), min_size=1, max_size=4).map(
    lambda drawn: [policy(f"p{number}", space, **spec) for number, (space, spec) in enumerate(drawn)]
)


@pytest.fixture(scope="module")
def lab() -> Iterator[PolicyLab]:
    with PolicyLab() as made:
        yield made


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(manifests=drawn_policies)
def test_the_kernel_does_as_the_model_says(lab: PolicyLab, manifests: list[dict[str, Any]]) -> None:
    expected = {
        (*one, version): allowed(
            lab.world, manifests, lab.addresses[one[0]][version], lab.addresses[one[1]][version], *one[2:]
        )
        for one in lab.connections()
        for version in (0, 1)
    }
    lab.apply(manifests)
    assert lab.differences_by_version(expected) == []


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(manifests=drawn_policies, before=drawn_policies)
def test_the_fragments_say_as_the_model_says_whatever_was_before(
    lab: PolicyLab, manifests: list[dict[str, Any]], before: list[dict[str, Any]]
) -> None:
    lab.compute(before)
    lab.compute(manifests)
    nodes = [Evaluator(fragments) for fragments in lab.fragments]
    for source, target, port, protocol in lab.connections():
        if "host" not in (source, target):
            for ours, theirs in zip(lab.addresses[source], lab.addresses[target], strict=True):
                said = all(node.passes(ours, theirs, port, protocol) for node in nodes)
                assert said is allowed(lab.world, manifests, ours, theirs, port, protocol)
