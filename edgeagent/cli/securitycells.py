"""The tables of RoleBindings, ClusterRoleBindings and ClusterTrust."""

from collections.abc import Callable, Mapping
from typing import Any

from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.trust import ClusterTrust

HEADINGS: Mapping[str, tuple[str, ...]] = {
    "RoleBinding": ("NAME", "ROLE", "AGE", "+USERS"),
    "ClusterRoleBinding": ("NAME", "ROLE", "AGE", "+USERS"),
    "ClusterTrust": ("NAME", "CAS", "REVOKED-OPERATORS", "AGE"),
}
"""The columns of each kind, kubectl's where it knows it; those with ``+`` are shown by ``-o wide`` only."""


def _binding(item: RoleBinding | ClusterRoleBinding, age: str) -> list[str]:
    users = ", ".join(subject.name for subject in item.subjects)
    return [item.metadata.name, f"{item.role_ref.kind}/{item.role_ref.name}", age, users]


def _trust(item: ClusterTrust, age: str) -> list[str]:
    return [
        item.metadata.name, str(len(item.spec.ca_bundle)), str(len(item.spec.revoked_operators)), age,
    ]  # fmt: skip


CELLS: Mapping[str, Callable[[Any, str], list[str]]] = {
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "ClusterTrust": _trust,
}
"""A row of each kind; the age is told already."""
