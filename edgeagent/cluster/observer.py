"""What the nodes report: presence, status, pods, events.

Kept in memory, for the broker retains it; events go to the store. May not publish, nor change an object:
whoever wants to act on a report is told that there is one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError
from edgeagent.api.objects.decode import decode_json, validate
from edgeagent.api.objects.event import EventSource
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.validate import validate_label, validate_name
from edgeagent.cluster.events import EventLog
from edgeagent.cluster.store import Store
from edgeagent.wire.reports import ANNOTATION_MIRROR, EventReport, PodReport, Presence

log = logging.getLogger(__name__)

MAX_NODES = 20_000
MAX_PODS_PER_NODE = 2_000
MAX_EVENT_BYTES = 16_384
MAX_STREAM = 64
MAX_STATUS_BYTES = 262_144

T = TypeVar("T")


@dataclass(slots=True)
class NodeView:
    """What is known of one node. ``since`` is when its presence last changed, by the hub's clock."""

    presence: Presence | None = None
    since: str = ""
    status: NodeStatus | None = None
    status_is_fresh: bool = False
    pods: dict[tuple[str, str], PodReport] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)

    @property
    def online(self) -> bool:
        """Whether the node has a connection to the broker, as far as the broker knows."""
        return self.presence is not None and self.presence.online


