"""What a configMap, secret, downwardAPI or projected volume shows, as files by relative path.

https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from collections.abc import Mapping, Sequence

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import ConfigMap
from edgeagent.api.objects.volume import DownwardAPIVolumeFile, KeyToPath, Volume
from edgeagent.node.pods.fields import resource_value, volume_field_value
from edgeagent.node.pods.lookup import Lookup, PodFacts
from edgeagent.node.pods.volumes.atomic import Projected

Payload = dict[str, Projected]


async def payload_of(volume: Volume, facts: PodFacts, lookup: Lookup) -> Payload | None:
    """The files of ``volume``; None for a volume that is not made of files.

    PermanentError (reason ``FailedMount``) names what is missing.
    """
    source = _Source(volume.name, facts, lookup)
    if (config := volume.config_map) is not None:
        return await source.config_map(config.name, config.items, config.default_mode, config.optional)
    if (secret := volume.secret) is not None:
        return await source.secret(secret.secret_name, secret.items, secret.default_mode, secret.optional)
    if (downward := volume.downward_api) is not None:
        return source.downward(downward.items, downward.default_mode)
    if (projected := volume.projected) is None:
        return None
    files: Payload = {}
    mode = projected.default_mode
    for one in projected.sources:
        if one.config_map is not None:
            part = one.config_map
            files |= await source.config_map(part.name, part.items, mode, part.optional)
        if one.secret is not None:
            hidden = one.secret
            files |= await source.secret(hidden.name, hidden.items, mode, hidden.optional)
        if one.downward_api is not None:
            files |= source.downward(one.downward_api.items, mode)
    return files


def holds_secret(volume: Volume) -> bool:
    """Whether the volume's content must not reach a disk."""
    if volume.secret is not None:
        return True
    return volume.projected is not None and any(part.secret is not None for part in volume.projected.sources)


class _Source:
    def __init__(self, volume: str, facts: PodFacts, lookup: Lookup) -> None:
        self._volume = volume
        self._facts = facts
        self._lookup = lookup

    async def config_map(self, name: str, items: Sequence[KeyToPath], mode: int, optional: bool) -> Payload:
        found = self._lookup.config_map(name)
        data = None if found is None else _all_data(found)
        return self._keys("configmap", name, data, items, mode, optional)

    async def secret(self, name: str, items: Sequence[KeyToPath], mode: int, optional: bool) -> Payload:
        found = await self._lookup.secret(name)
        return self._keys("secret", name, None if found is None else found.data, items, mode, optional)

    def _keys(
        self,
        kind: str,
        name: str,
        data: Mapping[str, bytes] | None,
        items: Sequence[KeyToPath],
        mode: int,
        optional: bool,
    ) -> Payload:
        if data is None:
            if optional:
                return {}
            raise self._missing(f"{kind} {name!r} not found")
        if not items:
            return {key: Projected(value, mode) for key, value in data.items()}
        files = {}
        for item in items:
            if item.key in data:
                files[item.path] = Projected(data[item.key], mode if item.mode is None else item.mode)
            elif not optional:
                raise self._missing(f"{kind} {name!r} has no key {item.key!r}")
        return files

    def downward(self, items: Sequence[DownwardAPIVolumeFile], mode: int) -> Payload:
        return {
            item.path: Projected(self._value(item).encode(), mode if item.mode is None else item.mode)
            for item in items
        }

    def _value(self, item: DownwardAPIVolumeFile) -> str:
        if item.field_ref is not None:
            return volume_field_value(item.field_ref, self._facts)
        if (selector := item.resource_field_ref) is None:
            raise self._missing(f"{item.path} has neither fieldRef nor resourceFieldRef")
        spec = self._facts.pod.spec
        for container in (*spec.init_containers, *spec.containers):
            if container.name == selector.container_name:
                return resource_value(selector, self._facts, container)
        raise self._missing(f"{item.path}: there is no container {selector.container_name!r}")

    def _missing(self, problem: str) -> PermanentError:
        return PermanentError(f'volume "{self._volume}": {problem}', reason="FailedMount")


def _all_data(found: ConfigMap) -> dict[str, bytes]:
    return {**{key: value.encode() for key, value in found.data.items()}, **found.binary_data}
