"""NodeStatus: what a node says of itself."""

from typing import Literal

from edgeagent.api.objects.base import Condition, KubernetesStruct, ObjectMeta


class NodeSystemInfo(KubernetesStruct, frozen=True):
    """``status.nodeInfo`` of a Kubernetes Node."""

    architecture: str = ""
    kernel_version: str = ""
    os_image: str = ""
    operating_system: str = "linux"
    container_runtime_version: str = ""
    kubelet_version: str = ""
    boot_id: str = ""
    machine_id: str = ""


class PluginStatus(KubernetesStruct, frozen=True, omit_defaults=False):
    """One plugin's health as a person sees it. ``memory_bytes``: what importing it brought."""

    name: str
    distribution: str
    version: str
    state: Literal["Loaded", "Running", "Backoff", "Failed", "Stopped"]
    reason: str = ""
    lane: str = "thread"
    queued: int = 0
    busy: int = 0
    memory_bytes: int = 0


class NodeAddress(KubernetesStruct, frozen=True):
    """``type`` is ``InternalIP`` or ``Hostname``."""

    type: str
    address: str


class AuditHead(KubernetesStruct, frozen=True):
    """The newest row of an audit log: the log's name, the row's number (0 before the first) and its hash."""

    chain: str = ""
    sequence: int = 0
    hash: str = ""


class NodeStatus(KubernetesStruct, frozen=True):
    """``observed_generation`` is the newest index the node has switched to, 0 for none.

    ``public_key`` is the node's own for WireGuard, in base64, empty where it has none, and
    ``public_key_proof`` what the node has signed of it. ``audit`` is how far its audit log goes.
    """

    observed_generation: int = 0
    conditions: list[Condition] = []
    addresses: list[NodeAddress] = []
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    node_info: NodeSystemInfo = NodeSystemInfo()
    plugins: list[PluginStatus] = []
    public_key: str = ""
    public_key_proof: bytes = b""
    audit: AuditHead = AuditHead()


class Node(KubernetesStruct, frozen=True, tag_field="kind", tag="Node"):
    """A Kubernetes Node."""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    status: NodeStatus = NodeStatus()