class Observer:
    """Takes the messages under ``nodes/<node>/``. ``on_change`` gets kind, namespace and name.

    ``on_gone`` gets node, namespace, name and uid of a pod whose topic was emptied; ``on_node`` the node
    that said something of itself.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        on_change: Callable[[str, str, str], None],
        on_gone: Callable[[str, str, str, str], None],
        on_node: Callable[[str], None],
    ) -> None:
        self.events = EventLog(store, clock)
        self._clock = clock
        self._on_change = on_change
        self._on_gone = on_gone
        self._on_node = on_node
        self._nodes: dict[str, NodeView] = {}
        self._mirrors: dict[tuple[str, str], set[str]] = {}

    def begin(self) -> None:
        """A new connection: what is retained comes again, and what does not come again is not fresh."""
        for view in self._nodes.values():
            view.status_is_fresh = False
            view.seen.clear()

    def known(self) -> None:
        """All retained messages have come: a pod report that was not among them was cleared meanwhile.

        It is still shown, unless its node says of itself that it is there: a broker that lost everything
        says nothing about pods.
        """
        for node, view in self._nodes.items():
            if not view.status_is_fresh:
                continue
            for key in [key for key in view.pods if key not in view.seen]:
                self._gone(node, view, key)

    def view(self, node: str) -> NodeView:
        """What is known of ``node``; an empty view where nothing is."""
        return self._nodes.get(node) or NodeView()

    def report(self, node: str, namespace: str, name: str, uid: str) -> PodReport | None:
        """The last report on that very pod."""
        found = self.view(node).pods.get((namespace, name))
        return found if found is not None and found.uid == uid else None

    def mirrors(self, namespace: str, name: str, is_member: Callable[[str], bool]) -> list[PodReport]:
        """The static pods that nodes report, sorted by namespace and name.

        An empty namespace or name stands for every one. Of nodes that report one of the same name, the first
        by its own name counts of those that are members.
        """
        if namespace and name:
            keys = [(namespace, name)] if (namespace, name) in self._mirrors else []
        else:
            keys = sorted(k for k in self._mirrors if namespace in ("", k[0]) and name in ("", k[1]))
        reporting = {node for key in keys for node in self._mirrors[key]}
        members = {node for node in reporting if is_member(node)}
        found = ((min(self._mirrors[key] & members, default=""), key) for key in keys)
        return [self._nodes[node].pods[key] for node, key in found if node]

    def forget(self, node: str) -> list[tuple[str, str]] | None:
        """``node`` is no member any more: namespaces and names of its pods, None where it said nothing."""
        view = self._nodes.pop(node, None)
        if view is None:
            return None
        for key in view.pods:
            self._note_mirror(node, key, None)
            self._on_change("Pod", *key)
        self._on_change("Node", "", node)
        return list(view.pods)

    def receive(self, node: str, levels: list[str], payload: bytes) -> None:
        """A message on ``nodes/<node>/`` + levels. One that cannot be read changes nothing."""
        try:
            match levels:
                case ["online"]:
                    self._presence(node, payload)
                case ["status"]:
                    self._status(node, payload)
                case ["pods", namespace, name]:
                    self._pod(node, namespace, name, payload)
                case ["events"]:
                    self._event(node, payload)
                case _:
                    log.debug("nothing expects %s of node %s", "/".join(levels), node)
        except EdgeAgentError as error:
            log.warning("%s of node %s cannot be used: %s", "/".join(levels), node, error)

    def _ensure(self, node: str) -> NodeView | None:
        view = self._nodes.get(node)
        if view is None and len(self._nodes) < MAX_NODES:
            validate_label(node, "node")
            view = self._nodes[node] = NodeView()
        return view

    def _presence(self, node: str, payload: bytes) -> None:
        if not payload or (view := self._ensure(node)) is None:
            return
        presence = _decode(payload, Presence)
        before = view.presence
        if before is not None and not presence.online and presence.session < before.session:
            return  # the late will of a session that a newer one has replaced
        view.presence = presence
        if before is None or before.online != presence.online:
            view.since = rfc3339(self._clock.now())
            log.info("node %s is %s", node, "online" if presence.online else "offline")
        self._on_change("Node", "", node)
        self._on_node(node)

    def _status(self, node: str, payload: bytes) -> None:
        if not payload or (view := self._ensure(node)) is None:
            return
        view.status = _decode(payload, NodeStatus)
        view.status_is_fresh = True
        self._on_change("Node", "", node)
        self._on_node(node)

    def _pod(self, node: str, namespace: str, name: str, payload: bytes) -> None:
        if (view := self._ensure(node)) is None:
            return
        key = namespace, name
        if not payload:
            self._gone(node, view, key)
            return
        if key not in view.pods and len(view.pods) >= MAX_PODS_PER_NODE:
            log.warning("node %s reports more than %d pods: %s/%s is passed over", node, len(view.pods), *key)
            return
        report = _decode(payload, PodReport)
        if report.pod is not None:
            report = msgspec.structs.replace(report, pod=_checked_mirror(report.pod, node, key, report.uid))
        view.pods[key] = report
        view.seen.add(key)
        self._note_mirror(node, key, report)
        self._on_change("Pod", namespace, name)

    def _gone(self, node: str, view: NodeView, key: tuple[str, str]) -> None:
        report = view.pods.pop(key, None)
        view.seen.discard(key)
        self._note_mirror(node, key, None)
        if report is not None:
            self._on_gone(node, *key, report.uid)
            self._on_change("Pod", *key)

    def _note_mirror(self, node: str, key: tuple[str, str], report: PodReport | None) -> None:
        if report is not None and report.pod is not None:
            self._mirrors.setdefault(key, set()).add(node)
        elif (nodes := self._mirrors.get(key)) is not None:
            nodes.discard(node)
            if not nodes:
                del self._mirrors[key]

    def _event(self, node: str, payload: bytes) -> None:
        if len(payload) > MAX_EVENT_BYTES:
            log.warning("an event of node %s has %d bytes and is dropped", node, len(payload))
            return
        report = _decode(payload, EventReport)
        if not 0 <= report.sequence < 2**63 or len(report.stream) > MAX_STREAM:
            raise InvalidObjectError("sequence", "is out of range, or the name of the stream too long")
        event = report.event
        about = event.involved_object
        namespace = about.namespace or event.metadata.namespace or "default"
        validate_label(namespace, "involvedObject.namespace")
        name = event.metadata.name or f"{node}.{report.sequence:x}"
        validate_name(name, "metadata.name")
        # A node speaks for itself alone.
        event = msgspec.structs.replace(
            event,
            metadata=msgspec.structs.replace(event.metadata, namespace=namespace, name=name),
            source=EventSource(component=event.source.component, host=node),
        )
        key = self.events.add(node, report.stream, report.sequence, event)
        if key is not None:
            self._on_change("Event", *key)


def _checked_mirror(pod: Pod, node: str, key: tuple[str, str], uid: str) -> Pod:
    """``pod``, as a mirror that may be shown. InvalidObjectError where it is not what its topic says.

    A node speaks for itself alone: it cannot show a pod as bound to another node, nor take a name that no
    static pod of its own can have.
    """
    validate(pod)
    meta = pod.metadata
    said = (meta.namespace, meta.name, meta.uid, pod.spec.node_name)
    if said != (*key, uid, node):
        raise InvalidObjectError("pod", f"is {'/'.join(said)}, not {'/'.join((*key, uid, node))}")
    if not meta.name.endswith(f"-{node}"):
        raise InvalidObjectError("metadata.name", f"{meta.name!r} does not end with '-{node}'")
    annotations = {**meta.annotations, ANNOTATION_MIRROR: uid}
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(meta, annotations=annotations))


def _decode(payload: bytes, kind: type[T]) -> T:
    return decode_json(payload, kind, limit=MAX_STATUS_BYTES)
