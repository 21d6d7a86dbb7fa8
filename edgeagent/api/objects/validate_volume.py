"""The rules for volumes, for where they are mounted, and for the fields that the downward API may name.

https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/
"""

import re
from collections.abc import Collection, Iterator, Sequence
from posixpath import normpath

from edgeagent.api.objects.support import fields_of
from edgeagent.api.objects.validate import (
    require,
    validate_key,
    validate_label,
    validate_name,
    validate_no_backsteps,
    validate_qualified_name,
    validate_quantity,
    validate_range,
    validate_relative_path,
    validate_unique,
)
from edgeagent.api.objects.volume import (
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    KeyToPath,
    ObjectFieldSelector,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from edgeagent.api.quantity import nano_quantity

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
"""https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#available-fields"""
VOLUME_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
)

_MAX_MODE = 0o777
_ENTRY = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)
_RESOURCE = re.compile(r"(?:limits|requests)\.(?:(cpu)|memory|ephemeral-storage|hugepages-.+)", re.DOTALL)
_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_CPU_DIVISORS = ("1", "1m")


def validate_volumes(volumes: Sequence[Volume], path: str) -> None:
    """The volumes of a pod; ``path`` is the list's."""
    for index, volume in enumerate(volumes):
        _validate_volume(volume, f"{path}[{index}]")
    validate_unique([volume.name for volume in volumes], path, "name")


def _validate_volume(volume: Volume, path: str) -> None:
    validate_label(volume.name, f"{path}.name")
    set_sources = _set_fields(volume)
    set_sources.remove("name")
    require(bool(set_sources), path, "must have a source")
    require(len(set_sources) == 1, path, f"has more than one source: {', '.join(set_sources)}")
    path = f"{path}.{set_sources[0]}"
    if volume.empty_dir is not None:
        _validate_empty_dir(volume.empty_dir, path)
    elif volume.host_path is not None:
        require(bool(volume.host_path.path), f"{path}.path", "required field is missing")
        validate_no_backsteps(volume.host_path.path, f"{path}.path")
    elif volume.config_map is not None:
        validate_name(volume.config_map.name, f"{path}.name")
        validate_range(volume.config_map.default_mode, 0, _MAX_MODE, f"{path}.defaultMode")
        _validate_items(volume.config_map.items, f"{path}.items")
    elif volume.secret is not None:
        validate_name(volume.secret.secret_name, f"{path}.secretName")
        validate_range(volume.secret.default_mode, 0, _MAX_MODE, f"{path}.defaultMode")
        _validate_items(volume.secret.items, f"{path}.items")
    elif volume.downward_api is not None:
        validate_range(volume.downward_api.default_mode, 0, _MAX_MODE, f"{path}.defaultMode")
        _validate_files(volume.downward_api.items, f"{path}.items")
    elif volume.projected is not None:
        _validate_projected(volume.projected, path)


def _set_fields(value: Volume | VolumeProjection) -> list[str]:
    """The fields that are set, those included that are refused elsewhere."""
    return [field.encoded for field in fields_of(type(value)) if getattr(value, field.name) is not None]


def _validate_empty_dir(source: EmptyDirVolumeSource, path: str) -> None:
    if source.size_limit != "":
        validate_quantity(source.size_limit, f"{path}.sizeLimit")


def _validate_items(items: Sequence[KeyToPath], path: str) -> None:
    for index, item in enumerate(items):
        require(bool(item.key), f"{path}[{index}].key", "required field is missing")
        validate_key(item.key, f"{path}[{index}].key")
        _validate_file(item, f"{path}[{index}]")
    validate_unique([normpath(item.path) for item in items], path, "path")


def _validate_files(items: Sequence[DownwardAPIVolumeFile], path: str) -> None:
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        _validate_file(item, where)
        require(
            (item.field_ref is None) != (item.resource_field_ref is None),
            where,
            "set one of fieldRef and resourceFieldRef",
        )
        if item.field_ref is not None:
            validate_field(item.field_ref, VOLUME_FIELDS, f"{where}.fieldRef")
        if item.resource_field_ref is not None:
            where = f"{where}.resourceFieldRef"
            require(
                bool(item.resource_field_ref.container_name),
                f"{where}.containerName",
                "required field is missing",
            )
            validate_resource_field(item.resource_field_ref, where)
    validate_unique([normpath(item.path) for item in items], path, "path")


def _validate_file(item: KeyToPath | DownwardAPIVolumeFile, path: str) -> None:
    require(bool(item.path), f"{path}.path", "required field is missing")
    validate_relative_path(item.path, f"{path}.path")
    require(not item.path.startswith(".."), f"{path}.path", "must not start with '..'")
    validate_range(item.mode, 0, _MAX_MODE, f"{path}.mode")


