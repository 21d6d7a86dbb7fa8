"""What a node reports: its presence, its pods and its events."""

import msgspec

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.pod import Pod, PodSpec, PodStatus
from edgeagent.wire.canonical import canonical_json

MAX_MIRROR_BYTES = 65_536
"""The largest static pod that is reported as a whole."""
ANNOTATION_SOURCE = "kubernetes.io/config.source"
ANNOTATION_HASH = "kubernetes.io/config.hash"
ANNOTATION_MIRROR = "kubernetes.io/config.mirror"
"""Kubernetes' own: on a pod that a node runs by itself, and that can only be looked at elsewhere."""
ANNOTATION_FILE = "io.edgeagent.config.file"
"""Where the manifest lies on the node: what somebody must change who wants another pod."""
ANNOTATION_SHORTENED = "io.edgeagent.config.shortened"
_OWN_ANNOTATIONS = (ANNOTATION_SOURCE, ANNOTATION_HASH, ANNOTATION_MIRROR, ANNOTATION_FILE)


class Presence(KubernetesStruct, frozen=True, omit_defaults=False):
    """``session`` rises with every connection of the node: a late will of an older session is passed over."""

    online: bool
    session: int


class PodReport(KubernetesStruct, frozen=True):
    """What a node's pod topic holds: the uid tells a pod from an earlier one of the same name.

    ``pod`` is there for a static pod alone, which the hub knows of by nothing else: see ``mirror_of``.
    """

    uid: str
    generation: int
    status: PodStatus
    pod: Pod | None = None


def mirror_of(pod: Pod) -> Pod:
    """What the hub is told of a static pod: all of it but its status, marked as a mirror.

    Of one larger than ``MAX_MIRROR_BYTES`` only what a listing shows is told: names and images. Values of
    Secrets are never in it, for a pod only names them.
    """
    meta = pod.metadata
    annotations = {**meta.annotations, ANNOTATION_MIRROR: meta.uid}
    mirror = msgspec.structs.replace(
        pod, metadata=msgspec.structs.replace(meta, annotations=annotations), status=PodStatus()
    )
    if len(canonical_json(mirror)) <= MAX_MIRROR_BYTES:
        return mirror
    kept = {name: text for name, text in annotations.items() if name in _OWN_ANNOTATIONS}
    return msgspec.structs.replace(
        mirror,
        metadata=msgspec.structs.replace(meta, labels={}, annotations={**kept, ANNOTATION_SHORTENED: "true"}),
        spec=PodSpec(
            containers=[Container(name=one.name, image=one.image) for one in pod.spec.containers],
            node_name=pod.spec.node_name,
        ),
    )


class EventReport(KubernetesStruct, frozen=True, omit_defaults=False):
    """An Event out of a node's outbox. Repeats show by ``stream`` and ``sequence``, unique together."""

    stream: str
    sequence: int
    event: Event
