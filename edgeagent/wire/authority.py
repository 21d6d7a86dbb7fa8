"""Who may do what: the calls that operators make, the right that each needs, and which role gives it.

Hub and node judge by these same rules, each for itself: the hub by the bindings in its store, a node by those
that travelled in its signed index. May not import cryptography: who calls is shown in
``edgeagent.wire.operatorcalls``.
"""

from collections.abc import Iterable, Mapping

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.rbac import ROLES, ClusterRoleBinding, RoleBinding, RoleName
from edgeagent.wire.rpc import CallParams, LogsParams, NetworkParams, RebootParams
from edgeagent.wire.streamapi import EXEC, FOLLOW, PORT_FORWARD, ExecParams, FollowParams, PortForwardParams
from edgeagent.wire.top import TopParams, TopPodsParams

USER_PREFIX = "user:"
"""What the common name of an operator's certificate begins with, and no node's name can."""
HUB_TARGET = "hub"
"""The target of calls that the hub serves itself; no node can be called that."""

Binding = RoleBinding | ClusterRoleBinding


class NodeMethod(msgspec.Struct, frozen=True):
    """A call that a node serves: its parameters, and the verb and resource whose right it needs."""

    verb: str
    resource: str
    params: type[CallParams]


NODE_METHODS: Mapping[str, NodeMethod] = {
    "logs": NodeMethod("get", "pods/log", LogsParams),
    "network": NodeMethod("get", "nodes/network", NetworkParams),
    "reboot": NodeMethod("create", "nodes/reboot", RebootParams),
    "top": NodeMethod("get", "nodes/metrics", TopParams),
    "toppods": NodeMethod("get", "pods/metrics", TopPodsParams),
    FOLLOW: NodeMethod("get", "pods/log", FollowParams),
    EXEC: NodeMethod("create", "pods/exec", ExecParams),
    PORT_FORWARD: NodeMethod("create", "pods/portforward", PortForwardParams),
}
"""Every call that the hub passes on to nodes."""

RESOURCES: Mapping[str, str] = {
    "Pod": "pods",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Node": "nodes",
    "Event": "events",
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "NetworkPolicy": "networkpolicies",
    "Namespace": "namespaces",
    "HostFirewall": "hostfirewalls",
    "NodeNetwork": "nodenetworks",
    "RoleBinding": "rolebindings",
    "ClusterRoleBinding": "clusterrolebindings",
    "ClusterTrust": "clustertrusts",
}
"""The kinds that can be asked for, with the names that Kubernetes' messages use."""

READING = frozenset(["get", "list", "watch"])
CHANGING = frozenset(["create", "patch", "delete"])
WORKLOADS = frozenset(["pods", "configmaps", "services", "networkpolicies"])
"""What ``operator`` may change. As with Kubernetes' ``edit``, EndpointSlices are not among them: whoever
writes those leads a Service of one namespace to another's pods (CVE-2021-25740)."""
STREAMS = frozenset(["pods/exec", "pods/portforward"])
HIDDEN = frozenset(["secrets", "auditlogs"])
"""What ``viewer`` may not read. Secrets are out of Kubernetes' ``view`` too: they hold other identities."""

CLUSTER_SCOPED = frozenset(
    [
        "nodes",
        "namespaces",
        "hostfirewalls",
        "nodenetworks",
        "clusterrolebindings",
        "clustertrusts",
        "auditlogs",
    ]
)
"""What is in no namespace, with all that is below it, such as ``nodes/reboot``."""


class ForbiddenError(PermanentError):
    """No role that is bound to the operator gives the right."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="Forbidden")


def role_allows(role: RoleName, verb: str, resource: str) -> bool:
    """Whether a role gives the right to ``verb`` a ``resource`` where it is bound."""
    if role == "admin":
        return True
    if verb in READING:
        return resource not in HIDDEN or (role == "operator" and resource == "secrets")
    if role != "operator":
        return False
    return (verb in CHANGING and resource in WORKLOADS) or (verb == "create" and resource in STREAMS)


def allowed(bindings: Iterable[Binding], user: str, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether one of ``bindings`` lets ``user`` do that in ``namespace``; empty for what is in none, or all.

    A RoleBinding counts in its own namespace alone, and for nothing that is in none: a namespace that is
    named for such a thing is passed over.
    """
    namespace = _scope(resource, namespace)
    for binding in bindings:
        if isinstance(binding, RoleBinding) and (not namespace or binding.metadata.namespace != namespace):
            continue
        role = ROLES.get(binding.role_ref.name)
        if role is None or binding.role_ref.kind != "ClusterRole":
            continue
        if any(one.kind == "User" and one.name == user for one in binding.subjects) and role_allows(
            role, verb, resource
        ):
            return True
    return False


def require(
    bindings: Iterable[Binding], user: str, verb: str, resource: str, namespace: str = "", name: str = ""
) -> None:
    """ForbiddenError, in Kubernetes' words, unless ``user`` may do that."""
    if allowed(bindings, user, verb, resource, namespace):
        return
    namespace = _scope(resource, namespace)
    where = f'in namespace "{namespace}"' if namespace else "at the cluster scope"
    about = f'{resource} "{name}" is forbidden' if name else f"{resource} is forbidden"
    role = next(one for one in ("viewer", "operator", "admin") if role_allows(one, verb, resource))
    kind = f"RoleBinding in namespace {namespace}" if namespace else "ClusterRoleBinding"
    raise ForbiddenError(
        f'{about}: user "{user}" cannot {verb} resource "{resource}" {where}:'
        f" an admin can bind the role {role} to {user} with a {kind}"
    )


def _scope(resource: str, namespace: str) -> str:
    return "" if resource.partition("/")[0] in CLUSTER_SCOPED else namespace
