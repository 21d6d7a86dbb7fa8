"""What nodes said of their pods last, as far as the network is made of it. Kept over restarts.

Silence removes nothing. What a broker retains can be lost, and with it every report. A hub that then knew no
address would have every node's policies drop the traffic of pods that run as before, and every Service lose
its backends, until each node has spoken again; a node that is cut off does not speak. So what a node said of
a pod stands until the node says another thing, or the pod is deleted. It is kept in the hub's database rather
than read back from what was published: that is on the broker that lost everything.

Applied pods are known from the store; only their addresses and readiness come from here. A static pod is
known from its node's report alone. Its node says when it goes, by emptying the topic; should that be lost
too, the pod ends here some time after its node has spoken of itself and not of the pod.

May not judge what a node says, nor know who is told.
"""

import logging
from collections.abc import Iterator

import msgspec

from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.pod import Pod
from edgeagent.cluster.derived import PodFacts, pod_facts
from edgeagent.cluster.endpointindex import Key
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.store import Store, StoredObject
from edgeagent.wire.canonical import canonical_json

log = logging.getLogger(__name__)


class PodMemory:
    """The facts of every pod. ``look`` follows a change of one, ``save`` puts what is new on disk."""

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._kept: dict[Key, PodFacts] = dict(self._load())
        self._facts = dict(self._kept)
        self._unsaved: dict[Key, None] = {}
        self._silent: dict[Key, float | None] = {}

    def _load(self) -> Iterator[tuple[Key, PodFacts]]:
        for namespace, name, body in self._store.seen_pods():
            try:
                yield (namespace, name), decode_json(body, PodFacts)
            except InvalidObjectError as error:
                log.warning("what was known of pod %s/%s cannot be read: %s", namespace, name, error)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._facts))

    def get(self, key: Key) -> PodFacts | None:
        """What is known of the pod; None where there is none."""
        return self._facts.get(key)

    @property
    def waits(self) -> bool:
        """Whether there are pods whose node is yet to say whether they are still there."""
        return bool(self._silent)

    def look(self, key: Key) -> bool:
        """The pod was changed, or its node spoke of it: whether anything is another now."""
        self._silent.pop(key, None)
        stored = self._store.find("Pod", *key)
        if stored is not None:
            return self._set(key, self._applied(stored))
        mirror = next(self._mirrors(*key), None)
        return self._set(key, mirror)

    def look_at_all(self) -> None:
        """Everything is to be looked at, from what is stored, reported and remembered."""
        found = {(one.namespace, one.name): self._applied(one) for one in self._store.select("Pod")}
        for mirror in self._mirrors("", ""):
            found.setdefault((mirror.namespace, mirror.name), mirror)
        members = {node.name for node in self._store.nodes()}
        silent: dict[Key, float | None] = {}
        for key, known in self._facts.items():
            if key not in found and known.mirror and known.node_name in members:
                found[key] = known
                silent[key] = self._silent.get(key)
        self._silent = silent
        for key in self._facts.keys() | found.keys():
            self._set(key, found.get(key))

    def unconfirmed(self, now: float, seconds: float) -> tuple[list[Key], float | None]:
        """Drops static pods whose node has been heard for ``seconds``, yet not of them.

        Gives those, and in how many seconds the next may be due; None where none is waited for.
        """
        due: list[Key] = []
        waits: float | None = None
        for key, heard in list(self._silent.items()):
            view = self._observer.view(self._facts[key].node_name)
            if not (view.online and view.status_is_fresh):
                self._silent[key] = None
                continue
            since = self._silent[key] = now if heard is None else heard
            left = since + seconds - now
            if left <= 0:
                del self._silent[key]
                self._set(key, None)
                due.append(key)
            else:
                waits = left if waits is None else min(waits, left)
        return due, waits

    def _applied(self, stored: StoredObject) -> PodFacts:
        pod = decode_json(stored.body, Pod)
        report = self._observer.report(stored.node, stored.namespace, stored.name, stored.uid)
        if report is not None:
            return pod_facts(msgspec.structs.replace(pod, status=report.status))
        facts = pod_facts(pod)
        before = self._facts.get((stored.namespace, stored.name))
        if before is None or (before.uid, before.node_name) != (stored.uid, stored.node):
            return facts
        return msgspec.structs.replace(facts, ips=before.ips, ready=before.ready, ended=before.ended)

    def _mirrors(self, namespace: str, name: str) -> Iterator[PodFacts]:
        reported = self._observer.mirrors(namespace, name, lambda node: self._store.node(node) is not None)
        for report in reported:
            if report.pod is not None:
                yield pod_facts(msgspec.structs.replace(report.pod, status=report.status), mirror=True)

    def _set(self, key: Key, facts: PodFacts | None) -> bool:
        if facts == self._facts.get(key):
            return False
        if facts is None:
            del self._facts[key]
        else:
            self._facts[key] = facts
        self._unsaved[key] = None
        return True

    def save(self) -> None:
        """Put what changed on disk; what cannot be written now is written with the next change."""
        put: dict[Key, PodFacts] = {}
        forget: list[Key] = []
        for key in self._unsaved:
            facts = self._facts.get(key)
            if facts is None or not (facts.mirror or facts.ips):
                if key in self._kept:
                    forget.append(key)
            elif facts != self._kept.get(key):
                put[key] = facts
        if put or forget:
            rows = [(*key, canonical_json(facts)) for key, facts in put.items()]
            try:
                self._store.keep_seen_pods(rows, forget)
            except TemporaryError as error:
                log.warning("what nodes say of their pods would be lost with this process: %s", error)
                return
        self._kept.update(put)
        for key in forget:
            del self._kept[key]
        self._unsaved.clear()
