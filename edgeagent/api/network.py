"""Network: what a network plugin answers with. Pods with ``hostNetwork`` never reach it."""

from typing import Protocol

from edgeagent.api.objects.base import KubernetesStruct


class PodSandbox(KubernetesStruct, frozen=True):
    """The pod that wants a network, by identity alone."""

    uid: str
    namespace: str
    name: str


class Attachment(KubernetesStruct, frozen=True):
    """A pod's place on the network: the namespace to join by path, and its addresses, first one primary."""

    namespace_path: str
    ips: list[str]


class Network(Protocol):
    """Gives pods a network namespace and takes it back. Both calls are idempotent."""

    def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's namespace and addresses, made if need be, the same for as long as the pod lives."""

    def detach(self, pod: PodSandbox) -> None:
        """Give back what ``attach`` made; succeeds where nothing is left."""
