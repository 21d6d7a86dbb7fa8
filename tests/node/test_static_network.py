"""Services, policies and what else is of the network in the node's own folder: no hub gives addresses."""

from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.service import Service
from edgeagent.node.static.kept import GoodFile, KeptFiles
from edgeagent.node.static.manifest import Origin, StaticObject, read_objects

ORIGIN = Origin("/etc/edgeagent/manifests/net.yaml", "n1", 86_400.0)


def read(*documents: dict[str, Any]) -> list[StaticObject]:
    """The objects of one file."""
    return read_objects(enumerate(documents, 1), ORIGIN)


def manifest(kind: str, version: str = "v1", namespace: str = "", **fields: Any) -> dict[str, Any]:
    """An object called ``web``."""
    meta = {"name": "web"} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": meta, **fields}


def service(**spec: Any) -> dict[str, Any]:
    """A Service of one port."""
    return manifest("Service", spec={"ports": [{"port": 80}], **spec})


POLICY = manifest("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": {}})
NAMESPACE = manifest("Namespace")
PEER = manifest("NodeNetwork", "edgeagent/v1", spec={"podCidrs": ["10.42.1.0/24"], "address": "192.0.2.1"})
FIREWALL = manifest("HostFirewall", "edgeagent/v1", spec={"allow": [{"name": "ssh", "ports": [22]}]})


def test_they_keep_their_names_and_are_the_same_objects_when_they_change() -> None:
    first, other = read(service(clusterIP="10.43.0.10"), POLICY)
    assert (first.metadata.namespace, first.metadata.name) == ("default", "web")
    assert (other.metadata.namespace, other.metadata.name) == ("default", "web")
    (changed,) = read(service(clusterIP="10.43.0.11"))
    assert changed.metadata.uid == first.metadata.uid != other.metadata.uid


def test_what_is_in_no_namespace_is_in_none() -> None:
    assert [one.metadata.namespace for one in read(NAMESPACE, PEER, FIREWALL)] == ["", "", ""]
    with pytest.raises(InvalidObjectError, match=r"document 1: metadata.namespace: a Namespace is in no"):
        read(manifest("Namespace", namespace="shop"))


def test_addresses_and_node_ports_are_the_manifests_own() -> None:
    with pytest.raises(
        InvalidObjectError, match=r"document 1: spec.clusterIP: required in the node's own folder"
    ):
        read(service())
    with pytest.raises(
        InvalidObjectError, match=r"spec.ports\[0\].nodePort: required in the node's own folder"
    ):
        read(service(clusterIP="10.43.0.10", type="NodePort"))
    (headless,) = read(service(clusterIP="None"))
    (named,) = read(manifest("Service", spec={"type": "ExternalName", "externalName": "db.example.org"}))
    assert isinstance(headless, Service)
    assert isinstance(named, Service)


def test_what_was_last_good_of_them_is_kept(tmp_path: Path) -> None:
    objects = read(service(clusterIP="10.43.0.10"), POLICY, NAMESPACE, PEER, FIREWALL)
    kept = KeptFiles(tmp_path / "static.json", node="n1", folder=tmp_path)
    kept.save({"net.yaml": GoodFile("d", objects)})
    again = KeptFiles(tmp_path / "static.json", node="n1", folder=tmp_path).load()
    assert again == {"net.yaml": GoodFile("d", objects)}
