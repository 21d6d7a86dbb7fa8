"""From the data of one manifest file to the objects it stands for, as the kubelet does for its static pods.

Pure: no file is opened here.
https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import KINDS, MAX_OBJECT_BYTES, KubernetesObject, decode_object
from edgeagent.api.objects.network import HostFirewall, NodeNetwork
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.redaction import refuse_redacted
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.api.objects.validate import validate_label, validate_name
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.normalise import normalise
from edgeagent.wire.reports import ANNOTATION_FILE, ANNOTATION_HASH, ANNOTATION_SOURCE

DEFAULT_NAMESPACE = "default"
UID_LENGTH = 32

ClusterObject = Namespace | HostFirewall | NodeNetwork
"""What is in no namespace."""
KeptObject = Pod | ConfigMap | Service | EndpointSlice | NetworkPolicy | ClusterObject
"""What may be written to disk as it is."""
StaticObject = KeptObject | Secret
"""What a manifest in the folder may hold."""
Key = tuple[str, str, str]
"""Kind, namespace and name."""

_LIST_KINDS = frozenset(["List", *(f"{kind}List" for kind in KINDS)])


class Origin(msgspec.Struct, frozen=True):
    """Where a manifest comes from. ``changed``: the file's time stamp, in seconds since the epoch."""

    file: str
    node: str
    changed: float


def key_of(one: KubernetesObject) -> Key:
    """What names ``one`` among all objects of a node."""
    return type(one).__name__, one.metadata.namespace, one.metadata.name


def describe(key: Key) -> str:
    """``Pod default/web-n1``."""
    return f"{key[0]} {key[1]}/{key[2]}"


def read_objects(documents: Iterable[tuple[int, object]], origin: Origin) -> list[StaticObject]:
    """The objects of one file, from its documents' numbers and data.

    InvalidObjectError names the document and the path in it. A file without an object is an error, for what a
    power cut left of it may be empty; whoever wants its pods gone removes the file.
    """
    found: dict[Key, StaticObject] = {}
    for number, data in documents:
        for path, item in _items(data):
            try:
                made = _static(item, origin)
                if (key := key_of(made)) in found:
                    raise InvalidObjectError("metadata.name", f"{describe(key)} is in this file twice")
            except InvalidObjectError as error:
                where = f"document {number}"
                raise InvalidObjectError(where, str(error.within(path) if path else error)) from None
            found[key] = made
    if not found:
        raise InvalidObjectError("", "there is no object in it")
    return list(found.values())


class Merged(msgspec.Struct, frozen=True):
    """All files together: the objects by uid, the file that each key is from, what files hold in vain."""

    objects: Mapping[str, StaticObject]
    owners: Mapping[Key, str]
    doubles: Mapping[str, str]


def merge(files: Mapping[str, Sequence[StaticObject]], owners: Mapping[Key, str]) -> Merged:
    """Each object once. Of files that define the same, its owner so far keeps it, else the first by name."""
    claims: dict[Key, list[tuple[str, StaticObject]]] = {}
    for name in sorted(files):
        for one in files[name]:
            claims.setdefault(key_of(one), []).append((name, one))
    objects: dict[str, StaticObject] = {}
    owned: dict[Key, str] = {}
    doubles: dict[str, list[str]] = {}
    for key, claimed in claims.items():
        winner, one = next((c for c in claimed if c[0] == owners.get(key)), claimed[0])
        owned[key] = winner
        objects[one.metadata.uid] = one
        for name, _ in claimed:
            if name != winner:
                doubles.setdefault(name, []).append(f"{describe(key)} is already defined in {winner}")
    return Merged(objects, owned, {name: "; ".join(lines) for name, lines in doubles.items()})


def aged(one: StaticObject, before: StaticObject | None) -> StaticObject:
    """``one``, as old as the same object was ``before``: saving a file makes it no younger."""
    if before is None:
        return one
    created = before.metadata.creation_timestamp
    metadata = msgspec.structs.replace(one.metadata, creation_timestamp=created)
    return msgspec.structs.replace(one, metadata=metadata)


def _items(data: object) -> Iterator[tuple[str, object]]:
    """The object itself, or the items of a List with their paths."""
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(kind, str) or kind not in _LIST_KINDS:
        yield "", data
        return
    items = data.get("items")
    if not isinstance(items, list):
        raise InvalidObjectError("items", "expected array")
    for index, item in enumerate(items):
        yield f"items[{index}]", item


