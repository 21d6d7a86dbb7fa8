"""Pods and Services by label, so that one change costs what it concerns and not what there is.

May not know where pods and Services come from, nor who is told of their endpoints.
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from collections.abc import Hashable, Iterable
from typing import TypeVar

from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.cluster.derived import PodFacts, endpoint_slices

Key = tuple[str, str]
"""A namespace and a name."""
_Label = tuple[str, str, str]
"""A namespace, a label's key and its value."""
_Name = TypeVar("_Name", bound=Hashable)


class EndpointIndex:
    """Which pods are behind which Service. ``derive`` gives the slices of those that a change concerned."""

    def __init__(self) -> None:
        self._pods: dict[Key, PodFacts] = {}
        self._labelled: dict[_Label, set[Key]] = {}
        self._on: dict[str, set[Key]] = {}
        self._gone: set[str] = set()
        self._services: dict[Key, Service] = {}
        self._filed: dict[Key, _Label] = {}
        self._asking: dict[_Label, set[Key]] = {}
        self._members: dict[Key, set[Key]] = {}
        self._behind: dict[Key, set[Key]] = {}
        self._concerned: dict[Key, None] = {}

    def pod(self, key: Key) -> PodFacts | None:
        """What was put in last."""
        return self._pods.get(key)

    def pods_on(self, node: str) -> Iterable[Key]:
        """The pods of a node."""
        return tuple(self._on.get(node, ()))

    def put_pod(self, key: Key, pod: PodFacts | None) -> None:
        """The pod as it is now, with addresses that others can send to; None where it is gone."""
        before = self._pods.get(key)
        if pod == before:
            return
        if before is not None:
            for label in _labels(before):
                _take(self._labelled, label, key)
            _take(self._on, before.node_name, key)
            del self._pods[key]
        if pod is not None:
            for label in _labels(pod):
                self._labelled.setdefault(label, set()).add(key)
            self._on.setdefault(pod.node_name, set()).add(key)
            self._pods[key] = pod
        was, now = self._behind.get(key, set()), self._selecting(pod)
        for service in was | now:
            self._concerned[service] = None
        for service in was - now:
            self._members[service].discard(key)
        for service in now - was:
            self._members[service].add(key)
        if now:
            self._behind[key] = now
        else:
            self._behind.pop(key, None)

    def _selecting(self, pod: PodFacts | None) -> set[Key]:
        """The Services that select this pod."""
        if pod is None:
            return set()
        labels = pod.labels.items()
        return {
            key
            for label in _labels(pod)
            for key in self._asking.get(label, ())
            if self._services[key].spec.selector.items() <= labels
        }

    def put_service(self, key: Key, service: Service | None) -> None:
        """The Service as it is now; None where it is gone, or selects nothing."""
        if self._services.pop(key, None) is not None:
            _take(self._asking, self._filed.pop(key), key)
            for pod in self._members.pop(key):
                _take(self._behind, pod, key)
        self._concerned[key] = None
        if service is None or not service.spec.selector:
            return
        labels = [(key[0], *label) for label in service.spec.selector.items()]
        # Found by one of its labels: by that which the fewest others are found by.
        filed = min(labels, key=lambda label: (len(self._asking.get(label, ())), label))
        self._services[key] = service
        self._filed[key] = filed
        self._asking.setdefault(filed, set()).add(key)
        having = sorted((self._labelled.get(label, set()) for label in labels), key=len)
        self._members[key] = having[0].intersection(*having[1:])
        for pod in self._members[key]:
            self._behind.setdefault(pod, set()).add(key)

    def set_gone(self, node: str, gone: bool) -> None:
        """Whether the node has been away for too long for its pods to be sent anything."""
        if gone == (node in self._gone):
            return
        (self._gone.add if gone else self._gone.discard)(node)
        for pod in self._on.get(node, ()):
            self._concerned.update(dict.fromkeys(self._behind.get(pod, ())))

    def derive(self) -> dict[Key, list[EndpointSlice]]:
        """The slices of every Service that was concerned since the last call; none of one that is gone."""
        concerned, self._concerned = self._concerned, {}
        return {key: self._slices(key) for key in concerned}

    def _slices(self, key: Key) -> list[EndpointSlice]:
        service = self._services.get(key)
        if service is None:
            return []
        pods = (self._pods[pod] for pod in self._members[key])
        return list(endpoint_slices(service, pods, self._gone.__contains__))


def _labels(pod: PodFacts) -> Iterable[_Label]:
    return ((pod.namespace, key, value) for key, value in pod.labels.items())


def _take(of: dict[_Name, set[Key]], name: _Name, key: Key) -> None:
    """Take ``key`` out of the set of that name, and the set away with the last."""
    of[name].discard(key)
    if not of[name]:
        del of[name]
