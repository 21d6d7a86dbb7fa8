"""The rules for bindings of roles.

https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/role-binding-v1/
"""

from edgeagent.api.objects.rbac import RBAC_GROUP, ROLES, ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.validate import require, validate_label

MAX_SUBJECTS = 1_000


def validate_binding(binding: RoleBinding | ClusterRoleBinding) -> None:
    """InvalidObjectError at the first rule that ``binding`` breaks."""
    role = binding.role_ref
    require(
        role.kind == "ClusterRole",
        "roleRef.kind",
        f"{role.kind[:40]!r} is not supported, only ClusterRole: roles are built in",
    )
    require(role.api_group == RBAC_GROUP, "roleRef.apiGroup", f"must be {RBAC_GROUP}")
    require(
        role.name in ROLES,
        "roleRef.name",
        f"there is no ClusterRole {role.name[:80]!r}, only {', '.join(ROLES)}",
    )
    require(len(binding.subjects) <= MAX_SUBJECTS, "subjects", f"more than {MAX_SUBJECTS}")
    for index, subject in enumerate(binding.subjects):
        where = f"subjects[{index}]"
        require(
            subject.kind == "User",
            f"{where}.kind",
            f"{subject.kind[:40]!r} is not supported, only User: an operator",
        )
        require(subject.api_group in ("", RBAC_GROUP), f"{where}.apiGroup", f"must be {RBAC_GROUP}")
        require(not subject.namespace, f"{where}.namespace", "a User is in no namespace: leave it out")
        # Operators' names are labels (`edgehub operator add`): another could never be anybody's.
        validate_label(subject.name, f"{where}.name")
