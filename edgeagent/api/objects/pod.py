"""Pod: what to run (``PodSpec``) and what became of it (``PodStatus``).

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from typing import Annotated, Literal

import msgspec

from edgeagent.api.objects.base import Condition, KubernetesStruct, ObjectMeta
from edgeagent.api.objects.container import Container, RestartPolicy
from edgeagent.api.objects.security import PodSecurityContext
from edgeagent.api.objects.support import NO_EFFECT, NoEffect, Refused
from edgeagent.api.objects.volume import Volume


class HostAlias(KubernetesStruct, frozen=True):
    """A line of ``/etc/hosts``."""

    ip: str
    hostnames: list[str] = []


class PodDNSConfigOption(KubernetesStruct, frozen=True):
    """An option of ``resolv.conf``: ``name``, or ``name:value``."""

    name: str
    value: str = ""


class PodDNSConfig(KubernetesStruct, frozen=True):
    """What is added to the ``resolv.conf`` that ``dnsPolicy`` gives."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSConfigOption] = []


class LocalObjectReference(KubernetesStruct, frozen=True):
    """An object in the pod's namespace."""

    name: str = ""


class PodOS(KubernetesStruct, frozen=True):
    """The operating system of the pod's containers."""

    name: Literal["linux", "windows"]


class PodSpec(KubernetesStruct, frozen=True):
    """What a pod runs, and where. Durations are in seconds."""

    containers: list[Container]
    init_containers: list[Container] = []
    volumes: list[Volume] = []
    node_name: str = ""
    restart_policy: RestartPolicy = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    host_network: bool = False
    host_pid: bool = msgspec.field(default=False, name="hostPID")
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    share_process_namespace: bool = False
    hostname: str = ""
    subdomain: str = ""
    hostname_override: str = ""
    set_hostname_as_fqdn: bool = msgspec.field(default=False, name="setHostnameAsFQDN")
    host_aliases: list[HostAlias] = []
    dns_policy: Literal["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] = ""
    dns_config: PodDNSConfig | None = None
    image_pull_secrets: list[LocalObjectReference] = []
    security_context: PodSecurityContext | None = None
    priority: int | None = None
    priority_class_name: str = ""
    service_account_name: str = ""
    os: PodOS | None = None
    affinity: NoEffect = None
    automount_service_account_token: Annotated[bool | None, NO_EFFECT] = None
    enable_service_links: Annotated[bool | None, NO_EFFECT] = None
    eviction_responders: NoEffect = None
    node_selector: Annotated[dict[str, str], NO_EFFECT] = {}
    preemption_policy: Annotated[str, NO_EFFECT] = ""
    scheduler_name: Annotated[str, NO_EFFECT] = ""
    scheduling_group: NoEffect = None
    service_account: Annotated[str, NO_EFFECT] = ""
    tolerations: NoEffect = None
    topology_spread_constraints: NoEffect = None
    ephemeral_containers: Refused = None
    host_users: bool | None = None
    overhead: Refused = None
    readiness_gates: Refused = None
    resource_claims: Refused = None
    resources: Refused = None
    runtime_class_name: Refused = None
    scheduling_gates: Refused = None


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


class HostIP(KubernetesStruct, frozen=True):
    """One address of the pod's node."""

    ip: str


class PodStatus(KubernetesStruct, frozen=True):
    """The observed state of a pod, as the node reports it."""

    phase: Literal["", "Pending", "Running", "Succeeded", "Failed", "Unknown"] = ""
    conditions: list[Condition] = []
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    host_ips: list[HostIP] = msgspec.field(default_factory=list, name="hostIPs")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[PodIP] = msgspec.field(default_factory=list, name="podIPs")
    start_time: str = ""
    qos_class: str = ""
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []
    observed_generation: int = 0


class Pod(KubernetesStruct, frozen=True, tag_field="kind", tag="Pod"):
    """A Kubernetes Pod."""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus = PodStatus()
