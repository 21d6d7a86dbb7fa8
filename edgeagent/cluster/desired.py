"""What one node should have, from the objects of the cluster. Pure: no store, no broker, no clock.

May not decide when or how anything is published.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.config import ConfigMap, SealedSecret, Secret
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.network import PodAddress
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.objects.references import Reference, references
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.index import MAX_INDEX_BYTES, MAX_OBJECTS, IndexEntry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object that travels: its line in the index, and its canonical bytes."""

    entry: IndexEntry
    body: bytes


def wanted(
    node: str,
    pods: Iterable[Pod],
    find: Callable[[Reference], ConfigMap | Secret | None],
    seal: Callable[[Secret], SealedSecret],
    shared: Iterable[Wanted] = (),
) -> list[Wanted]:
    """Everything ``node`` should have, sorted: its pods that are not being deleted, and what they refer to.

    ``shared`` is what it is told beside these.
    A reference to what does not exist is left out: the node says so in the pod's status.
    """
    found: dict[str, Wanted] = {}
    needed: set[Reference] = set()
    for pod in pods:
        if pod.spec.node_name == node and not pod.metadata.deletion_timestamp:
            found[pod.metadata.uid] = travelling(msgspec.structs.replace(pod, status=PodStatus()))
            needed |= references(pod)
    for reference in sorted(needed):
        target = find(reference)
        if target is not None:
            found[target.metadata.uid] = travelling(seal(target) if isinstance(target, Secret) else target)
    found.update((one.entry.uid, one) for one in shared)
    result = sorted(found.values(), key=lambda one: (one.entry.kind, one.entry.namespace, one.entry.name))
    problem = _too_much(node, result)
    if problem is not None and any(one.entry.kind == PodAddress.__name__ for one in result):
        # Policies then let fewer pods in; without an index the node's own pods would stand still.
        log.warning(
            "%s: it is not told of pods of other nodes, and its policies let none of them in", problem
        )
        result = [one for one in result if one.entry.kind != PodAddress.__name__]
        problem = _too_much(node, result)
    if problem is not None:
        raise problem
    return result


def _too_much(node: str, objects: Sequence[Wanted]) -> InvalidObjectError | None:
    """Why no index can list them; None where one can."""
    if len(objects) > MAX_OBJECTS:
        return InvalidObjectError(
            "", f"node {node} would have {len(objects)} objects, more than {MAX_OBJECTS}"
        )
    if len(canonical_json([one.entry for one in objects])) > MAX_INDEX_BYTES - 1000:
        return InvalidObjectError(
            "", f"the list of node {node}'s objects is larger than {MAX_INDEX_BYTES} bytes"
        )
    return None


def travelling(kept: KubernetesObject) -> Wanted:
    """``kept`` as it travels."""
    body = canonical_json(kept)
    meta = kept.metadata
    entry = IndexEntry(
        kind=type(kept).__name__,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        digest=digest(body),
        size=len(body),
    )
    return Wanted(entry, body)
