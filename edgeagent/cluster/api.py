"""What an operator may do, with kubectl's semantics: apply, get, delete, and asking a node.

May not know how calls and answers travel. Every change is one transaction; what follows from it for the
nodes is left to the publisher, which is only told where to look.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import (
    MAX_OBJECT_BYTES,
    KubernetesObject,
    decode_json,
    decode_object_json,
)
from edgeagent.api.objects.network import HostFirewall
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.redaction import refuse_redacted, without_last_applied
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.api.objects.validate import is_name, validate_label
from edgeagent.cluster.allocation import ClusterNetwork, Taken, complete
from edgeagent.cluster.audit import HUB, AuditLogs
from edgeagent.cluster.observer import MAX_PODS_PER_NODE, Observer
from edgeagent.cluster.operatorgate import Caller
from edgeagent.cluster.podtargets import check_logs, node_key
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store, StoredObject, new_uid
from edgeagent.cluster.views import Views, is_mirror
from edgeagent.wire.audit import AuditResult
from edgeagent.wire.authority import NODE_METHODS, RESOURCES, ForbiddenError, NodeMethod
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import encode_envelope
from edgeagent.wire.hubapi import (
    Applied,
    ApplyParams,
    ApplyResult,
    AuditParams,
    DeleteParams,
    DeleteResult,
    GetParams,
    NodeKeyParams,
    NodeKeyResult,
)
from edgeagent.wire.noderequest import NodeRequest, sign_request
from edgeagent.wire.reports import ANNOTATION_FILE, ANNOTATION_MIRROR
from edgeagent.wire.rpc import NODE_REQUEST_SECONDS, LogsParams, RpcError

Workload = Pod | ConfigMap | Secret | Service | EndpointSlice | NetworkPolicy
Applicable = Workload | Namespace | HostFirewall | RoleBinding | ClusterRoleBinding
"""What an operator may create and change."""
KINDS: Mapping[str, type[Applicable]] = {kind.__name__: kind for kind in get_args(Applicable)}
CLUSTER_SCOPED = (Namespace, HostFirewall, ClusterRoleBinding)
"""The kinds whose objects are in no namespace."""
BINDINGS = (RoleBinding, ClusterRoleBinding)

MAX_APPLY = 5_000
"""How many objects one call may carry."""
MAX_AUDIT_ROWS = 2_000
"""How many rows of an audit log one call may ask for."""
SEALING_OVERHEAD = 2_048
"""What sealing adds at most, apart from base64."""

Action = Literal["created", "configured", "unchanged"]


class Api:
    """The operators' calls. ``wake`` is told of nodes to look at, ``on_change`` of objects that changed."""

    def __init__(
        self,
        store: Store,
        views: Views,
        observer: Observer,
        signing: Callable[[], Signing],
        audit: AuditLogs,
        *,
        network: ClusterNetwork,
        clock: Clock,
        wake: Callable[[str], None],
        on_change: Callable[[str, str, str], None],
    ) -> None:
        self._store = store
        self._views = views
        self._observer = observer
        self._signing = signing
        self._audit = audit
        self._network = network
        self._clock = clock
        self._wake = wake
        self._on_change = on_change

    def apply(self, params: ApplyParams, caller: Caller) -> ApplyResult:
        """Create or change all of ``params.objects``, or none."""
        if len(params.objects) > MAX_APPLY:
            raise InvalidObjectError(
                "objects", f"{len(params.objects)} are more than the {MAX_APPLY} of one call"
            )
        manifests = [_manifest(raw, number) for number, raw in enumerate(params.objects, 1)]
        _refuse_twice(manifests)
        changed: list[StoredObject] = []
        applied: list[Applied] = []
        with self._store.transaction(dry_run=params.dry_run):
            for manifest in manifests:
                self._require_apply(manifest, caller)
            for manifest in manifests:
                try:
                    action, stored = self._apply_one(manifest)
                except InvalidObjectError as error:
                    raise RpcError("Invalid", f"{_named(manifest)} is invalid: {error}") from None
                if stored is not None:
                    changed.append(stored)
                meta = manifest.metadata
                applied.append(
                    Applied(kind=_kind(manifest), namespace=meta.namespace, name=meta.name, action=action)
                )
            self._bound_pods({stored.node for stored in changed if stored.kind == "Pod"})
            self._note(caller, ", ".join(_target(manifest) for manifest in manifests))
        if not params.dry_run:
            self._follow(changed)
        return ApplyResult(applied=applied)

    def _require_apply(self, manifest: Applicable, caller: Caller) -> None:
        meta = manifest.metadata
        before = self._store.find(_kind(manifest), meta.namespace, meta.name)
        caller.require_kind("patch" if before else "create", _kind(manifest), meta.namespace, meta.name)

    def _note(self, caller: Caller, target: str) -> None:
        """In the transaction of what is done: there is none of the two without the other."""
        request = caller.request
        self._audit.note(caller.name, request.method, target, "allowed", "", request.nonce)

    def note_refused(self, caller: Caller, error: ForbiddenError) -> None:
        """Somebody asked for what they may not do."""
        request = caller.request
        with self._store.transaction():
            self._audit.note(caller.name, request.method, "", "refused", str(error), request.nonce)

    def _apply_one(self, manifest: Applicable) -> tuple[Action, StoredObject | None]:
        meta = manifest.metadata
        before = self._store.find(_kind(manifest), meta.namespace, meta.name)
        if isinstance(manifest, Pod):
            self._check_pod(manifest, decode_json(before.body, Pod) if before else None)
            if before is None:
                self._refuse_mirror(meta.namespace, meta.name)
            if is_mirror(manifest):
                raise InvalidObjectError(
                    f"metadata.annotations[{ANNOTATION_MIRROR!r}]",
                    "may not be set: it marks the pods that nodes run by themselves",
                )
        if isinstance(manifest, Service):
            manifest = self._complete(manifest, decode_json(before.body, Service) if before else None)
        if before is None:
            created = ObjectMeta(
                name=meta.name,
                namespace=meta.namespace,
                uid=new_uid(),
                creation_timestamp=rfc3339(self._clock.now()),
                generation=1 if isinstance(manifest, Pod) else 0,
                labels=meta.labels,
                annotations=meta.annotations,
            )
            return "created", self._write(manifest, created)
        old = decode_json(before.body, type(manifest))
        _check_update(manifest, old)
        kept = msgspec.structs.replace(
            old.metadata, labels=meta.labels, annotations=meta.annotations, resource_version=""
        )
        if isinstance(manifest, Pod) and isinstance(old, Pod) and manifest.spec != old.spec:
            kept = msgspec.structs.replace(kept, generation=kept.generation + 1)
        same = msgspec.structs.replace(kept, resource_version=old.metadata.resource_version)
        if msgspec.structs.replace(manifest, metadata=same) == old:
            return "unchanged", None
        return "configured", self._write(manifest, kept)

    def _write(self, manifest: Applicable, meta: ObjectMeta) -> StoredObject:
        version = self._store.next_version()
        meta = msgspec.structs.replace(meta, resource_version=str(version))
        body = canonical_json(msgspec.structs.replace(manifest, metadata=meta))
        size = len(body) * 4 // 3 + SEALING_OVERHEAD if isinstance(manifest, Secret) else len(body)
        if size > MAX_OBJECT_BYTES:
            raise InvalidObjectError(
                "", f"it has {size} bytes on its way to a node, more than {MAX_OBJECT_BYTES}"
            )
        stored = StoredObject(
            kind=_kind(manifest),
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            version=version,
            node=manifest.spec.node_name if isinstance(manifest, Pod) else "",
            deleting=meta.deletion_timestamp,
            body=body,
        )
        self._store.put(stored)
        return stored

    def _check_pod(self, pod: Pod, old: Pod | None) -> None:
        node = pod.spec.node_name
        if not node:
            raise InvalidObjectError("spec.nodeName", "required: a Pod names the node that it runs on")
        if old is not None and node != old.spec.node_name:
            raise InvalidObjectError(
                "spec.nodeName",
                f"may not change (it is {old.spec.node_name!r}): delete the Pod and create it again",
            )
        if old is None and self._store.node(node) is None:
            known = ", ".join(one.name for one in self._store.nodes()[:10]) or "none yet"
            raise InvalidObjectError(
                "spec.nodeName",
                f"there is no node {node!r} in the cluster (known: {known}):"
                f" `edgehub node add {node}` adds one",
            )

    def _complete(self, service: Service, old: Service | None) -> Service:
        """The Service with the addresses and node ports that the hub gives it, or it already has."""
        name = (service.metadata.namespace, service.metadata.name)
        others = (decode_json(stored.body, Service) for stored in self._store.select("Service"))
        taken = Taken(one for one in others if (one.metadata.namespace, one.metadata.name) != name)
        return complete(service, old, self._network, taken)

    def _bound_pods(self, nodes: set[str]) -> None:
        for node in sorted(nodes):
            if len(self._store.pods_on(node)) > MAX_PODS_PER_NODE:
                raise RpcError("Invalid", f"node {node} would have more than {MAX_PODS_PER_NODE} Pods")

    def get(self, params: GetParams, caller: Caller) -> list[KubernetesObject]:
        """The objects asked for; a single one that is absent is ``NotFound``."""
        verb = "get" if params.name else "list"
        caller.require_kind(verb, params.kind, params.namespace, params.name)
        found = self._views.select(
            params.kind,
            params.namespace,
            params.name,
            params.labels,
            involved_kind=params.involved_kind,
            involved_name=params.involved_name,
        )
        if params.name and not found:
            raise _not_found(params.kind, params.name)
        return found

    def audit(self, params: AuditParams, caller: Caller) -> AuditResult:
        """Rows of an audit log, as many as an answer has room for."""
        caller.require("get", "auditlogs", "", params.node or HUB)
        if params.node and params.node != HUB and self._store.node(params.node) is None:
            raise _not_found("Node", params.node)
        if not 0 < params.count <= MAX_AUDIT_ROWS:
            raise RpcError("Invalid", f"count must be between 1 and {MAX_AUDIT_ROWS}")
        return self._audit.result(params.node or HUB, params.count)

    def delete(self, params: DeleteParams, caller: Caller) -> DeleteResult:
        """A Pod goes once its node says that it is gone; everything else goes at once."""
        if params.kind not in KINDS:
            raise RpcError(
                "Invalid", f"objects of kind {params.kind!r} cannot be deleted, only {', '.join(KINDS)}"
            )
        caller.require_kind("delete", params.kind, params.namespace, params.name)
        if (grace := params.grace_period_seconds) is not None and grace < 0:
            raise RpcError("Invalid", "gracePeriodSeconds must not be negative")
        stored = self._store.find(params.kind, params.namespace, params.name)
        if stored is None:
            if params.kind == "Pod":
                self._refuse_mirror(params.namespace, params.name)
            raise _not_found(params.kind, params.name)
        at_once = params.kind != "Pod" or params.force or self._store.node(stored.node) is None
        with self._store.transaction():
            if at_once:
                self._store.remove(stored.uid)
            else:
                stored = self._terminate(stored, grace)
            self._note(
                caller,
                "/".join(part for part in (RESOURCES[stored.kind], stored.namespace, stored.name) if part),
            )
        self._follow([stored])
        return DeleteResult(state="deleted" if at_once else "terminating", uid=stored.uid)

    def _refuse_mirror(self, namespace: str, name: str) -> None:
        """A static pod can be looked at here, and changed where its manifest lies."""
        if (pod := self._views.mirror(namespace, name)) is not None:
            node, file = (
                pod.spec.node_name,
                pod.metadata.annotations.get(ANNOTATION_FILE, "its manifest folder"),
            )
            raise RpcError(
                "Forbidden",
                f"pod {namespace}/{name} is a static pod of node {node}: it cannot be changed here."
                f" Its manifest is {file} on that node",
            )

    def _terminate(self, stored: StoredObject, grace: int | None) -> StoredObject:
        pod = decode_json(stored.body, Pod)
        meta = pod.metadata
        grace = pod.spec.termination_grace_period_seconds if grace is None else grace
        changed = msgspec.structs.replace(
            meta,
            deletion_timestamp=meta.deletion_timestamp or rfc3339(self._clock.now() + grace),
            deletion_grace_period_seconds=grace,
        )
        if changed == meta:
            return stored
        return self._write(pod, changed)

    def finish(self, stored: StoredObject) -> None:
        """Forget an object whose node has said that it is gone."""
        with self._store.transaction():
            self._store.remove(stored.uid)
        self._on_change(stored.kind, stored.namespace, stored.name)

    def to_node(self, caller: Caller) -> tuple[str, bytes]:
        """The node that the call is for, and the signed request for it. Refused where nobody would answer."""
        request = caller.request
        node, spec = request.target, NODE_METHODS[request.method]
        params = decode_json(bytes(request.params), spec.params)
        namespace, name = params.about()
        caller.require(spec.verb, spec.resource, namespace, name)
        if self._store.node(node) is None:
            raise _not_found("Node", node)
        if isinstance(params, LogsParams):
            check_logs(self._store, self._views, params, node)
        view = self._observer.view(node)
        if not view.online:
            since = f" since {view.since}" if view.since else ""
            raise RpcError("NodeOffline", f"node {node} is not connected{since}; {_instead(spec)}")
        signing = self._signing()
        asked = NodeRequest(
            cluster=signing.cluster,
            node=node,
            method=request.method,
            nonce=secrets.token_hex(16),
            expires=self._clock.now() + NODE_REQUEST_SECONDS,
            call=caller.payload,
        )
        with self._store.transaction():
            about = "/".join(part for part in (spec.resource, namespace, name) if part)
            self._note(caller, f"node {node}: {about}")
        return node, encode_envelope(sign_request(asked, signing.key, list(signing.chain)))

    def node_key(self, params: NodeKeyParams, caller: Caller) -> NodeKeyResult:
        """Where a stream is to go, for who may have it."""
        return node_key(self._store, self._views, params, caller)

    def _follow(self, changed: list[StoredObject]) -> None:
        """Tell the watches and the network what changed, and the publisher where to look."""
        nodes: dict[str, None] = {}
        for namespace in dict.fromkeys(s.namespace for s in changed if s.kind in ("ConfigMap", "Secret")):
            nodes.update(dict.fromkeys(self._store.nodes_using(namespace)))
        nodes.update(dict.fromkeys(stored.node for stored in changed if stored.kind == "Pod"))
        # First what changed: who is woken is to find it.
        for stored in changed:
            self._on_change(stored.kind, stored.namespace, stored.name)
        for node in nodes:
            self._wake(node)


