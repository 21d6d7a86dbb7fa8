"""The tables of Services and what else belongs to the network, as kubectl prints them."""

from typing import Any

from edgeagent.api.objects.decode import KubernetesObject, decode_object
from edgeagent.api.objects.policy import NetworkPolicy
from edgeagent.cli.networkcells import selector_text
from edgeagent.cli.output import Table, resource_of
from edgeagent.cli.resources import find_resource

NOW = 1_800_000_000.0
DISCOVERY = "discovery.k8s.io/v1"


def made(kind: str, name: str, version: str = "v1", **fields: Any) -> KubernetesObject:
    """An object that is a day old."""
    meta = {"name": name, "creationTimestamp": "2027-01-14T08:00:00Z"}
    return decode_object({"apiVersion": version, "kind": kind, "metadata": meta, **fields})


def rows(*items: KubernetesObject, wide: bool = False) -> list[str]:
    """Their table, with single spaces."""
    return [" ".join(line.split()) for line in Table(resource_of(items[0]), wide=wide).lines(items, NOW)]


def test_short_names() -> None:
    words = ("svc", "netpol", "ns", "hfw", "endpointslices")
    kinds = ["Service", "NetworkPolicy", "Namespace", "HostFirewall", "EndpointSlice"]
    assert [find_resource(word).kind for word in words] == kinds


def test_services() -> None:
    ports = [{"port": 80, "name": "a", "nodePort": 30080}, {"port": 53, "name": "b", "protocol": "UDP"}]
    spec = {
        "type": "NodePort",
        "clusterIP": "10.43.0.1",
        "selector": {"app": "web", "a": "b"},
        "ports": ports,
    }
    outside = made("Service", "db", spec={"type": "ExternalName", "externalName": "db.example.org"})
    assert rows(made("Service", "web", spec=spec), outside, wide=True) == [
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR",
        "web NodePort 10.43.0.1 <none> 80:30080/TCP,53/UDP 24h a=b,app=web",
        "db ExternalName <none> db.example.org <none> 24h <none>",
    ]
    assert rows(outside)[0] == "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"


def test_slices_show_their_first_endpoints() -> None:
    endpoints = [{"addresses": [f"10.42.0.{n}"]} for n in range(2, 7)]
    found = made(
        "EndpointSlice", "web-1", DISCOVERY, addressType="IPv4", endpoints=endpoints, ports=[{"port": 80}]
    )
    assert rows(found)[1] == "web-1 IPv4 80 10.42.0.2,10.42.0.3,10.42.0.4 + 2 more... 24h"


def test_the_others() -> None:
    network = {"podCidrs": ["10.42.0.0/24"], "address": "192.0.2.1"}
    fence = {"allow": [{"name": "ssh", "ports": [22]}]}
    assert rows(made("Namespace", "shop"))[1] == "shop Active 24h"
    assert rows(made("HostFirewall", "fence", "edgeagent/v1", spec=fence))[1] == "fence <all> ssh 24h"
    assert (
        rows(made("NodeNetwork", "n1", "edgeagent/v1", spec=network))[1] == "n1 10.42.0.0/24 vxlan 192.0.2.1"
    )


def test_selectors_are_written_as_kubectl_does() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "new", "operator": "Exists"},
        {"key": "zone", "operator": "NotIn", "values": ["c"]},
    ]
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": expressions}
    found = made("NetworkPolicy", "deny", "networking.k8s.io/v1", spec={"podSelector": selector})
    assert isinstance(found, NetworkPolicy)
    assert selector_text(found.spec.pod_selector) == "app=web,tier in (a,b),!old,new,zone notin (c)"
    everything = made("NetworkPolicy", "all", "networking.k8s.io/v1", spec={"podSelector": {}})
    assert rows(everything)[1] == "all <none> 24h"
