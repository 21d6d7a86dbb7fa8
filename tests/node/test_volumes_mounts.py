"""What a container gets to see of a pod's volumes, whatever the pod's other containers write into them."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import ConfigMap
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.pod import Pod
from edgeagent.node.pods.lookup import Lookup, PodFacts
from edgeagent.node.pods.volumes import SystemMounter, Volumes

UID = "u1"
Fields = dict[str, Any]


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    """All pods' volumes, on the real mount table; ``tmp_path/host`` stands for the node's root."""
    (tmp_path / "host/etc").mkdir(parents=True)
    (tmp_path / "host/etc/shadow").write_text("root")
    made = Volumes(
        disk=tmp_path / "disk", memory=tmp_path / "run", host=tmp_path / "host", mounter=SystemMounter()
    )
    yield made
    asyncio.run(made.tear_down(UID))


def pod(volumes: Fields, *containers: Fields) -> Pod:
    """A pod with ``volumes`` by name."""
    listed = [{"name": name, **source} for name, source in volumes.items()]
    named = [{"name": f"c{number}", "image": "x", **fields} for number, fields in enumerate(containers)]
    data = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "uid": UID},
        "spec": {"nodeName": "n", "hostNetwork": True, "volumes": listed, "containers": named},
    }
    made = decode_object(data)
    assert isinstance(made, Pod)
    return made


def part(volume: str, sub_path: str) -> Fields:
    """A container that mounts a part of a volume."""
    return {"volumeMounts": [{"name": volume, "mountPath": "/m", "subPath": sub_path}]}


def prepare(volumes: Volumes, made: Pod, **config: str) -> None:
    """Make the pod's volumes; every ConfigMap holds ``config``."""

    async def no_secret(name: str) -> None:
        return None

    found = decode_object(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": config}
    )
    assert isinstance(found, ConfigMap)
    asyncio.run(volumes.prepare(PodFacts(pod=made, node_name="n"), Lookup(lambda _: found, no_secret)))


def seen(volumes: Volumes, made: Pod, container: int = 0) -> Path:
    """Where the one mount of a container comes from."""
    (mount,) = asyncio.run(volumes.mounts(made, made.spec.containers[container], {}))
    return Path(mount.source)


@pytest.mark.parametrize("target", ["{}/host", "..{}/host", "../../../../host", "..a/../../../../../host"])
@pytest.mark.parametrize("kind", ["emptyDir", "hostPath"])
def test_a_link_named_as_the_one_to_a_set_of_files_leads_nowhere(
    volumes: Volumes, tmp_path: Path, kind: str, target: str
) -> None:
    source: Fields = {"hostPath": {"path": "/data"}} if kind == "hostPath" else {"emptyDir": {}}
    made = pod({"v": source}, part("v", "etc"))
    prepare(volumes, made)
    folder = tmp_path / ("host/data" if kind == "hostPath" else f"disk/{UID}/volumes/v")
    (folder / "..data").symlink_to(target.format(tmp_path))
    assert os.listdir(seen(volumes, made)) == []


@pytest.mark.parametrize("kind", ["emptyDir", "hostPath"])
def test_a_part_below_a_link_out_of_the_volume_is_refused(
    volumes: Volumes, tmp_path: Path, kind: str
) -> None:
    source: Fields = {"hostPath": {"path": "/data"}} if kind == "hostPath" else {"emptyDir": {}}
    made = pod({"v": source}, part("v", "..data/etc"))
    prepare(volumes, made)
    folder = tmp_path / ("host/data" if kind == "hostPath" else f"disk/{UID}/volumes/v")
    (folder / "..data").symlink_to(tmp_path / "host")
    with pytest.raises(PermanentError, match="leads out of the volume"):
        seen(volumes, made)


def test_a_part_of_a_config_map_is_the_file_of_the_present_set(volumes: Volumes) -> None:
    made = pod({"v": {"configMap": {"name": "c"}}}, part("v", "key"))
    prepare(volumes, made, key="old")
    prepare(volumes, made, key="new")
    assert seen(volumes, made).read_text() == "new"


def test_a_link_to_another_place_in_a_volume_of_files_is_not_followed(
    volumes: Volumes, tmp_path: Path
) -> None:
    made = pod({"v": {"configMap": {"name": "c"}}}, part("v", "etc"))
    prepare(volumes, made, key="x")
    link = tmp_path / f"disk/{UID}/volumes/v/..data"
    link.unlink()
    link.symlink_to(tmp_path / "host")
    assert os.listdir(seen(volumes, made)) == []
