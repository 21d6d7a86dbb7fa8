"""Bindings and ClusterTrust: what is taken, and what is refused with its place."""

from typing import Any

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.trust import ClusterTrust


def binding(kind: str = "RoleBinding", **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "ann"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}],
    } | fields  # fmt: skip


def trust(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "edgeagent/v1",
        "kind": "ClusterTrust",
        "metadata": {"name": "cluster"},
        "spec": spec,
    }


def test_what_kubernetes_writes_is_read() -> None:
    assert isinstance(decode_object(binding()), RoleBinding)
    assert isinstance(decode_object(binding("ClusterRoleBinding", subjects=[])), ClusterRoleBinding)
    bare = {"kind": "ClusterRole", "name": "admin"}
    found = decode_object(binding(roleRef=bare, subjects=[{"kind": "User", "name": "ann"}]))
    assert isinstance(found, RoleBinding)
    assert found.role_ref.name == "admin"
    assert isinstance(decode_object(trust(revokedOperators=["0a1b"])), ClusterTrust)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (binding(apiVersion="v1"), "apiVersion"),
        (binding(roleRef=None), "roleRef"),
        (binding(roleRef={"kind": "Role", "name": "view"}), "roleRef.kind"),
        (binding(roleRef={"kind": "ClusterRole", "name": "system:node"}), "roleRef.name"),
        (binding(roleRef={"kind": "ClusterRole", "name": "view", "apiGroup": "x"}), "roleRef.apiGroup"),
        (binding(subjects=[{"kind": "ServiceAccount", "name": "x"}]), "subjects[0].kind"),
        (binding(subjects=[{"kind": "User", "name": ""}]), "subjects[0].name"),
        (binding(subjects=[{"kind": "User", "name": "a b"}]), "subjects[0].name"),
        (binding(subjects=[{"kind": "User", "name": "a", "namespace": "x"}]), "subjects[0].namespace"),
        (binding(subjects=[{"kind": "User", "name": "a", "apiGroup": "x"}]), "subjects[0].apiGroup"),
        (binding(subjects=[{"kind": "User", "name": "a"}] * 1001), "subjects"),
        (binding(rules=[]), "rules"),
        (trust(revokedOperators=["XYZ"]), "spec.revokedOperators[0]"),
        (trust(revokedOperators=["a"] * 10_001), "spec.revokedOperators"),
        (trust() | {"metadata": {"name": "other"}}, "metadata.name"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(document: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidObjectError) as raised:
        decode_object(document)
    assert raised.value.path == path
