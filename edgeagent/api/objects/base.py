"""The base of every object and message struct, and the metadata that all objects share."""

import msgspec


class KubernetesStruct(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    """A frozen struct that refuses unknown fields and writes only what was set."""


class ObjectMeta(KubernetesStruct, frozen=True):
    """``metadata`` of an object. The hub sets ``uid``, ``resource_version`` and the time stamps."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ObjectReference(KubernetesStruct, frozen=True):
    """What an Event is about."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    field_path: str = ""


class Condition(KubernetesStruct, frozen=True):
    """One condition of a pod or node status; ``status`` is ``True``, ``False`` or ``Unknown``."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