def _manifest(raw: msgspec.Raw, number: int) -> Applicable:
    """One document, checked and brought to the form that is stored: no status, no stringData."""
    try:
        found = decode_object_json(bytes(raw))
        if not isinstance(found, Applicable):
            raise InvalidObjectError(
                "kind", f"a {type(found).__name__} cannot be applied, only {', '.join(KINDS)}"
            )
        if isinstance(found, CLUSTER_SCOPED):
            found = _without_namespace(found)
        elif not found.metadata.namespace:
            raise InvalidObjectError("metadata.namespace", "required field is missing")
        else:
            validate_label(found.metadata.namespace, "metadata.namespace")
        if isinstance(found, Secret):
            refuse_redacted(found)
    except InvalidObjectError as error:
        raise RpcError("Invalid", f"document {number}{_hint(raw)} is invalid: {error}") from None
    if isinstance(found, Pod):
        return msgspec.structs.replace(found, status=PodStatus())
    if isinstance(found, Secret):
        data = found.data | {key: text.encode() for key, text in found.string_data.items()}
        return msgspec.structs.replace(without_last_applied(found), data=data, string_data={})
    return found


def _without_namespace(found: Applicable) -> Applicable:
    if found.metadata.namespace:
        raise InvalidObjectError("metadata.namespace", f"a {_kind(found)} is in no namespace: leave it out")
    return found


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _Header(msgspec.Struct, frozen=True):
    kind: str = ""
    metadata: _Named = _Named()


