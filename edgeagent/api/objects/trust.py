"""What every node must know to judge who speaks: the cluster's CAs, and which operators no longer count."""

from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta

CLUSTER_TRUST_NAME = "cluster"
"""The name of the one ClusterTrust."""


class ClusterTrustSpec(KubernetesStruct, frozen=True):
    """``ca_bundle``: the CA certificates in force, each a PEM text; empty where the one from enrolment is.

    The first of it issues. ``revoked_operators``: serial numbers, in lower-case hex, of operators'
    certificates that are refused. ``enrolment``: where the broker lets in who has no certificate that counts,
    as ``host:port``. ``renewal_seconds``: within what time nodes whose certificate is of an older CA renew,
    each at a moment of its own.
    """

    ca_bundle: list[str] = []
    revoked_operators: list[str] = []
    enrolment: list[str] = []
    renewal_seconds: int = 600


class ClusterTrust(KubernetesStruct, frozen=True, tag_field="kind", tag="ClusterTrust"):
    """Made by the hub, and told to every node in its signed index."""

    api_version: Literal["edgeagent/v1"]
    metadata: ObjectMeta
    spec: ClusterTrustSpec = ClusterTrustSpec()
