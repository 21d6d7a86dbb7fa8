"""All that the node is to run, from both sources: the hub's desired state and the node's folder."""

from collections.abc import Collection, Mapping

from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.references import volume_references
from edgeagent.node.store.desired import Change, DesiredState
from edgeagent.wire.canonical import canonical_json, digest

Name = tuple[str, str, str]


class WantedObjects:
    """Both sources as one. Objects of the folder see each other first, then the hub's."""

    def __init__(self, desired: DesiredState) -> None:
        self._desired = desired
        self._static: Mapping[str, KubernetesObject] = {}
        self._static_known = False
        self._left: dict[str, Name] = {}
        self.index()

    def index(self) -> None:
        """Take over what has changed in desired state."""
        self._pods = {
            uid: found
            for source in (self._desired.objects, self._static)
            for uid, found in source.items()
            if isinstance(found, Pod)
        }
        self._by_name = {_name(found): found for found in self._desired.objects.values()}
        self._static_by_name = {_name(found): found for found in self._static.values()}

    def set_static(self, objects: Mapping[str, KubernetesObject]) -> Change:
        """The folder's objects are now these."""
        old, self._static, self._static_known = self._static, objects, True
        self._left = {uid: _name(found) for uid, found in old.items()}
        both = old.keys() & objects.keys()
        return Change(
            added=frozenset(objects.keys() - old.keys()),
            changed=frozenset(uid for uid in both if old[uid] != objects[uid]),
            removed=frozenset(old.keys() - objects.keys()),
        )

    def pods(self) -> Mapping[str, Pod]:
        """All pods, by uid."""
        return self._pods

    def pod(self, uid: str) -> Pod | None:
        """The pod of that uid."""
        return self._pods.get(uid)

    def is_static(self, uid: str) -> bool:
        """Whether it comes from the folder."""
        return uid in self._static

    def digest(self, uid: str) -> str:
        """What changes when the object does."""
        entry = self._desired.entries.get(uid)
        return entry.digest if entry is not None else digest(canonical_json(self._static[uid]))

    def find(self, kind: str, namespace: str, name: str, *, static: bool) -> KubernetesObject | None:
        """The object of that name; a Secret may be found sealed. ``static``: as the folder's pods see it."""
        for named in (self._static_by_name, self._by_name) if static else (self._by_name,):
            for written in (kind, f"Sealed{kind}"):
                if (found := named.get((written, namespace, name))) is not None:
                    return found
        return None

    def names(self, uids: Collection[str]) -> set[Name]:
        """Kind, namespace and name of those that are, or just were."""
        found = {_name(o) for uid in uids if (o := self._desired.objects.get(uid) or self._static.get(uid))}
        # What was removed from desired state is known by uid alone; its pods look at it when they restart.
        return found | {self._left[uid] for uid in uids if uid in self._left}

    def may_remove(self, uid: str, *, static: bool) -> bool:
        """Whether a pod of which there are traces is known to be wanted no longer.

        Nothing is taken for deleted without an index, nor for the sake of one out of an old snapshot, nor
        before the folder was read.
        """
        if uid in self._pods or uid in self._desired.unreadable:
            return uid in self._pods
        if static:
            return self._static_known
        return self._desired.confirmed and self._desired.generation > 0


def _name(found: KubernetesObject) -> Name:
    return type(found).__name__, found.metadata.namespace, found.metadata.name


def refers_to(pod: Pod, names: set[Name]) -> bool:
    """Whether a volume of ``pod`` shows one of the named objects; a Secret may be sealed."""
    plain = {(kind.removeprefix("Sealed"), namespace, name) for kind, namespace, name in names}
    return not plain.isdisjoint(volume_references(pod))
