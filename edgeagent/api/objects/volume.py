"""Volumes of a pod, and where its containers see them.

https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/
"""

from typing import Literal

import msgspec

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.support import Refused

DEFAULT_MODE = 0o644


class KeyToPath(KubernetesStruct, frozen=True):
    """One key as the file ``path`` below the volume, with ``mode`` where the volume's default will not do."""

    key: str
    path: str
    mode: int | None = None
    user: Refused = None


class ObjectFieldSelector(KubernetesStruct, frozen=True):
    """A field of the pod, such as ``metadata.name`` or ``metadata.labels['app']``."""

    field_path: str
    api_version: Literal["", "v1"] = ""


class ResourceFieldSelector(KubernetesStruct, frozen=True):
    """A limit or request, such as ``limits.memory``, divided by ``divisor`` and rounded up."""

    resource: str
    container_name: str = ""
    divisor: str | int | float = ""


class EmptyDirVolumeSource(KubernetesStruct, frozen=True):
    """A folder that is empty at first and goes with the pod; with medium ``Memory`` it is a tmpfs."""

    medium: str = ""
    size_limit: str | int | float = ""
    mode: Refused = None


class HostPathVolumeSource(KubernetesStruct, frozen=True):
    """A path of the node itself."""

    path: str
    type: Literal[
        "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
    ] = ""


class ConfigMapVolumeSource(KubernetesStruct, frozen=True):
    """The keys of a ConfigMap as files, or ``items`` of them."""

    name: str = ""
    items: list[KeyToPath] = []
    default_mode: int = DEFAULT_MODE
    optional: bool = False
    default_user: Refused = None


class SecretVolumeSource(KubernetesStruct, frozen=True):
    """The keys of a Secret as files, or ``items`` of them; in memory only."""

    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: int = DEFAULT_MODE
    optional: bool = False
    default_user: Refused = None


class DownwardAPIVolumeFile(KubernetesStruct, frozen=True):
    """One field of the pod, or a resource of a container of it, as a file."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None
    user: Refused = None


class DownwardAPIVolumeSource(KubernetesStruct, frozen=True):
    """Facts about the pod as files."""

    items: list[DownwardAPIVolumeFile] = []
    default_mode: int = DEFAULT_MODE
    default_user: Refused = None


class ConfigMapProjection(KubernetesStruct, frozen=True):
    """A ConfigMap within a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool = False


class SecretProjection(KubernetesStruct, frozen=True):
    """A Secret within a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool = False


class DownwardAPIProjection(KubernetesStruct, frozen=True):
    """Facts about the pod within a projected volume."""

    items: list[DownwardAPIVolumeFile] = []


class VolumeProjection(KubernetesStruct, frozen=True):
    """One source of a projected volume; exactly one field is set."""

    config_map: ConfigMapProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(default=None, name="downwardAPI")
    service_account_token: Refused = None
    cluster_trust_bundle: Refused = None
    pod_certificate: Refused = None


class ProjectedVolumeSource(KubernetesStruct, frozen=True):
    """Several sources in one folder."""

    sources: list[VolumeProjection] = []
    default_mode: int = DEFAULT_MODE
    default_user: Refused = None


class Volume(KubernetesStruct, frozen=True):
    """A named volume; exactly one source is set."""

    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = msgspec.field(default=None, name="downwardAPI")
    projected: ProjectedVolumeSource | None = None
    aws_elastic_block_store: Refused = None
    azure_disk: Refused = None
    azure_file: Refused = None
    cephfs: Refused = None
    cinder: Refused = None
    csi: Refused = None
    ephemeral: Refused = None
    fc: Refused = None
    flex_volume: Refused = None
    flocker: Refused = None
    gce_persistent_disk: Refused = None
    git_repo: Refused = None
    glusterfs: Refused = None
    image: Refused = None
    iscsi: Refused = None
    nfs: Refused = None
    persistent_volume_claim: Refused = None
    photon_persistent_disk: Refused = None
    portworx_volume: Refused = None
    quobyte: Refused = None
    rbd: Refused = None
    scale_io: Refused = msgspec.field(default=None, name="scaleIO")
    storageos: Refused = None
    vsphere_volume: Refused = None


class VolumeMount(KubernetesStruct, frozen=True):
    """Where a container sees a volume, or the part of it below ``sub_path``."""

    name: str
    mount_path: str
    read_only: bool = False
    recursive_read_only: Literal["", "Disabled", "IfPossible", "Enabled"] = ""
    sub_path: str = ""
    sub_path_expr: str = ""
    mount_propagation: Literal["", "None", "HostToContainer", "Bidirectional"] = ""
    bind_mount_options: Refused = None
