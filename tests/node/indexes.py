"""Signed indexes for tests, made as the hub makes them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.blob import encode_blob
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.envelope import INDEX_TYPE, encode_envelope, sign_envelope
from edgeagent.wire.index import Index, IndexEntry, encode_index
from edgeagent.wire.keys import SigningKey

CLUSTER, NODE = "plant", "n1"
KEY = SigningKey(bytes(range(32)))
ANCHOR = TrustAnchor(cluster=CLUSTER, serial=1, key=KEY.public.raw)


def config_map(name: str, value: str = "", *, uid: str = "") -> ConfigMap:
    """A ConfigMap with one key."""
    meta = ObjectMeta(name=name, namespace="default", uid=uid or f"uid-{name}")
    return ConfigMap(api_version="v1", metadata=meta, data={"value": value})


def simple_pod(name: str, *, uid: str = "", image: str = "image:1", generation: int = 1) -> Pod:
    """A pod of one container."""
    meta = ObjectMeta(name=name, namespace="default", uid=uid or f"uid-{name}", generation=generation)
    container = Container(name="main", image=image, image_pull_policy="IfNotPresent")
    spec = PodSpec(containers=[container], node_name=NODE, host_network=True)
    return Pod(api_version="v1", metadata=meta, spec=spec)


@dataclass
class SignedIndex:
    """An index as it lies on the broker, with the object blobs it names by digest."""

    index: Index
    payload: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the signed bytes."""
        return digest(encode_index(self.index))


def entry_of(item: KubernetesObject) -> tuple[IndexEntry, bytes]:
    """The index entry of an object, and its canonical bytes."""
    body = canonical_json(item)
    meta = item.metadata
    return (
        IndexEntry(
            kind=type(item).__name__, namespace=meta.namespace, name=meta.name, uid=meta.uid,
            digest=digest(body), size=len(body),
        ),
        body,
    )  # fmt: skip


def signed_index(
    generation: int,
    objects: Sequence[KubernetesObject],
    *,
    key: SigningKey = KEY,
    node: str = NODE,
    cluster: str = CLUSTER,
    limit: int = 200_000,
) -> SignedIndex:
    """What a hub with signing key ``key`` would publish."""
    pairs = [entry_of(item) for item in objects]
    index = Index(
        cluster=cluster, node=node, generation=generation, issued_at="2026-01-01T00:00:00Z",
        objects=[entry for entry, _ in pairs],
    )  # fmt: skip
    envelope = sign_envelope(INDEX_TYPE, encode_index(index), key.public.id, key)
    blob = encode_blob(encode_envelope(envelope), limit)
    result = SignedIndex(index, blob.payload, dict(blob.chunks))
    for entry, body in pairs:
        packed = encode_blob(body, limit)
        result.blobs[entry.digest] = packed.payload
        result.blobs.update(packed.chunks)
        result.bodies[entry.digest] = body
    return result


class FixedRandom(random.Random):
    """Chance that always draws the lowest value, so that no test waits."""

    def uniform(self, a: float, b: float) -> float:
        """The lower bound."""
        return a