def _static(data: object, origin: Origin) -> StaticObject:
    made = decode_object(normalise(data))
    _check_size(made)
    match made:
        case Pod():
            return _static_pod(made, origin)
        case ConfigMap():
            return msgspec.structs.replace(made, metadata=_metadata(made, origin))
        case Service():
            _check_service(made)
            return msgspec.structs.replace(made, metadata=_metadata(made, origin))
        case EndpointSlice() | NetworkPolicy() | Namespace() | HostFirewall() | NodeNetwork():
            return msgspec.structs.replace(made, metadata=_metadata(made, origin))
        case Secret():
            refuse_redacted(made)
            opened = made.data | {key: text.encode() for key, text in made.string_data.items()}
            metadata = _metadata(made, origin)
            return msgspec.structs.replace(made, metadata=metadata, data=opened, string_data={})
    kinds = ", ".join(kind.__name__ for kind in get_args(StaticObject))
    raise InvalidObjectError("kind", f"a {type(made).__name__} is none of {kinds}")


def _check_service(service: Service) -> None:
    """Nobody gives addresses here: the manifest says the Service's own."""
    spec = service.spec
    if spec.type != "ExternalName" and not spec.cluster_ip:
        raise InvalidObjectError(
            "spec.clusterIP",
            "required in the node's own folder, where no hub gives addresses: name one, or None",
        )
    for index, port in enumerate(spec.ports):
        if spec.type == "NodePort" and not port.node_port:
            raise InvalidObjectError(
                f"spec.ports[{index}].nodePort", "required in the node's own folder, where no hub gives ports"
            )


def _static_pod(pod: Pod, origin: Origin) -> Pod:
    written = msgspec.structs.replace(pod, metadata=_written(pod.metadata), status=PodStatus())
    uid = static_uid(written, origin)
    name = f"{pod.metadata.name}-{origin.node}"
    validate_name(name, "metadata.name")
    metadata = msgspec.structs.replace(
        written.metadata,
        name=name,
        uid=uid,
        generation=1,
        creation_timestamp=rfc3339(origin.changed),
        annotations={
            **written.metadata.annotations,
            ANNOTATION_SOURCE: "file",
            ANNOTATION_HASH: uid,
            ANNOTATION_FILE: origin.file,
        },
    )
    spec = msgspec.structs.replace(pod.spec, node_name=origin.node)
    return msgspec.structs.replace(written, metadata=metadata, spec=spec)


def static_uid(pod: Pod, origin: Origin) -> str:
    """The pod's identity: a hash of what the manifest says, of the node's name and of the file's path.

    As the kubelet has it, so a changed manifest is another pod; its comments and layout do not count.
    """
    parts = (canonical_json(pod), f"host:{origin.node}".encode(), f"file:{origin.file}".encode())
    return digest(b"\0".join(parts))[:UID_LENGTH]


def _metadata(made: StaticObject, origin: Origin) -> ObjectMeta:
    """Of an object that is referred to by name: it stays the same one when its data changes."""
    written = _written(made.metadata)
    if isinstance(made, ClusterObject):
        if made.metadata.namespace:
            raise InvalidObjectError("metadata.namespace", f"a {type(made).__name__} is in no namespace")
        written = msgspec.structs.replace(written, namespace="")
    identity = "\0".join((type(made).__name__, written.namespace, written.name, origin.node))
    return msgspec.structs.replace(
        written, uid=digest(identity.encode())[:UID_LENGTH], creation_timestamp=rfc3339(origin.changed)
    )


def _written(metadata: ObjectMeta) -> ObjectMeta:
    """What a person may say in a manifest; everything else there is the node's to set."""
    namespace = metadata.namespace or DEFAULT_NAMESPACE
    validate_label(namespace, "metadata.namespace")
    return ObjectMeta(
        name=metadata.name,
        namespace=namespace,
        labels=metadata.labels,
        annotations=metadata.annotations,
    )


def _check_size(made: KubernetesObject) -> None:
    try:
        size = len(msgspec.json.encode(made))
    except UnicodeEncodeError:
        raise InvalidObjectError("", "holds text that is no Unicode (half of a surrogate pair)") from None
    if size > MAX_OBJECT_BYTES:
        raise InvalidObjectError("", f"{size} bytes, more than the {MAX_OBJECT_BYTES} allowed")
