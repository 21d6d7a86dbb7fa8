"""Network: what a network plugin answers with. Pods with ``hostNetwork`` are never attached."""

from typing import Literal, Protocol

import msgspec

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.network import HostFirewall, NodeNetwork
from edgeagent.api.objects.policy import NetworkPolicy
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent.api.objects.service import Service

Rows = Literal["services", "policies", "peers", "drops", "firewall"]
"""What ``Network.show`` can list."""


class HostPort(KubernetesStruct, frozen=True):
    """A port of the host that leads to a port of a pod; ``host_ip`` empty: on every address."""

    host_port: int
    container_port: int
    protocol: Transport = "TCP"
    host_ip: str = msgspec.field(default="", name="hostIP")


class PodSandbox(KubernetesStruct, frozen=True):
    """The pod that wants a network: its identity."""

    uid: str
    namespace: str
    name: str


class Attachment(KubernetesStruct, frozen=True):
    """A pod's place on the network: the namespace to join by path, and its addresses, first one primary."""

    namespace_path: str
    ips: list[str]


class NamedPort(KubernetesStruct, frozen=True):
    """A port that a container of a pod gives a name to."""

    name: str
    port: int
    protocol: Transport = "TCP"


class NetworkPod(KubernetesStruct, frozen=True):
    """A pod that has an address. ``node`` is empty for this node; ``ips`` of a pod on the host's network are
    the node's own. ``ready``: whether services may send it new connections.
    """

    uid: str
    namespace: str
    name: str
    ips: list[str]
    node: str = ""
    labels: dict[str, str] = {}
    host_network: bool = False
    ready: bool = False
    terminating: bool = False
    host_ports: list[HostPort] = []
    named_ports: list[NamedPort] = []


class Backend(KubernetesStruct, frozen=True):
    """Where a Service's port leads. ``node`` is empty for this node, ``?`` where nobody knows.

    ``hostname`` is what DNS calls it below the Service's name. ``ready`` takes new connections; ``serving``
    and ``terminating`` as in an EndpointSlice.
    """

    ip: str
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    hostname: str = ""


class NetworkService(KubernetesStruct, frozen=True):
    """A Service, and its backends by the name of its port (empty for the only, nameless one)."""

    service: Service
    backends: dict[str, list[Backend]] = {}


class NetworkState(KubernetesStruct, frozen=True):
    """Everything the node's network should be. What did not change is the very same object as before.

    ``pods``: those of this node; ``remote_pods``: those of others that policies here may select.
    ``namespaces``: labels by name. ``nodes``: all of the cluster, this one too, by ``metadata.name``;
    ``node`` is this one's name. ``connected``: whether the broker is reached, for the firewall's sake.
    ``broker_addresses`` are where it is, as ``host:port``.
    """

    node: str
    pods: list[NetworkPod] = []
    remote_pods: list[NetworkPod] = []
    namespaces: dict[str, dict[str, str]] = {}
    services: list[NetworkService] = []
    policies: list[NetworkPolicy] = []
    nodes: list[NodeNetwork] = []
    firewall: HostFirewall | None = None
    connected: bool = False
    broker_addresses: list[str] = []


class Problem(KubernetesStruct, frozen=True):
    """What of the state is not in force, and why. ``kind``, ``namespace`` and ``name`` are the object's."""

    kind: str
    namespace: str
    name: str
    reason: str
    message: str


class NetworkReport(KubernetesStruct, frozen=True):
    """What became of a state. ``public_key``: this node's, for WireGuard. ``dns``: where pods ask for names.

    ``retry_after`` seconds: when the plugin wants to be called again with the same state; 0 for never.
    ``on_trial``: something is in force that only stays if it does not cost the broker. Until that is decided,
    ``connected`` of a state is what the broker itself has just answered.
    """

    problems: list[Problem] = []
    public_key: str = ""
    dns: list[str] = []
    retry_after: float = 0
    on_trial: bool = False


class Network(Protocol):
    """Gives pods a network namespace and takes it back, and makes the node's network as it should be.

    Every call is idempotent. The calls never overlap.
    """

    def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's namespace and addresses, made if need be, the same for as long as the pod lives."""

    def detach(self, pod: PodSandbox) -> None:
        """Give back what ``attach`` made; succeeds where nothing is left."""

    def reconcile(self, state: NetworkState) -> NetworkReport:
        """Make the node's network as ``state`` says, whatever it was before. An object that cannot be put in
        force is reported and keeps nothing else from being.
        """

    def show(self, what: Rows) -> list[dict[str, str]]:
        """Rows for a person: what is in force, with its counters."""

    def trace(self, source: str, target: str, port: int, protocol: Transport) -> list[str]:
        """The way of a new connection between two addresses, and what passes or drops it, a step a line."""
