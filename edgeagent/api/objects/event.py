"""Event: something that happened, said once and counted when it repeats."""

from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta, ObjectReference


class EventSource(KubernetesStruct, frozen=True):
    """Which component said it, and on which node."""

    component: str = ""
    host: str = ""


class Event(KubernetesStruct, frozen=True, tag_field="kind", tag="Event"):
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ (the core/v1 shape)"""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    involved_object: ObjectReference
    reason: str
    message: str = ""
    type: Literal["Normal", "Warning"] = "Normal"
    source: EventSource = EventSource()
    first_timestamp: str = ""
    last_timestamp: str = ""
    count: int = 1
