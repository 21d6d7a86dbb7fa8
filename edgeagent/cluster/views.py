"""The objects as an operator sees them: what is stored, with what the nodes report put in.

Reads only: may not change, publish or answer anything.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.decode import KINDS, KubernetesObject, decode_json
from edgeagent.api.objects.node import Node, NodeStatus
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.objects.redaction import redacted
from edgeagent.cluster.audit import AuditLogs
from edgeagent.cluster.observer import NodeView, Observer
from edgeagent.cluster.publisher import Publisher
from edgeagent.cluster.store import Store, StoredNode, StoredObject
from edgeagent.wire.authority import RESOURCES
from edgeagent.wire.reports import ANNOTATION_MIRROR


class Views:
    """Answers ``get``."""

    def __init__(
        self,
        store: Store,
        observer: Observer,
        publisher: Publisher,
        audit: AuditLogs,
        endpoint_slices: Callable[[], Iterable[KubernetesObject]] = tuple,
    ) -> None:
        """``endpoint_slices`` gives those that nobody applied."""
        self._endpoint_slices = endpoint_slices
        self._store = store
        self._observer = observer
        self._publisher = publisher
        self._audit = audit

    def select(
        self,
        kind: str,
        namespace: str = "",
        name: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        involved_kind: str = "",
        involved_name: str = "",
    ) -> list[KubernetesObject]:
        """All that match, sorted by namespace and name (Events: the one told of longest ago first).

        ``involved_kind`` and ``involved_name`` are of Events alone: what they are to be about.
        """
        found: list[KubernetesObject]
        if (involved_kind or involved_name) and kind != "Event":
            raise PermanentError(f"involvedObject is of Events, not of {kind}", reason="Invalid")
        if kind == "Node":
            nodes = self._store.nodes() if not name else [n for n in [self._store.node(name)] if n]
            found = [self._node(node) for node in nodes]
        elif kind == "Event":
            found = list(
                self._observer.events.select(
                    namespace, name, about_kind=involved_kind, about_name=involved_name
                )
            )
        elif kind in RESOURCES:
            found = [self.present(stored) for stored in self._store.select(kind, namespace, name)]
            if kind == "Pod":
                found = self._with_mirrors(found, namespace, name)
            elif kind == "EndpointSlice":
                found = self._with_derived(found, namespace, name)
        else:
            raise PermanentError(
                f"unknown kind {kind!r}, expected one of {', '.join(RESOURCES)}", reason="Invalid"
            )
        if not labels:
            return found
        return [one for one in found if labels.items() <= one.metadata.labels.items()]

    def present(self, stored: StoredObject) -> KubernetesObject:
        """One stored object as it is shown: of a Secret never a value."""
        if stored.kind != "Pod":
            found = decode_json(stored.body, KINDS[stored.kind])
            return redacted(found) if isinstance(found, Secret) else found
        pod = decode_json(stored.body, Pod)
        report = self._observer.report(stored.node, stored.namespace, stored.name, stored.uid)
        # The last status stands for as long as the node is away: it is running the pod, for all one knows.
        return msgspec.structs.replace(pod, status=report.status if report else PodStatus(phase="Pending"))

    def mirror(self, namespace: str, name: str) -> Pod | None:
        """The static pod of that name, as its node reports it; None where the name is an applied pod's."""
        found = self.select("Pod", namespace, name)
        return next((pod for pod in found if isinstance(pod, Pod) and is_mirror(pod)), None)

    def _with_mirrors(
        self, applied: list[KubernetesObject], namespace: str, name: str
    ) -> list[KubernetesObject]:
        """The applied pods, and what nodes run by themselves under other names."""
        taken = {(pod.metadata.namespace, pod.metadata.name) for pod in applied}
        reported = self._observer.mirrors(namespace, name, lambda node: self._store.node(node) is not None)
        mirrors = [
            msgspec.structs.replace(report.pod, status=report.status)
            for report in reported
            if report.pod is not None
        ]
        found = [pod for pod in mirrors if (pod.metadata.namespace, pod.metadata.name) not in taken]
        return sorted([*applied, *found], key=lambda pod: (pod.metadata.namespace, pod.metadata.name))

    def _with_derived(
        self, applied: list[KubernetesObject], namespace: str, name: str
    ) -> list[KubernetesObject]:
        """The applied EndpointSlices, and those of Services with a selector."""
        derived = [
            one
            for one in self._endpoint_slices()
            if namespace in ("", one.metadata.namespace) and name in ("", one.metadata.name)
        ]
        return sorted([*applied, *derived], key=lambda one: (one.metadata.namespace, one.metadata.name))

    def _node(self, node: StoredNode) -> Node:
        view = self._observer.view(node.name)
        status = view.status or NodeStatus()
        conditions = list(status.conditions)
        if (ready := _ready(view)) is not None:
            conditions = [c for c in conditions if c.type != "Ready"] + [ready]
        if failure := self._publisher.failures.get(node.name):
            conditions.append(
                Condition(
                    type="DesiredStatePublished", status="False", reason="PublishFailed", message=failure
                )
            )
        if status.audit.sequence or self._audit.head(node.name).sequence:
            problem = self._audit.problem(node.name, status.audit) or ("Complete", "")
            conditions.append(
                Condition(
                    type="AuditLogComplete",
                    status="True" if problem[0] == "Complete" else "False",
                    reason=problem[0],
                    message=problem[1],
                )
            )
        return Node(
            api_version="v1",
            metadata=ObjectMeta(name=node.name, uid=node.uid, creation_timestamp=node.created),
            status=msgspec.structs.replace(status, conditions=conditions),
        )


def is_mirror(pod: Pod) -> bool:
    """Whether this is a static pod: its manifest lies on its node, and it can only be looked at here."""
    return ANNOTATION_MIRROR in pod.metadata.annotations


def _ready(view: NodeView) -> Condition | None:
    """The Ready condition to show in place of the node's own; None where its own stands."""
    if view.status is None and (view.presence is None or view.online):
        return Condition(
            type="Ready",
            status="Unknown",
            reason="NodeStatusNeverUpdated",
            message="the node has not reported its status yet",
        )
    if not view.online:
        return Condition(
            type="Ready",
            status="Unknown",
            reason="NodeOffline",
            message="the node has no connection to the broker; its pods go on running",
            last_transition_time=view.since,
        )
    return None
