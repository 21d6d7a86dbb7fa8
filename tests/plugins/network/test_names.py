"""The cluster's zone file: every line is a record of an object that may have it, whatever objects say."""

import re
import string
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import Backend, NetworkPod, NetworkService, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.service import Service, ServicePort, ServiceSpec
from edgeagent_network.names import MAX_NAME, Names, domain_name
from tests.plugins.network.servicemaking import backend, service, state

HEAD = 4
"""Lines of the zone itself."""


def zone(*services: NetworkService) -> list[str]:
    """The records of these, as ``NAME KIND DATA`` without the cluster's domain."""
    text, problems = Names("cluster.local", "169.254.20.10").zone(state(*services))
    assert problems == []
    lines = [line.replace(".default.svc.cluster.local.", "") for line in text.splitlines()[HEAD:]]
    return [line.replace(" 5 IN ", " ") for line in lines]


def test_srv_records_only_of_named_ports() -> None:
    ports = [ServicePort(port=53, name="dns", protocol="UDP"), ServicePort(port=80)]
    assert zone(service("a", ["10.43.0.1", "fd43::1"], ports=ports)) == [
        "a A 10.43.0.1", "a AAAA fd43::1", "_dns._udp.a SRV 0 100 53 a",
    ]  # fmt: skip


def test_a_service_without_an_address_yet_has_no_record() -> None:
    assert zone(service("a", "", ports=[ServicePort(port=80, name="http")])) == []


def test_a_headless_service_without_a_ready_backend_has_no_name() -> None:
    assert zone(service("a", "None", [backend("10.42.0.1", ready=False)])) == []


def test_a_headless_service_needs_no_ports() -> None:
    assert zone(service("a", "None", [backend("10.42.0.1", 0)], ports=())) == [
        "a A 10.42.0.1", "10-42-0-1.a A 10.42.0.1",
    ]  # fmt: skip


def test_a_backend_of_two_ports_is_said_once() -> None:
    ports = [ServicePort(port=80, name="http"), ServicePort(port=81, name="more")]
    by_port = {
        "http": [backend("10.42.0.1", 8080, hostname="x")],
        "more": [backend("10.42.0.1", 8081, hostname="x")],
    }
    assert zone(service("a", "None", by_port, ports=ports)) == [
        "a A 10.42.0.1", "x.a A 10.42.0.1",
        "_http._tcp.a SRV 0 100 8080 x.a", "_more._tcp.a SRV 0 100 8081 x.a",
    ]  # fmt: skip


def test_addresses_have_the_names_of_cluster_ips_and_of_headless_endpoints() -> None:
    names = Names("cluster.local", "169.254.20.10")
    headless = [backend("10.42.0.1", hostname="x"), backend("10.42.0.2"), backend("fd42::3", ready=False)]
    both = [backend("10.42.0.1")]
    told = [service("a", ["10.43.0.1", "fd43::1"], both), service("b", "None", headless)]
    names.zone(state(*told, service("c", "None", both)))
    end = "default.svc.cluster.local."
    assert {name: [one.data for one in records] for name, records in names.pointers.items()} == {
        "1.0.43.10.in-addr.arpa.": [f"a.{end}"],
        "1." + "0." * 27 + "3.4.d.f.ip6.arpa.": [f"a.{end}"],
        "1.0.42.10.in-addr.arpa.": [f"x.b.{end}", f"10-42-0-1.c.{end}"],
        "2.0.42.10.in-addr.arpa.": [f"10-42-0-2.b.{end}"],
    }


def test_what_did_not_change_is_the_very_same_text() -> None:
    names = Names("cluster.local", "169.254.20.10")
    one, two = service("a", "10.43.0.1"), service("b", "10.43.0.2")
    first, _ = names.zone(state(one, two))
    again, _ = names.zone(state(one, two))
    assert again is first
    counted, _ = names.zone(state(service("a", "10.43.0.1", [backend("10.42.0.9")]), two))
    assert counted is first  # a backend behind a cluster IP is no name
    fewer, _ = names.zone(state(two))
    assert "10.43.0.1" not in fewer
    pointers = names.pointers
    names.zone(state(two, service("c", "", ports=())))
    assert names.pointers is pointers
    none, _ = names.zone(state())
    assert len(none.splitlines()) == HEAD
    assert names.zone(state())[0] is none


