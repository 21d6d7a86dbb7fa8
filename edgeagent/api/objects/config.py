"""ConfigMap, Secret, and the sealed form in which a Secret travels."""

from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta


class ConfigMap(KubernetesStruct, frozen=True, tag_field="kind", tag="ConfigMap"):
    """https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/config-map-v1/"""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    data: dict[str, str] = {}
    binary_data: dict[str, bytes] = {}
    immutable: bool = False


class Secret(KubernetesStruct, frozen=True, tag_field="kind", tag="Secret"):
    """https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/

    ``data`` is base64 in JSON and bytes here. ``string_data`` is folded into ``data`` by the hub.
    """

    api_version: Literal["v1"]
    metadata: ObjectMeta
    type: str = "Opaque"
    data: dict[str, bytes] = {}
    string_data: dict[str, str] = {}
    immutable: bool = False


class SealedSecret(KubernetesStruct, frozen=True, tag_field="kind", tag="SealedSecret"):
    """A Secret that only one node can open: what travels the wire and lies in the node's store.

    ``sealed`` is the ciphertext of the Secret's canonical JSON; ``metadata`` is its own in clear, for
    it holds nothing secret. Made by the hub, never written by a person.
    """

    api_version: Literal["edgeagent/v1"]
    metadata: ObjectMeta
    sealed: bytes