def _hint(raw: msgspec.Raw) -> str:
    """`` (Pod default/web)``, as far as a broken document says so; of a Secret, names alone that are some."""
    try:
        header = msgspec.json.decode(raw, type=_Header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""
    parts = [part for part in (header.metadata.namespace, header.metadata.name) if part]
    if header.kind == Secret.__name__:
        parts = [part for part in parts if is_name(part)]
    name = "/".join(parts)
    return f" ({header.kind or 'no kind'} {name or 'without a name'})"[:200]


def _refuse_twice(manifests: list[Applicable]) -> None:
    seen: dict[str, int] = {}
    for number, manifest in enumerate(manifests, 1):
        first = seen.setdefault(_named(manifest), number)
        if first != number:
            raise RpcError("Invalid", f"{_named(manifest)} is there twice, as documents {first} and {number}")


def _check_update(manifest: Applicable, old: Applicable) -> None:
    meta, kept = manifest.metadata, old.metadata
    if kept.deletion_timestamp:
        raise RpcError("Conflict", f"{_named(old)} is being deleted: apply it again once it is gone")
    if meta.uid and meta.uid != kept.uid:
        raise RpcError(
            "Conflict",
            f"{_named(old)} has uid {kept.uid}, not the one of the manifest: it was created anew meanwhile",
        )
    if meta.resource_version and meta.resource_version != kept.resource_version:
        raise RpcError(
            "Conflict",
            f"{_named(old)} was changed meanwhile (it is at resourceVersion {kept.resource_version}):"
            " take the newest and change that, or leave resourceVersion out",
        )
    if isinstance(old, BINDINGS) and isinstance(manifest, BINDINGS) and manifest.role_ref != old.role_ref:
        raise InvalidObjectError("roleRef", "may not change: delete the binding and create it again")
    if isinstance(old, ConfigMap | Secret) and isinstance(manifest, ConfigMap | Secret) and old.immutable:
        data = manifest.data != old.data
        if isinstance(old, ConfigMap) and isinstance(manifest, ConfigMap):
            data = data or manifest.binary_data != old.binary_data
        if data or not manifest.immutable:
            raise InvalidObjectError(
                "data", "may not change, for the object says immutable: delete it and create it again"
            )


def _instead(spec: NodeMethod) -> str:
    """What to do about a node that cannot be asked."""
    reads = spec.verb == "get"
    return "what you ask for can be read on the node itself" if reads else "try again once it is"


def _not_found(kind: str, name: str) -> PermanentError:
    return PermanentError(f'{RESOURCES.get(kind, kind)} "{name}" not found', reason="NotFound")


def _kind(manifest: Applicable) -> str:
    return type(manifest).__name__


def _named(manifest: Applicable) -> str:
    meta = manifest.metadata
    return (
        f"{_kind(manifest)} {meta.namespace}/{meta.name}"
        if meta.namespace
        else f"{_kind(manifest)} {meta.name}"
    )


def _target(manifest: Applicable) -> str:
    """``pods/default/web``, for the audit log."""
    meta = manifest.metadata
    return "/".join(part for part in (RESOURCES[_kind(manifest)], meta.namespace, meta.name) if part)