def _validate_projected(source: ProjectedVolumeSource, path: str) -> None:
    validate_range(source.default_mode, 0, _MAX_MODE, f"{path}.defaultMode")
    files: set[str] = set()
    for index, projection in enumerate(source.sources):
        where = f"{path}.sources[{index}]"
        set_sources = _set_fields(projection)
        require(bool(set_sources), where, "must have a source")
        require(len(set_sources) == 1, where, f"has more than one source: {', '.join(set_sources)}")
        where = f"{where}.{set_sources[0]}"
        if (named := projection.config_map or projection.secret) is not None:
            validate_name(named.name, f"{where}.name")
            _validate_items(named.items, f"{where}.items")
        elif projection.downward_api is not None:
            _validate_files(projection.downward_api.items, f"{where}.items")
        for place, item in enumerate(_items(projection)):
            file = normpath(item.path)
            require(file not in files, f"{where}.items[{place}].path", f"{file[:80]!r} is there twice")
            files.add(file)


def _items(projection: VolumeProjection) -> Iterator[KeyToPath | DownwardAPIVolumeFile]:
    for source in (projection.config_map, projection.secret, projection.downward_api):
        yield from source.items if source is not None else ()


def validate_field(selector: ObjectFieldSelector, allowed: Collection[str], path: str) -> None:
    """A field that the downward API gives: one of ``allowed``, or one label or annotation."""
    where = f"{path}.fieldPath"
    if entry := _ENTRY.fullmatch(selector.field_path):
        validate_qualified_name(entry[2].lower() if entry[1] == "annotations" else entry[2], where)
    else:
        require(
            selector.field_path in allowed,
            where,
            f"{selector.field_path[:80]!r} is not supported, only {', '.join(allowed)}"
            " and metadata.labels['<key>'] and metadata.annotations['<key>']",
        )


def validate_resource_field(selector: ResourceFieldSelector, path: str) -> None:
    """A limit or request that the downward API gives, and the unit it is given in."""
    match = _RESOURCE.fullmatch(selector.resource)
    if match is None:
        require(bool(selector.resource), f"{path}.resource", "required field is missing")
        require(False, f"{path}.resource", f"{selector.resource[:80]!r} is not supported")
        return
    if selector.divisor != "":
        divisors = _CPU_DIVISORS if match[1] else _DIVISORS
        divisor = validate_quantity(selector.divisor, f"{path}.divisor")
        require(
            divisor in (0, *map(nano_quantity, divisors)),
            f"{path}.divisor",
            f"must be one of {', '.join(divisors)}",
        )


def validate_mounts(
    mounts: Sequence[VolumeMount], volumes: Collection[str], path: str, *, privileged: bool
) -> None:
    """Where a container sees the pod's ``volumes``, given by name; ``privileged`` is the container."""
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        require(bool(mount.name), f"{where}.name", "required field is missing")
        require(mount.name in volumes, f"{where}.name", f"the pod has no volume {mount.name[:80]!r}")
        _validate_mount(mount, where, privileged=privileged)
    validate_unique([_absolute(mount.mount_path) for mount in mounts], path, "mountPath")


def _absolute(path: str) -> str:
    """The one way to write an absolute path; two slashes at its beginning are one."""
    return "/" + normpath(path).lstrip("/")


def _validate_mount(mount: VolumeMount, path: str, *, privileged: bool) -> None:
    require(bool(mount.mount_path), f"{path}.mountPath", "required field is missing")
    require(mount.mount_path.startswith("/"), f"{path}.mountPath", "must be an absolute path")
    require(_absolute(mount.mount_path) != "/", f"{path}.mountPath", "must not be the root")
    require(":" not in mount.mount_path, f"{path}.mountPath", "must not contain ':'")
    require("\0" not in mount.mount_path, f"{path}.mountPath", "must not contain a NUL")
    validate_relative_path(mount.sub_path, f"{path}.subPath")
    validate_relative_path(mount.sub_path_expr, f"{path}.subPathExpr")
    require(
        not (mount.sub_path and mount.sub_path_expr),
        f"{path}.subPathExpr",
        "may not be set together with subPath",
    )
    require(
        privileged or mount.mount_propagation != "Bidirectional",
        f"{path}.mountPropagation",
        "Bidirectional is for privileged containers only",
    )
    if mount.recursive_read_only in ("IfPossible", "Enabled"):
        where = f"{path}.recursiveReadOnly"
        require(mount.read_only, where, "may only be set where readOnly is true")
        require(
            mount.mount_propagation in ("", "None"), where, "may only be set where mountPropagation is None"
        )