@pytest.mark.parametrize(
    "bad", ["", ".", "a..b", "a b", "-a", "a" * 64, "a." * 127 + "a", "a\n", "a;b", "*.a", "ä.b"]
)
def test_what_is_no_domain_name(bad: str) -> None:
    with pytest.raises(PermanentError, match="is not a domain name"):
        domain_name(bad)


def test_a_domain_name_may_end_in_a_dot_and_have_large_letters() -> None:
    assert domain_name("WWW.Example.com.") == "www.example.com."


# Whatever objects say

_NASTY = st.one_of(
    st.text(max_size=70),
    st.text(string.ascii_lowercase + '-. \n\t;"\\$@*_()', max_size=12),
    st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
)
_IPS = st.one_of(
    _NASTY, st.ip_addresses().map(str), st.sampled_from(["10.42.0.1", "fd42::1", "fe80::1%eth0\n", "::1"])
)
_BACKENDS = st.lists(
    st.builds(Backend, ip=_IPS, port=st.integers(0, 65535), ready=st.booleans(), hostname=_NASTY), max_size=3
)
_PORTS = st.builds(
    ServicePort, port=st.integers(1, 65535), name=_NASTY, protocol=st.sampled_from(["TCP", "UDP", "SCTP"])
)


@st.composite
def _services(draw: st.DrawFn) -> NetworkService:
    ports = draw(st.lists(_PORTS, max_size=2))
    ips = draw(st.one_of(st.just(["None"]), st.lists(_IPS, max_size=2)))
    spec = ServiceSpec(
        type=draw(st.sampled_from(["ClusterIP", "ExternalName", "NodePort"])),
        cluster_ip=ips[0] if ips else "",
        cluster_ips=ips,
        ports=ports,
        external_name=draw(_NASTY),
        publish_not_ready_addresses=draw(st.booleans()),
    )
    meta = ObjectMeta(name=draw(_NASTY), namespace=draw(_NASTY))
    return NetworkService(
        service=Service(api_version="v1", metadata=meta, spec=spec),
        backends={name: draw(_BACKENDS) for name in [port.name for port in ports] or [""]},
    )


_PODS = st.builds(
    NetworkPod,
    uid=st.uuids().map(str), namespace=_NASTY, name=_NASTY, ips=st.lists(_IPS, max_size=2),
)  # fmt: skip
_NAME = r"(?:[_a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+"
_LINES = re.compile(
    rf"(?P<name>{_NAME}) 5 IN "
    rf"(?:A (?P<a>\S+)|AAAA (?P<aaaa>\S+)|CNAME {_NAME}|SRV 0 \d+ \d+ {_NAME})"
)

_POINTER = re.compile(rf"[0-9a-f.]+\.(in-addr|ip6)\.arpa\. 5 IN PTR {_NAME}\n")


@given(st.lists(_services(), max_size=4), st.lists(_PODS, max_size=2))
def test_nothing_can_be_smuggled_into_the_zone(
    services: list[NetworkService], pods: list[NetworkPod]
) -> None:
    told = NetworkState(node="here", services=services, pods=pods)
    names = Names("cluster.local", "169.254.20.10")
    text, problems = names.zone(told)
    for name, pointers in names.pointers.items():
        assert all(_POINTER.fullmatch(pointer.line()) and pointer.name == name for pointer in pointers)
    assert {problem.kind for problem in problems} <= {"Service"}
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(set(lines))
    owners: dict[str, set[str]] = {}
    for line in lines[HEAD:]:
        found = _LINES.fullmatch(line)
        assert found is not None, line
        name = found["name"]
        assert len(name) <= MAX_NAME + 1
        assert name.endswith((".svc.cluster.local.", ".pod.cluster.local."))
        if found["a"] is not None:
            assert ip_address(found["a"]).version == 4
        if found["aaaa"] is not None:
            assert ip_address(found["aaaa"]).version == 6
        owners.setdefault(name, set()).add(line.split()[3])
    for kinds in owners.values():
        assert kinds == {"CNAME"} or "CNAME" not in kinds  # RFC 1034, section 3.6.2
