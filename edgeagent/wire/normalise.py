"""A manifest as people have it, brought to what the decoder takes.

People apply what ``kubectl get -o yaml`` printed and what tools wrote: with nulls, with a status, with what
only an API server sets. https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from edgeagent.api.errors import InvalidObjectError

SET_BY_THE_SERVER = ("managedFields", "ownerReferences", "selfLink")
"""Metadata that is accepted and dropped: a server keeps it for itself, and it changes nothing here.

``creationTimestamp``, ``generation`` and the like need no dropping, the hub sets its own; ``uid`` and
``resourceVersion`` do travel to the hub, which holds them against the object that it has, as Kubernetes does.
"""

_OWN_KEYS = frozenset(
    ["annotations", "binaryData", "data", "labels", "limits", "nodeSelector", "requests", "stringData"]
)
"""Maps whose keys are a person's own: a null in them is no absent field, and the decoder refuses it."""


def normalise(data: object) -> object:
    """``data`` of one object without nulls, without a pod's status, and without a server's metadata.

    Anything that is no mapping comes back as it is. InvalidObjectError for ``finalizers``, which nothing
    here waits for, and for ``generateName`` without a name, which kubectl refuses to apply as well.
    """
    if not isinstance(data, dict):
        return data
    made = _without_nulls(data)
    if made.get("kind") == "Pod":
        made.pop("status", None)
    if isinstance(metadata := made.get("metadata"), dict):
        made["metadata"] = _metadata(metadata)
    return made


def _metadata(metadata: dict[str, object]) -> dict[str, object]:
    kept = {key: value for key, value in metadata.items() if key not in SET_BY_THE_SERVER}
    if kept.pop("finalizers", None):
        raise InvalidObjectError("metadata.finalizers", "not supported, nothing would wait for them")
    if kept.pop("generateName", None) and not kept.get("name"):
        raise InvalidObjectError("metadata.generateName", "cannot be applied, give metadata.name")
    return kept


def _without_nulls(data: dict[str, object]) -> dict[str, object]:
    """A field that is null is one that is absent, as Kubernetes has it. A null in a list stays."""
    return {
        key: value if key in _OWN_KEYS else _below(value) for key, value in data.items() if value is not None
    }


def _below(value: object) -> object:
    if isinstance(value, dict):
        return _without_nulls(value)
    return [_below(item) for item in value] if isinstance(value, list) else value
