"""What a node reports: its presence, its pods and its events."""

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.pod import PodStatus


class Presence(KubernetesStruct, frozen=True, omit_defaults=False):
    """``session`` rises with every connection of the node: a late will of an older session is passed over."""

    online: bool
    session: int


class PodReport(KubernetesStruct, frozen=True, omit_defaults=False):
    """What a node's pod topic holds: the uid tells a pod from an earlier one of the same name."""

    uid: str
    generation: int
    status: PodStatus


class EventReport(KubernetesStruct, frozen=True, omit_defaults=False):
    """An Event out of a node's outbox. Repeats show by ``stream`` and ``sequence``, unique together."""

    stream: str
    sequence: int
    event: Event
