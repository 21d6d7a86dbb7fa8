"""What an operator may ask of the hub: the parameters and results of each call, by method name.

A call goes to ``hub/rpc/<user>/<method>``, signed (``edgeagent.wire.operatorcalls``), its parameters as JSON.
"""

from typing import Literal

import msgspec

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.wire.authority import NODE_METHODS

METHODS = ("apply", "get", "watch", "delete", "audit", "cancel", "nodekey", *NODE_METHODS)
"""``cancel`` has no parameters and ends the ``watch`` whose correlation data it carries. What is in
``edgeagent.wire.authority.NODE_METHODS`` is for a node, which answers by itself."""


class ApplyParams(KubernetesStruct, frozen=True):
    """Objects to create or change, all of them or none. ``dry_run`` checks only."""

    objects: list[msgspec.Raw]
    dry_run: bool = False


class Applied(KubernetesStruct, frozen=True, omit_defaults=False):
    """What became of one object."""

    kind: str
    namespace: str
    name: str
    action: Literal["created", "configured", "unchanged"]


class ApplyResult(KubernetesStruct, frozen=True):
    """In the order of the request."""

    applied: list[Applied]


class GetParams(KubernetesStruct, frozen=True):
    """Which objects: empty ``namespace`` for all, empty ``name`` for all names. Labels must all match.

    ``involved_kind`` and ``involved_name`` are for Events alone: those about that object.
    """

    kind: str
    namespace: str = ""
    name: str = ""
    labels: dict[str, str] = {}
    involved_kind: str = ""
    involved_name: str = ""


class GetResult(KubernetesStruct, frozen=True):
    """The objects as JSON, by namespace and name. A single name that is absent is failure ``NotFound``."""

    items: list[msgspec.Raw]


class WatchParams(KubernetesStruct, frozen=True):
    """As GetParams: every object that exists as ADDED, then changes, for ``timeout_seconds`` at most."""

    kind: str
    namespace: str = ""
    name: str = ""
    labels: dict[str, str] = {}
    involved_kind: str = ""
    involved_name: str = ""
    timeout_seconds: int = 300


class WatchEvent(KubernetesStruct, frozen=True):
    """One change, with the object after it (for DELETED: as it was last)."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: msgspec.Raw


class DeleteParams(KubernetesStruct, frozen=True):
    """``force`` forgets the object without waiting for its node to say that it is gone."""

    kind: str
    namespace: str
    name: str
    grace_period_seconds: int | None = None
    force: bool = False


class DeleteResult(KubernetesStruct, frozen=True):
    """``deleted``, or ``terminating`` where a node has yet to stop the pod."""

    state: Literal["deleted", "terminating"]
    uid: str


class AuditParams(KubernetesStruct, frozen=True):
    """The last ``count`` rows of a node's audit log, or of the hub's own where ``node`` is empty.

    Answered with ``edgeagent.wire.audit.AuditResult``.
    """

    node: str = ""
    count: int = 100


class NodeKeyParams(KubernetesStruct, frozen=True):
    """Where a stream of ``method`` (of ``NODE_METHODS``) about a pod is to go."""

    method: str
    namespace: str
    pod: str


class NodeKeyResult(KubernetesStruct, frozen=True):
    """The pod's node, and that node's public X25519 key, to which what is private is sealed."""

    node: str
    key: bytes
