"""NetworkPolicy, and the Namespace whose labels it selects by.

https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
"""

from typing import Literal

import msgspec

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta
from edgeagent.api.objects.selector import LabelSelector
from edgeagent.api.objects.service import Protocol

LABEL_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that every namespace has, with its name."""


class Namespace(KubernetesStruct, frozen=True, tag_field="kind", tag="Namespace"):
    """A namespace with its labels."""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    spec: dict[str, object] = {}
    status: dict[str, object] = {}


class IPBlock(KubernetesStruct, frozen=True):
    """The addresses of ``cidr`` without those of ``except``."""

    cidr: str
    except_: list[str] = msgspec.field(default_factory=list, name="except")


class NetworkPolicyPeer(KubernetesStruct, frozen=True):
    """Pods by labels (of the policy's own namespace unless ``namespace_selector`` is there), or addresses."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None


class NetworkPolicyPort(KubernetesStruct, frozen=True):
    """A port by number or name, up to ``end_port``; without ``port`` all of the protocol."""

    port: int | str | None = None
    end_port: int | None = None
    protocol: Protocol = "TCP"


class NetworkPolicyIngressRule(KubernetesStruct, frozen=True):
    """Who may come in, on which ports; an empty list of either is everyone, or every port."""

    from_: list[NetworkPolicyPeer] = msgspec.field(default_factory=list, name="from")
    ports: list[NetworkPolicyPort] = []


class NetworkPolicyEgressRule(KubernetesStruct, frozen=True):
    """Whom pods may reach, on which ports."""

    to: list[NetworkPolicyPeer] = []
    ports: list[NetworkPolicyPort] = []


class NetworkPolicySpec(KubernetesStruct, frozen=True):
    """``policy_types`` empty: Ingress, and Egress where there are egress rules."""

    pod_selector: LabelSelector = LabelSelector()
    ingress: list[NetworkPolicyIngressRule] = []
    egress: list[NetworkPolicyEgressRule] = []
    policy_types: list[Literal["Ingress", "Egress"]] = []


class NetworkPolicy(KubernetesStruct, frozen=True, tag_field="kind", tag="NetworkPolicy"):
    """What pods may be reached by, and what they may reach."""

    api_version: Literal["networking.k8s.io/v1"]
    metadata: ObjectMeta
    spec: NetworkPolicySpec = NetworkPolicySpec()


def policy_types(spec: NetworkPolicySpec) -> frozenset[str]:
    """The directions that the policy isolates the pods it selects in."""
    return frozenset(spec.policy_types or (["Ingress", "Egress"] if spec.egress else ["Ingress"]))
