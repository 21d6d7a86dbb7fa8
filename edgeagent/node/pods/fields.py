"""The downward API: fields of a pod, and resources of its containers, as text.

https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

import re
from collections.abc import Mapping

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.volume import ObjectFieldSelector, ResourceFieldSelector
from edgeagent.api.quantity import NANO, nano_quantity
from edgeagent.node.pods.lookup import PodFacts

_ENTRY = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)
_ESCAPES = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
    "\\": r"\\", '"': r"\"",
}  # fmt: skip


def field_value(selector: ObjectFieldSelector, facts: PodFacts) -> str:
    """The field that ``selector`` names, as a variable or a file holds it; an absent label is empty.

    PermanentError (reason ``CreateContainerConfigError``) names a field that cannot be given this way.
    """
    meta, path = facts.pod.metadata, selector.field_path
    if entry := _ENTRY.fullmatch(path):
        return (meta.labels if entry[1] == "labels" else meta.annotations).get(entry[2], "")
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "spec.nodeName":
            return facts.node_name
        case "spec.serviceAccountName":
            return facts.pod.spec.service_account_name
        case "status.hostIP" | "status.hostIPs":
            return facts.host_ip
        case "status.podIP":
            return facts.pod_ips[0] if facts.pod_ips else ""
        case "status.podIPs":
            return ",".join(facts.pod_ips)
    raise _error(f"fieldPath {path[:80]!r} is not supported")


def volume_field_value(selector: ObjectFieldSelector, facts: PodFacts) -> str:
    """As ``field_value``, and also the whole ``metadata.labels`` or ``metadata.annotations``.

    These are lines of ``key="escaped value"``, in the order of their keys.
    """
    match selector.field_path:
        case "metadata.labels":
            return _lines(facts.pod.metadata.labels)
        case "metadata.annotations":
            return _lines(facts.pod.metadata.annotations)
    return field_value(selector, facts)


def resource_value(selector: ResourceFieldSelector, facts: PodFacts, container: Container | None) -> str:
    """A limit or request in units of the divisor, rounded up.

    ``container`` is the one that asks; where the selector names another, as it must in a volume, that one
    counts. A missing limit is what the node can allocate, a missing request is the limit, else 0.
    PermanentError (reason ``CreateContainerConfigError``) names what cannot be given.
    """
    if name := selector.container_name:
        every = [*facts.pod.spec.init_containers, *facts.pod.spec.containers]
        container = next((each for each in every if each.name == name), None)
    if container is None:
        raise _error(f"container {name!r} not found" if name else "containerName is required")
    side, _, resource = selector.resource.partition(".")
    if side not in ("limits", "requests") or resource not in ("cpu", "memory", "ephemeral-storage"):
        raise _error(f"resource {selector.resource[:80]!r} is not supported")
    limits, requests = container.resources.limits, container.resources.requests
    try:
        if side == "requests":
            amount = nano_quantity(requests.get(resource, limits.get(resource, 0)))
        else:
            amount = nano_quantity(limits.get(resource, 0))
            amount = amount or round(facts.allocatable.get(resource, 0) * NANO)
        divisor = nano_quantity(selector.divisor) if selector.divisor else NANO
    except ValueError as error:
        raise _error(f"resource {selector.resource}: {error}") from None
    return str(-(-amount // (divisor or NANO)))


def _lines(entries: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(entries.items()))


def _quoted(text: str) -> str:
    """``text`` as Go's ``%q`` writes it, for that is what readers of these files expect."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES or char.isprintable():
        return _ESCAPES.get(char, char)
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _error(message: str) -> PermanentError:
    return PermanentError(message, reason="CreateContainerConfigError")
