"""Which role gives which right, and where."""

import itertools

import pytest

from edgeagent.api.objects.rbac import ROLES, RoleName
from edgeagent.wire.authority import (
    NODE_METHODS,
    RESOURCES,
    ForbiddenError,
    allowed,
    require,
    role_allows,
)
from edgeagent.wire.top import TopPodsParams
from tests.support.operators import binding

VERBS = ("get", "list", "watch", "create", "patch", "delete")
EVERYTHING = [*RESOURCES.values(), *(one.resource for one in NODE_METHODS.values()), "pods/exec", "auditlogs"]


def may(role: RoleName) -> set[tuple[str, str]]:
    """All rights of a role."""
    return {(v, r) for v, r in itertools.product(VERBS, EVERYTHING) if role_allows(role, v, r)}


def test_each_role_has_what_the_one_before_has_and_more() -> None:
    assert may("viewer") < may("operator") < may("admin")
    assert may("admin") == set(itertools.product(VERBS, EVERYTHING))


@pytest.mark.parametrize(
    ("verb", "resource", "least"),
    [
        ("get", "pods", "viewer"),
        ("watch", "nodes", "viewer"),
        ("list", "rolebindings", "viewer"),
        ("get", "pods/log", "viewer"),
        ("get", "nodes/network", "viewer"),
        ("list", "secrets", "operator"),
        ("create", "pods", "operator"),
        ("delete", "pods", "operator"),
        ("patch", "configmaps", "operator"),
        ("create", "networkpolicies", "operator"),
        ("create", "pods/exec", "operator"),
        ("create", "pods/portforward", "operator"),
        ("create", "secrets", "admin"),
        ("create", "endpointslices", "admin"),
        ("create", "rolebindings", "admin"),
        ("patch", "clusterrolebindings", "admin"),
        ("create", "hostfirewalls", "admin"),
        ("create", "namespaces", "admin"),
        ("delete", "nodes", "admin"),
        ("create", "nodes/reboot", "admin"),
        ("get", "auditlogs", "admin"),
        ("dance", "unicorns", "admin"),
    ],
)
def test_the_least_role_that_gives_a_right(verb: str, resource: str, least: RoleName) -> None:
    order: list[RoleName] = ["viewer", "operator", "admin"]
    for role in order:
        assert role_allows(role, verb, resource) == (order.index(role) >= order.index(least))


def test_a_role_binding_counts_in_its_namespace_alone() -> None:
    bound = [binding("admin", "ann", namespace="shop")]
    assert allowed(bound, "ann", "delete", "secrets", "shop")
    for user, namespace in (("ann", "till"), ("ann", ""), ("ben", "shop"), ("", "shop")):
        assert not allowed(bound, user, "get", "pods", namespace)
    for params, may in ((TopPodsParams(namespace="shop"), True), (TopPodsParams(), False)):
        top = NODE_METHODS["toppods"]
        assert allowed(bound, "ann", top.verb, top.resource, *params.about()[:1]) == may


@pytest.mark.parametrize(
    "resource",
    ["nodes", "nodes/network", "nodes/metrics", "nodes/reboot", "namespaces", "clusterrolebindings"],
)
def test_a_role_binding_gives_nothing_of_what_is_in_no_namespace(resource: str) -> None:
    """Whoever asks for it may name a namespace all the same."""
    bound = [binding("admin", "ann", namespace="shop")]
    assert not allowed(bound, "ann", "get", resource, "shop")
    with pytest.raises(ForbiddenError, match=r"at the cluster scope: .* with a ClusterRoleBinding"):
        require(bound, "ann", "get", resource, "shop", "one")
    assert allowed([binding("viewer", "ann")], "ann", "get", "nodes", "shop")


def test_a_cluster_role_binding_counts_everywhere() -> None:
    bound = [binding("view", "ann", "ben")]
    assert allowed(bound, "ben", "get", "pods", "shop")
    assert allowed(bound, "ann", "get", "nodes")
    assert not allowed(bound, "ann", "create", "pods", "shop")


def test_kubernetes_names_are_the_same_roles() -> None:
    assert {ROLES[name] for name in ("view", "viewer")} == {"viewer"}
    for name, role in ROLES.items():
        assert allowed([binding(name, "ann")], "ann", "create", "pods", "x") == (role != "viewer")


def test_what_is_no_role_or_no_user_gives_nothing() -> None:
    for bound in (
        [], [binding("root", "ann")], [binding("admin", "ann", kind="Group")],
        [binding("admin", "ann", kind="ServiceAccount", namespace="shop")], [binding("admin")],
    ):  # fmt: skip
        assert not allowed(bound, "ann", "get", "pods", "shop")


def test_a_refusal_says_who_what_where_and_what_to_do() -> None:
    with pytest.raises(ForbiddenError) as raised:
        require([], "ann", "delete", "pods", "shop", "web")
    assert (raised.value.reason, str(raised.value)) == (
        "Forbidden",
        'pods "web" is forbidden: user "ann" cannot delete resource "pods" in namespace "shop":'
        " an admin can bind the role operator to ann with a RoleBinding in namespace shop",
    )
    with pytest.raises(
        ForbiddenError, match=r"nodes is forbidden: .* at the cluster scope: .* ClusterRoleBinding"
    ):
        require([binding("admin", "ann", namespace="shop")], "ann", "list", "nodes")
