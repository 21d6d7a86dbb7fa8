"""Who may do what: RoleBinding and ClusterRoleBinding, to one of three roles that are built in.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from collections.abc import Mapping
from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta

RBAC_GROUP = "rbac.authorization.k8s.io"
RoleName = Literal["viewer", "operator", "admin"]
ROLES: Mapping[str, RoleName] = {
    "viewer": "viewer",
    "operator": "operator",
    "admin": "admin",
    "view": "viewer",
    "edit": "operator",
    "cluster-admin": "admin",
}
"""What ``roleRef`` may name; the last three are Kubernetes' own names for the same."""


class RoleRef(KubernetesStruct, frozen=True):
    """The role that is given."""

    kind: str
    name: str
    api_group: str = RBAC_GROUP


class Subject(KubernetesStruct, frozen=True):
    """To whom: ``name`` is an operator's."""

    kind: str
    name: str
    api_group: str = RBAC_GROUP
    namespace: str = ""


class RoleBinding(KubernetesStruct, frozen=True, tag_field="kind", tag="RoleBinding"):
    """A role in the one namespace that the binding is in."""

    api_version: Literal["rbac.authorization.k8s.io/v1"]
    metadata: ObjectMeta
    role_ref: RoleRef
    subjects: list[Subject] = []


class ClusterRoleBinding(KubernetesStruct, frozen=True, tag_field="kind", tag="ClusterRoleBinding"):
    """A role in every namespace, and for what is in none."""

    api_version: Literal["rbac.authorization.k8s.io/v1"]
    metadata: ObjectMeta
    role_ref: RoleRef
    subjects: list[Subject] = []
