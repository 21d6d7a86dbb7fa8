"""The calls ``top`` and ``toppods``: what nodes and pods use, in the shapes of Kubernetes' metrics API.

https://kubernetes.io/docs/reference/external-api/metrics.v1beta1/
"""

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta
from edgeagent.wire.rpc import CallParams

METRICS_API = "metrics.k8s.io/v1beta1"


class TopParams(CallParams, frozen=True):
    """The node, and all of its pods."""


class TopPodsParams(CallParams, frozen=True):
    """The pods of one namespace, empty for all; or the one called ``pod``."""

    namespace: str = ""
    pod: str = ""

    def about(self) -> tuple[str, str]:
        """The pod, where one is named."""
        return self.namespace, self.pod


class NodeMetrics(KubernetesStruct, frozen=True, omit_defaults=False):
    """``usage`` under ``cpu`` and ``memory`` as quantities; what the kernel does not account for is left out.

    CPU is the mean of the ``window`` (a duration as Go writes it) that ends at ``timestamp``, memory the
    working set at its end.
    """

    metadata: ObjectMeta
    timestamp: str
    window: str
    usage: dict[str, str]
    kind: str = "NodeMetrics"
    api_version: str = METRICS_API


class ContainerMetrics(KubernetesStruct, frozen=True, omit_defaults=False):
    """One container, as in ``NodeMetrics``."""

    name: str
    usage: dict[str, str]


class PodMetrics(KubernetesStruct, frozen=True, omit_defaults=False):
    """The running containers of a pod, as in ``NodeMetrics``."""

    metadata: ObjectMeta
    timestamp: str
    window: str
    containers: list[ContainerMetrics]
    kind: str = "PodMetrics"
    api_version: str = METRICS_API


class TopResult(KubernetesStruct, frozen=True):
    """``node`` is None where pods alone were asked for; ``truncated`` where the last pods were left out."""

    node: NodeMetrics | None = None
    pods: list[PodMetrics] = []
    truncated: bool = False
