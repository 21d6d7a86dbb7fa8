"""Which pods are behind which Service: what an index finds bit by bit is what a whole look finds."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.service import EndpointSlice, Service, ServicePort, ServiceSpec
from edgeagent.cluster import endpointindex
from edgeagent.cluster.derived import PodFacts, endpoint_slices
from edgeagent.cluster.endpointindex import EndpointIndex, Key

NAMESPACES = ("blue", "green")
labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]))
keys = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(["x", "y", "z"]))
nodes = st.sampled_from(["n1", "n2"])


@st.composite
def pods(draw: st.DrawFn) -> PodFacts:
    """A pod as its node says."""
    namespace, name = draw(keys)
    return PodFacts(
        namespace=namespace,
        name=name,
        uid=draw(st.sampled_from(["u1", "u2"])),
        labels=draw(labels),
        node_name=draw(nodes),
        ready=draw(st.booleans()),
        ips=draw(st.lists(st.sampled_from(["10.42.0.2", "fd42::2"]), unique=True)),
    )


@st.composite
def services(draw: st.DrawFn) -> Service:
    """A Service that may select something."""
    namespace, name = draw(keys)
    return Service(
        api_version="v1",
        metadata=ObjectMeta(namespace=namespace, name=name, uid=f"{namespace}-{name}"),
        spec=ServiceSpec(selector=draw(labels), ports=[ServicePort(port=draw(st.sampled_from([80, 81])))]),
    )


changes = st.one_of(
    pods(),
    services(),
    st.tuples(st.just("no pod"), keys),
    st.tuples(st.just("no service"), keys),
    st.tuples(nodes, st.booleans()),
)


def whole(
    pods_: Mapping[Key, PodFacts], services_: Mapping[Key, Service], gone: set[str]
) -> dict[Key, list[EndpointSlice]]:
    """The slices of every Service that has any, by comparing every pod with every Service."""
    found = {
        key: list(
            endpoint_slices(one, (p for k, p in pods_.items() if k[0] == key[0]), lambda node: node in gone)
        )
        for key, one in services_.items()
        if one.spec.selector
    }
    return {key: slices for key, slices in found.items() if slices}


@given(st.lists(st.tuples(changes, st.booleans()), max_size=40))
def test_bit_by_bit_is_as_a_whole(steps: list[tuple[object, bool]]) -> None:
    index = EndpointIndex()
    pods_: dict[Key, PodFacts] = {}
    services_: dict[Key, Service] = {}
    gone: set[str] = set()
    found: dict[Key, list[EndpointSlice]] = {}
    for change, derive in steps:
        match change:
            case PodFacts():
                pods_[change.namespace, change.name] = change
                index.put_pod((change.namespace, change.name), change)
            case Service():
                key = change.metadata.namespace, change.metadata.name
                services_[key] = change
                index.put_service(key, change)
            case ("no pod", (str(namespace), str(name))):
                pods_.pop((namespace, name), None)
                index.put_pod((namespace, name), None)
            case ("no service", (str(namespace), str(name))):
                services_.pop((namespace, name), None)
                index.put_service((namespace, name), None)
            case (str(node), bool(away)):
                (gone.add if away else gone.discard)(node)
                index.set_gone(node, away)
        if derive:
            found |= index.derive()
            assert {key: one for key, one in found.items() if one} == whole(pods_, services_, gone)
    found |= index.derive()
    assert {key: one for key, one in found.items() if one} == whole(pods_, services_, gone)
    for node in ("n1", "n2"):
        assert set(index.pods_on(node)) == {key for key, pod in pods_.items() if pod.node_name == node}


def test_a_pod_concerns_the_services_that_select_it_before_or_after(monkeypatch: pytest.MonkeyPatch) -> None:
    index = EndpointIndex()
    for number in range(50):
        meta = ObjectMeta(namespace="blue", name=f"s{number}", uid=f"s{number}")
        spec = ServiceSpec(selector={"app": f"a{number}", "tier": "web"}, ports=[ServicePort(port=80)])
        index.put_service(("blue", f"s{number}"), Service(api_version="v1", metadata=meta, spec=spec))
        for copy in range(4):
            index.put_pod(("blue", f"p{number}-{copy}"), web(f"p{number}-{copy}", number))
    assert len(index.derive()) == 50
    compared: list[str] = []

    def counted(service: Service, members: list[PodFacts], gone: object) -> list[EndpointSlice]:
        compared.extend(pod.name for pod in members)
        return []

    monkeypatch.setattr(endpointindex, "endpoint_slices", counted)
    index.put_pod(("blue", "p7-1"), web("p7-1", 7, ready=True))
    assert list(index.derive()) == [("blue", "s7")]
    assert sorted(compared) == ["p7-0", "p7-1", "p7-2", "p7-3"]
    index.put_pod(("blue", "p7-1"), web("p7-1", 8, ready=True))
    assert set(index.derive()) == {("blue", "s7"), ("blue", "s8")}
    index.put_pod(("blue", "p7-1"), web("p7-1", 8, ready=True))
    assert index.derive() == {}


def web(name: str, app: int, *, ready: bool = False) -> PodFacts:
    """A pod of one of fifty apps."""
    return PodFacts(
        namespace="blue",
        name=name,
        uid=name,
        labels={"app": f"a{app}", "tier": "web"},
        node_name="n1",
        ready=ready,
        ips=["10.42.0.2"],
    )
