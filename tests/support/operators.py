"""Operators without a broker: an authority, keys, bindings and signed calls, at a manual clock's time."""

import functools
import math
from typing import Any

import msgspec

from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding, RoleRef, Subject
from edgeagent.cluster.ca import Authority
from edgeagent.cluster.operatorgate import Caller
from edgeagent.cluster.operators import bind
from edgeagent.cluster.store import Store
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.operatorcalls import OperatorCall, OperatorRequest, OperatorSigner


def authority(number: int = 1) -> Authority:
    """A CA; another number is another cluster's."""
    return _authority(number)


@functools.cache
def _authority(number: int) -> Authority:
    return Authority.create("plant", ManualClock(), number)[0]


def signer(name: str, cluster: str, ca: int = 1, *, node: bool = False) -> OperatorSigner:
    """One operator's key, always the same; ``node``: a node's certificate, which signs all the same."""
    return _signer(name, cluster, ca, node)


@functools.cache
def _signer(name: str, cluster: str, ca: int, node: bool) -> OperatorSigner:
    issued = authority(ca).node(name) if node else authority(ca).operator(name)
    user = name if node else f"user:{name}"
    return OperatorSigner(cluster, user, issued.certificate, issued.key)


def request(name: str, known_cluster: str, **fields: Any) -> OperatorRequest:
    """What the operator ``name`` signs; everything can be another."""
    known: dict[str, Any] = {
        "cluster": known_cluster, "user": f"user:{name}", "target": "hub", "method": "get",
        "reply_topic": f"edge/v1/{known_cluster}/replies/user:{name}/s",
    }  # fmt: skip
    return OperatorRequest(**(known | fields))


def admin_caller(store: Store) -> Caller:
    """``admin``, who is one if not yet, and calls the hub's API past all signatures."""
    with store.transaction():
        bind(store, "admin", "admin", "", ManualClock())
    made = request("admin", "plant", nonce="n", expires=0.0, params=msgspec.Raw(b"{}"))
    return Caller(store, OperatorCall("admin", "1", math.inf, made), b"")


def binding(
    role: str, *users: str, namespace: str = "", kind: str = "User"
) -> RoleBinding | ClusterRoleBinding:
    """A role for users, in a namespace or in all."""
    made = RoleBinding if namespace else ClusterRoleBinding
    meta = ObjectMeta(name=role, namespace=namespace, uid=f"{role}-{namespace}-{'-'.join(users)}")
    return made(
        api_version="rbac.authorization.k8s.io/v1", metadata=meta,
        role_ref=RoleRef(kind="ClusterRole", name=role),
        subjects=[Subject(kind=kind, name=user) for user in users],
    )  # fmt: skip
