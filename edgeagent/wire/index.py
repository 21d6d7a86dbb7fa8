"""The index: the signed list of everything one node should have."""

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import MAX_OBJECT_BYTES, KubernetesObject, decode_json, decode_object_json
from edgeagent.api.objects.validate import require
from edgeagent.wire.canonical import canonical_json, digest, is_digest
from edgeagent.wire.signedtime import LATEST

MAX_INDEX_BYTES = 8_000_000
MAX_OBJECTS = 20_000


class IndexEntry(KubernetesStruct, frozen=True):
    """One object: what it is, who it is (``uid``), and the digest and size of its canonical bytes."""

    kind: str
    namespace: str
    name: str
    uid: str
    digest: str
    size: int


class Index(KubernetesStruct, frozen=True):
    """What ``node`` should have at ``generation``, which only ever rises."""

    cluster: str
    node: str
    generation: int
    issued_at: str
    objects: list[IndexEntry]


def encode_index(index: Index) -> bytes:
    """The canonical bytes that are signed."""
    return canonical_json(index)


def decode_index(payload: bytes, *, cluster: str, node: str) -> Index:
    """An index meant for this very node. The payload must already be verified.

    Raises InvalidObjectError, or PermanentError (reason ``WrongNode``) for another's.
    """
    index = decode_json(payload, Index, limit=MAX_INDEX_BYTES)
    if index.cluster != cluster or index.node != node:
        raise PermanentError(
            f"the index is for node {index.node!r} of cluster {index.cluster!r}, not {node!r} of {cluster!r}",
            reason="WrongNode",
        )
    issued(index)
    if index.generation < 1:
        raise InvalidObjectError("generation", "must be at least 1")
    if len(index.objects) > MAX_OBJECTS:
        raise InvalidObjectError("objects", f"more than {MAX_OBJECTS}")
    seen: set[str] = set()
    for position, entry in enumerate(index.objects):
        place = f"objects[{position}]"
        if not 0 < entry.size <= MAX_OBJECT_BYTES:
            raise InvalidObjectError(f"{place}.size", f"must be between 1 and {MAX_OBJECT_BYTES}")
        if not is_digest(entry.digest):
            raise InvalidObjectError(f"{place}.digest", "must be a SHA-256 in lower-case hex")
        if not entry.uid or entry.uid in seen:
            raise InvalidObjectError(f"{place}.uid", "must be there, and once only")
        seen.add(entry.uid)
    return index


def issued(index: Index) -> float:
    """When it was made, in seconds since the epoch; InvalidObjectError where it says no time."""
    try:
        time = parse_rfc3339(index.issued_at)
    except (ValueError, OverflowError):
        raise InvalidObjectError("issuedAt", "must be a time as in RFC 3339") from None
    require(time < LATEST, "issuedAt", "is none that can be")
    return time


def describe_entry(entry: IndexEntry) -> str:
    """How a person names the entry: ``ConfigMap default/web``."""
    return f"{entry.kind} {entry.namespace}/{entry.name}"


def check_object(entry: IndexEntry, body: bytes) -> KubernetesObject:
    """The decoded object, shown to be the very one that the signed entry names; raises InvalidObjectError."""
    if len(body) != entry.size or digest(body) != entry.digest:
        raise InvalidObjectError("", f"{describe_entry(entry)} does not have the digest that the index names")
    try:
        found = decode_object_json(body)
    except InvalidObjectError as error:
        raise InvalidObjectError(error.path, f"{error.problem} (in {describe_entry(entry)})") from None
    meta = found.metadata
    if (type(found).__name__, meta.namespace, meta.name, meta.uid) != (
        entry.kind, entry.namespace, entry.name, entry.uid,
    ):  # fmt: skip
        raise InvalidObjectError("metadata", f"is not that of {describe_entry(entry)}, which the index names")
    return found
