"""Pod: what to run (``PodSpec``) and what became of it (``PodStatus``).

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from typing import Literal

import msgspec

from edgeagent.api.objects.base import Condition, KubernetesStruct, ObjectMeta


class ContainerPort(KubernetesStruct, frozen=True):
    """A port that a container listens on. With ``hostNetwork`` it is a statement, not a mapping."""

    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int = 0


class KeySelector(KubernetesStruct, frozen=True):
    """One key of a ConfigMap or Secret in the pod's namespace."""

    name: str
    key: str
    optional: bool = False


class EnvVarSource(KubernetesStruct, frozen=True):
    """Where a variable's value comes from; exactly one field is set."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


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


class Container(KubernetesStruct, frozen=True):
    """One container of a pod."""

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


class PodSpec(KubernetesStruct, frozen=True):
    """What a pod runs, and where."""

    containers: list[Container]
    node_name: str = ""
    host_network: bool = False
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30


class ContainerStateWaiting(KubernetesStruct, frozen=True):
    """Not running yet, or between two runs."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(KubernetesStruct, frozen=True):
    """Running since ``started_at``."""

    started_at: str = ""


class ContainerStateTerminated(KubernetesStruct, frozen=True, omit_defaults=False):
    """Ended. ``exit_code`` is 128+n for a process ended by signal n."""

    exit_code: int
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    container_id: str = msgspec.field(default="", name="containerID")


class ContainerStateUnion(KubernetesStruct, frozen=True):
    """At most one of the three is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(KubernetesStruct, frozen=True, omit_defaults=False):
    """The observed state of one container."""

    name: str
    state: ContainerStateUnion = ContainerStateUnion()
    last_state: ContainerStateUnion = ContainerStateUnion()
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")


class PodIP(KubernetesStruct, frozen=True):
    """One address of the pod."""

    ip: str


class PodStatus(KubernetesStruct, frozen=True):
    """The observed state of a pod, as the node reports it."""

    phase: Literal["", "Pending", "Running", "Succeeded", "Failed", "Unknown"] = ""
    conditions: list[Condition] = []
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[PodIP] = msgspec.field(default_factory=list, name="podIPs")
    start_time: str = ""
    container_statuses: list[ContainerStatus] = []
    observed_generation: int = 0


class Pod(KubernetesStruct, frozen=True, tag_field="kind", tag="Pod"):
    """A Kubernetes Pod."""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus = PodStatus()
