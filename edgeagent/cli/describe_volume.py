"""A pod's volumes, each told as kubectl tells its type."""

from collections.abc import Iterator, Sequence

from edgeagent.api.objects.support import fields_of
from edgeagent.api.objects.volume import (
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    ProjectedVolumeSource,
    Volume,
)
from edgeagent.cli.page import Page

Rows = Iterator[tuple[str, str]]


def describe_volumes(page: Page, volumes: Sequence[Volume]) -> None:
    """The section ``Volumes``; a type that is refused is named, and that it is refused."""
    page.row(0, "Volumes:", *([] if volumes else ["<none>"]))
    for volume in volumes:
        page.row(1, f"{volume.name}:")
        for label, value in _source(volume):
            page.row(2, f"{label}:", value)
        for text in _items(volume.downward_api):
            page.row(3, text)


def _source(volume: Volume) -> Rows:
    match volume:
        case Volume(host_path=source) if source is not None:
            yield "Type", "HostPath (bare host directory volume)"
            yield "Path", source.path
            yield "HostPathType", source.type or "<none>"
        case Volume(empty_dir=source) if source is not None:
            yield "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)"
            yield "Medium", source.medium
            yield "SizeLimit", str(source.size_limit) if source.size_limit else "<unset>"
        case Volume(secret=source) if source is not None:
            yield "Type", "Secret (a volume populated by a Secret)"
            yield "SecretName", source.secret_name
            yield "Optional", _bool(source.optional)
        case Volume(config_map=source) if source is not None:
            yield "Type", "ConfigMap (a volume populated by a ConfigMap)"
            yield "Name", source.name
            yield "Optional", _bool(source.optional)
        case Volume(projected=source) if source is not None:
            yield from _projected(source)
        case Volume(downward_api=source) if source is not None:
            yield "Type", "DownwardAPI (a volume populated by information about the pod)"
            yield "Items", ""
        case _:
            refused = [field for field in fields_of(Volume) if field.support == "refused"]
            named = [field.encoded for field in refused if getattr(volume, field.name) is not None]
            yield "Type", f"{', '.join(named)} (not supported by edgeagent)" if named else "<unknown>"


def _projected(source: ProjectedVolumeSource) -> Rows:
    yield "Type", "Projected (a volume that contains injected data from multiple sources)"
    for one in source.sources:
        if one.secret is not None:
            yield "SecretName", one.secret.name
            yield "Optional", _bool(one.secret.optional)
        elif one.downward_api is not None:
            yield "DownwardAPI", "true"
        elif one.config_map is not None:
            yield "ConfigMapName", one.config_map.name
            yield "Optional", _bool(one.config_map.optional)
        else:
            refused = [f.encoded for f in fields_of(type(one)) if getattr(one, f.name) is not None]
            yield ", ".join(refused) or "<unknown>", "not supported by edgeagent"


def _items(source: DownwardAPIVolumeSource | None) -> Iterator[str]:
    for item in source.items if source is not None else ():
        yield f"{_field(item)} -> {item.path}"


def _field(item: DownwardAPIVolumeFile) -> str:
    if item.field_ref is not None:
        return item.field_ref.field_path
    return item.resource_field_ref.resource if item.resource_field_ref is not None else "<unknown>"


def _bool(value: bool) -> str:
    return str(value).lower()
