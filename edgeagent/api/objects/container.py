"""One container of a pod: its program, environment, resources, ports and probes.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container
"""

from typing import Literal

import msgspec

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.probe import Lifecycle, Probe
from edgeagent.api.objects.security import SecurityContext
from edgeagent.api.objects.support import NoEffect, Refused
from edgeagent.api.objects.volume import ObjectFieldSelector, ResourceFieldSelector, VolumeMount

RestartPolicy = Literal["Always", "OnFailure", "Never"]


class ContainerPort(KubernetesStruct, frozen=True):
    """A port that a container listens on. With ``hostNetwork`` it is a statement, not a mapping."""

    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class KeySelector(KubernetesStruct, frozen=True):
    """One key of a ConfigMap or Secret in the pod's namespace."""

    name: str
    key: str
    optional: bool = False


class EnvVarSource(KubernetesStruct, frozen=True):
    """Where a variable's value comes from; exactly one field is set."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    file_key_ref: Refused = None


class EnvVar(KubernetesStruct, frozen=True):
    """One environment variable, by value or by source."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class SourceReference(KubernetesStruct, frozen=True):
    """A whole ConfigMap or Secret in the pod's namespace."""

    name: str
    optional: bool = False


class EnvFromSource(KubernetesStruct, frozen=True):
    """All keys of a ConfigMap or Secret as variables; exactly one reference is set."""

    prefix: str = ""
    config_map_ref: SourceReference | None = None
    secret_ref: SourceReference | None = None


class ResourceRequirements(KubernetesStruct, frozen=True):
    """``limits`` and ``requests`` by resource name, as Kubernetes quantities (``250m``, ``64Mi``)."""

    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}
    claims: Refused = None


class Container(KubernetesStruct, frozen=True):
    """One container of a pod. ``restart_policy`` ``Always`` makes an init container a sidecar."""

    name: str
    image: str
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFromSource] = []
    ports: list[ContainerPort] = []
    resources: ResourceRequirements = ResourceRequirements()
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    restart_policy: Literal["", "Always", "OnFailure", "Never"] = ""
    volume_mounts: list[VolumeMount] = []
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: Literal["File", "FallbackToLogsOnError"] = "File"
    resize_policy: NoEffect = None
    restart_policy_rules: Refused = None
    volume_devices: Refused = None
