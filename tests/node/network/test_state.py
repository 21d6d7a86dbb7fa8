"""What the network plugin is told of: pods, namespaces, policies, peers, the firewall."""

import msgspec

from edgeagent.api.network import HostPort, NamedPort
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import HostFirewall, HostFirewallSpec, PodAddress, PodAddressSpec
from edgeagent.api.objects.policy import Namespace
from edgeagent.node.network.localpods import LocalPods, Remembered
from edgeagent.node.network.state import StateBuilder, Uplinked
from tests.node.network.objects import local, pod, record, status


def test_a_pod_is_told_of_once_it_has_an_address_and_until_it_has_ended() -> None:
    pods = LocalPods()
    web = pod("web", {}, {"name": "http", "containerPort": 80})
    assert pods.look([(web, status())], {}) == []
    (found,) = pods.look([(web, status(ready=False))], {"u-web": ["10.0.0.2"]})
    assert (found.told.ips, found.told.ready) == (["10.0.0.2"], False)
    assert found.told.named_ports == [NamedPort(name="http", port=80)]
    assert pods.look([(web, status(phase="Succeeded"))], {"u-web": ["10.0.0.2"]}) == []


def test_a_pod_on_the_hosts_network_has_the_hosts_address_and_no_host_ports() -> None:
    port = {"containerPort": 80, "hostPort": 80}
    host = pod("host", {}, port, hostNetwork=True)
    (found,) = LocalPods().look([(host, status("192.0.2.7"))], {})
    assert (found.told.ips, found.told.host_network, found.told.host_ports) == (["192.0.2.7"], True, [])
    (own,) = LocalPods().look([(pod("own", {}, port), status())], {"u-own": ["10.0.0.2"]})
    assert own.told.host_ports == [HostPort(host_port=80, container_port=80)]


def test_a_pod_that_did_not_change_is_the_same_object() -> None:
    pods, web = LocalPods(), pod("web", {})
    (first,) = pods.look([(web, status())], {"u-web": ["10.0.0.2"]})
    (again,) = pods.look([(web, status())], {"u-web": ["10.0.0.2"]})
    assert again is first
    (other,) = pods.look([(web, status(ready=False))], {"u-web": ["10.0.0.2"]})
    assert other is not first


def test_what_is_remembered_of_a_pod_tells_all_that_the_pod_told() -> None:
    """Of one that was deleted, and of one whose object is merely not to be read."""
    ports = [{"name": "http", "containerPort": 80}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]
    web = pod("web", {"app": "web"}, *ports, hostname="web-0", subdomain="web")
    attached = {"u-web": ["10.0.0.2", "fd00::2"]}
    (before,) = LocalPods().look([(web, status())], attached)
    pods = LocalPods()
    (unread,) = pods.look([], attached, [Remembered(record(web), deleted=False)])
    assert unread == before
    (deleted,) = pods.look([], attached, [Remembered(record(web), deleted=True)])
    assert (deleted.hostname, deleted.subdomain) == ("web-0", "web")
    assert deleted.told == msgspec.structs.replace(before.told, terminating=True)
    (again,) = pods.look([], attached, [Remembered(record(web), deleted=True)])
    assert again is deleted
    assert pods.look([], {}, [Remembered(record(web), deleted=True)]) == []


def test_a_pod_that_is_replaced_is_told_of_beside_the_new_one_of_its_name() -> None:
    old = pod("web", {"app": "old"})
    new = pod("web", {"app": "new"})
    new = msgspec.structs.replace(new, metadata=msgspec.structs.replace(new.metadata, uid="u-new"))
    gone = Remembered(record(old), deleted=True)
    look = LocalPods().look
    found = look([(new, status(ready=False))], {"u-web": ["10.0.0.2"], "u-new": ["10.0.0.3"]}, [gone])
    assert [(one.told.uid, one.told.labels["app"], one.told.terminating) for one in found] == [
        ("u-new", "new", False),
        ("u-web", "old", True),
    ]


def test_a_deleted_pod_on_the_hosts_network_keeps_the_hosts_address() -> None:
    host = pod("host", {}, hostNetwork=True)
    (found,) = LocalPods().look([], {}, [Remembered(record(host, "192.0.2.7"), deleted=True)])
    assert (found.told.ips, found.told.ready, found.told.terminating) == (["192.0.2.7"], True, True)


def test_every_namespace_has_its_name_as_a_label() -> None:
    shop = Namespace(api_version="v1", metadata=ObjectMeta(name="shop", uid="n", labels={"team": "a"}))
    other = Namespace(api_version="v1", metadata=ObjectMeta(name="other", uid="o"))
    found = StateBuilder("n1").build([shop, other], [local(pod("web", {}), "10.0.0.2")], Uplinked())
    assert found.namespaces == {
        "shop": {"team": "a", "kubernetes.io/metadata.name": "shop"},
        "other": {"kubernetes.io/metadata.name": "other"},
    }


def test_pods_of_other_nodes_are_told_of_and_ones_own_are_not_taken_from_afar() -> None:
    def address(name: str, node: str) -> PodAddress:
        return PodAddress(
            api_version="edgeagent/v1",
            metadata=ObjectMeta(name=name, namespace="shop", uid=f"a-{name}", labels={"app": name}),
            spec=PodAddressSpec(node_name=node, ips=["10.1.0.2"], named_ports={"http/TCP": 80}),
        )

    builder, far, near = StateBuilder("n1"), address("far", "n2"), address("near", "n1")
    (found,) = builder.build([far, near], [], Uplinked()).remote_pods
    assert (found.name, found.node, found.labels) == ("far", "n2", {"app": "far"})
    assert found.named_ports == [NamedPort(name="http", port=80)]
    assert builder.build([far], [], Uplinked()).remote_pods[0] is found


def test_the_firewall_is_the_first_by_name_that_is_for_this_node() -> None:
    def firewall(name: str, *nodes: str) -> HostFirewall:
        return HostFirewall(
            api_version="edgeagent/v1",
            metadata=ObjectMeta(name=name, uid=name),
            spec=HostFirewallSpec(node_names=list(nodes)),
        )

    everyone, theirs, mine = firewall("z"), firewall("a", "n2"), firewall("m", "n1")
    state = StateBuilder("n1").build([everyone, theirs, mine], [], Uplinked(True, ["192.0.2.1:8883"]))
    assert state.firewall is mine
    assert (state.connected, state.broker_addresses) == (True, ["192.0.2.1:8883"])
    assert StateBuilder("n3").build([theirs], [], Uplinked()).firewall is None
