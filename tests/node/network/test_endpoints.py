"""Which backends a Service has: https://kubernetes.io/docs/concepts/services-networking/service/."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.network import Backend
from edgeagent.api.objects.service import HEADLESS, EndpointPort, ServicePort
from edgeagent.node.network.endpoints import ELSEWHERE, Endpoints
from tests.node.network.objects import endpoint, local, pod, service, slice_of

HTTP = ServicePort(port=80, target_port=8080)
WEB = {"app": "web"}


def test_a_service_leads_to_the_ready_pods_that_it_selects_in_its_namespace() -> None:
    pods = [
        local(pod("a", {"app": "web", "tier": "front"}), "10.0.0.2"),
        local(pod("b", WEB), "10.0.0.3", ready=False),
        local(pod("c", {"app": "other"}), "10.0.0.4"),
        local(msgspec.structs.replace(pod("d", WEB), metadata=pod("d", WEB).metadata.__class__(
            name="d", namespace="elsewhere", uid="u-d", labels=WEB)), "10.0.0.5"),
    ]  # fmt: skip
    (found,) = Endpoints("n1").find([service("web", WEB, HTTP)], pods, [])
    assert found.backends == {
        "": [
            Backend(ip="10.0.0.2", port=8080),
            Backend(ip="10.0.0.3", port=8080, ready=False, serving=False),
        ]
    }


def test_a_named_target_port_is_each_pods_own() -> None:
    pods = [
        local(pod("a", WEB, {"name": "http", "containerPort": 8080}), "10.0.0.2"),
        local(pod("b", WEB, {"name": "http", "containerPort": 9090}), "10.0.0.3"),
        local(pod("c", WEB, {"name": "http", "containerPort": 53, "protocol": "UDP"}), "10.0.0.4"),
    ]
    (found,) = Endpoints("n1").find(
        [service("web", WEB, ServicePort(port=80, target_port="http"), name_of("q"))], pods, []
    )
    assert [(one.ip, one.port) for one in found.backends[""]] == [("10.0.0.2", 8080), ("10.0.0.3", 9090)]
    assert [one.port for one in found.backends["q"]] == [443, 443, 443]


def name_of(name: str) -> ServicePort:
    """A named port that leads to its own number."""
    return ServicePort(port=443, name=name)


def test_what_a_node_knows_of_its_own_pods_goes_before_what_slices_say_of_them() -> None:
    old = slice_of("web", [EndpointPort(port=8080)], endpoint("10.0.0.2", "n1"), endpoint("10.1.0.2", "n2"))
    pods = [local(pod("a", WEB), "10.0.0.2", ready=False)]
    (found,) = Endpoints("n1").find([service("web", WEB, HTTP)], pods, [old])
    assert [(one.ip, one.node, one.ready) for one in found.backends[""]] == [
        ("10.0.0.2", "", False),
        ("10.1.0.2", "n2", True),
    ]


def test_a_service_without_selector_has_what_its_slices_say() -> None:
    said = slice_of(
        "db",
        [EndpointPort(port=5432)],
        endpoint("192.0.2.1"),
        endpoint("10.0.0.9", "n1", ready=False, serving=True, terminating=True),
    )
    (found,) = Endpoints("n1").find([service("db", {}, ServicePort(port=5432))], [], [said])
    assert found.backends[""] == [
        Backend(ip="10.0.0.9", port=5432, ready=False, serving=True, terminating=True),
        Backend(ip="192.0.2.1", port=5432, node=ELSEWHERE),
    ]


def test_who_is_not_ready_is_told_as_ready_where_the_service_publishes_such() -> None:
    early = service("web", WEB, HTTP, publish_not_ready_addresses=True)
    (found,) = Endpoints("n1").find([early], [local(pod("a", WEB), "10.0.0.2", ready=False)], [])
    assert found.backends[""] == [Backend(ip="10.0.0.2", port=8080, ready=True, serving=False)]


def test_a_headless_service_without_ports_has_its_pods_for_their_names() -> None:
    named = pod("a", WEB, hostname="first", subdomain="web")
    (found,) = Endpoints("n1").find(
        [service("web", WEB, cluster_ip=HEADLESS)], [local(named, "10.0.0.2", "fd00::2")], []
    )
    assert [(one.ip, one.hostname) for one in found.backends[""]] == [
        ("10.0.0.2", "first"),
        ("fd00::2", "first"),
    ]


def test_what_did_not_change_is_the_same_object() -> None:
    endpoints = Endpoints("n1")
    services = [service("web", WEB, HTTP), service("db", {"app": "db"}, HTTP)]
    pods = [local(pod("a", WEB), "10.0.0.2"), local(pod("b", {"app": "db"}), "10.0.0.3")]
    first = endpoints.find(services, pods, [])
    assert all(a is b for a, b in zip(first, endpoints.find(services, list(pods), []), strict=True))
    changed = endpoints.find(services, [pods[0], local(pod("b", {"app": "db"}), "10.0.0.4")], [])
    assert changed[0] is first[0]
    assert changed[1].backends[""][0].ip == "10.0.0.4"
    assert endpoints.find(services[:1], pods, []) == first[:1]


APPS = ("web", "db")
SERVICES = [service(app, {"app": app}, HTTP) for app in APPS] + [service("db", {}, HTTP)]
PODS = [
    local(pod(name, {"app": app}), f"10.0.0.{number}{ready:d}", ready=ready)
    for number, name in enumerate("abc")
    for app in APPS
    for ready in (False, True)
]
SLICES = [
    slice_of(owner, [EndpointPort(port=8080)], endpoint(f"10.1.{number}.{last}", "n2"))
    for number, owner in enumerate((*APPS, *APPS, "nobody"))
    for last in range(2)
]
drawn_state = st.fixed_dictionaries(
    {
        "services": st.lists(st.sampled_from(SERVICES), unique_by=lambda one: one.metadata.uid),
        "pods": st.lists(st.sampled_from(PODS), unique_by=lambda one: one.told.uid),
        "slices": st.lists(st.sampled_from(SLICES), unique_by=id),
    }
)


@settings(max_examples=300, deadline=None)
@given(first=drawn_state, changes=st.lists(drawn_state.flatmap(lambda one: st.sampled_from(sorted(one)).map(
    lambda key: {key: one[key]})), max_size=5))  # fmt: skip
def test_bit_by_bit_is_as_a_whole(first: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    endpoints = Endpoints("n1")
    now = {"services": SERVICES, **first}
    for change in [{}, {"services": SERVICES}, *changes]:
        now |= change
        assert endpoints.find(**now) == Endpoints("n1").find(**now)


def test_a_change_looks_at_no_service_that_it_does_not_concern() -> None:
    endpoints = Endpoints("n1")
    services = [service(f"s{number}", {"app": f"s{number}"}, HTTP) for number in range(200)]
    slices = [
        slice_of(f"s{number}", [EndpointPort(port=8080)], endpoint("10.1.0.2", "n2")) for number in range(200)
    ]
    first = endpoints.find(services, [], slices)
    other = slice_of("s7", [EndpointPort(port=8080)], endpoint("10.1.0.3", "n2"))
    mine = local(pod("a", {"app": "s9"}), "10.0.0.2")
    found = endpoints.find(services, [mine], [other if piece is slices[7] else piece for piece in slices])
    assert [place for place in range(200) if found[place] is not first[place]] == [7, 9]
    assert [one.ip for one in found[7].backends[""]] == ["10.1.0.3"]
    assert [one.ip for one in found[9].backends[""]] == ["10.0.0.2", "10.1.0.2"]
