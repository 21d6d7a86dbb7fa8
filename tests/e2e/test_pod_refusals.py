"""Every field that ``docs/pod-support.md`` says is refused: its pod is taken, not run, and the field named.

And what only the node can find wrong: a path of the node that leads in a circle.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import containers
from tests.support.lone import LoneAgent, is_running, lone_agent, static_pod
from tests.support.podman import PodmanService
from tests.support.podtable import Row, rows
from tests.support.volumepods import failed_mounts, fails_to_mount, mounting
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

Fields = dict[str, Any]
REFUSED = [row for row in rows() if row.support == "refused"]
SET = "set"
"""What a refused field holds: anything at all."""


def volume(source: str, **fields: object) -> Fields:
    """A pod's spec with one volume."""
    return {"volumes": [{"name": "v", source: fields}]}


def hook(action: str, **fields: object) -> Fields:
    """A container's ``lifecycle``."""
    return {"lifecycle": {"postStart": {action: fields}}}


def item(**more: object) -> Fields:
    """One file of a volume."""
    return {"items": [{"path": "p", **more}]}


MAIN = "spec.containers[0]"
FIRST = "spec.volumes[0]"
IN_POD: dict[str, tuple[str, Callable[[str], Fields]]] = {
    "PodSpec": ("spec", lambda name: {name: SET}),
    "PodSecurityContext": ("spec.securityContext", lambda name: {"securityContext": {name: SET}}),
    "Volume": (FIRST, lambda name: {"volumes": [{"name": "v", name: SET}]}),
    "EmptyDirVolumeSource": (f"{FIRST}.emptyDir", lambda name: volume("emptyDir", **{name: SET})),
    "ConfigMapVolumeSource": (
        f"{FIRST}.configMap",
        lambda name: volume("configMap", name="c", **{name: SET}),
    ),
    "SecretVolumeSource": (f"{FIRST}.secret", lambda name: volume("secret", secretName="c", **{name: SET})),
    "DownwardAPIVolumeSource": (f"{FIRST}.downwardAPI", lambda name: volume("downwardAPI", **{name: SET})),
    "ProjectedVolumeSource": (
        f"{FIRST}.projected",
        lambda name: volume("projected", sources=[], **{name: SET}),
    ),
    "VolumeProjection": (
        f"{FIRST}.projected.sources[0]",
        lambda name: volume("projected", sources=[{name: SET}]),
    ),
    "KeyToPath": (
        f"{FIRST}.configMap.items[0]",
        lambda name: volume("configMap", name="c", **item(key="k", **{name: SET})),
    ),
    "DownwardAPIVolumeFile": (
        f"{FIRST}.downwardAPI.items[0]",
        lambda name: volume("downwardAPI", **item(fieldRef={"fieldPath": "metadata.name"}, **{name: SET})),
    ),
}
"""By the struct: where it is, and a pod's spec in which a field of it is set."""
IN_CONTAINER: dict[str, tuple[str, Callable[[str], Fields]]] = {
    "Container": (MAIN, lambda name: {name: SET}),
    "SecurityContext": (f"{MAIN}.securityContext", lambda name: {"securityContext": {name: SET}}),
    "ResourceRequirements": (f"{MAIN}.resources", lambda name: {"resources": {name: SET}}),
    "VolumeMount": (
        f"{MAIN}.volumeMounts[0]",
        lambda name: {"volumeMounts": [{"name": "v", "mountPath": "/v", name: SET}]},
    ),
    "EnvVarSource": (
        f"{MAIN}.env[0].valueFrom",
        lambda name: {"env": [{"name": "A", "valueFrom": {name: SET}}]},
    ),
    "LifecycleHandler": (
        f"{MAIN}.lifecycle.postStart",
        lambda name: {"lifecycle": {"postStart": {name: SET}}},
    ),
    "HTTPGetAction": (
        f"{MAIN}.lifecycle.postStart.httpGet",
        lambda name: hook("httpGet", port=80, **{name: SET}),
    ),
    "GRPCAction": (
        f"{MAIN}.livenessProbe.grpc",
        lambda name: {"livenessProbe": {"grpc": {"port": 80, name: SET}}},
    ),
}
"""The same for a container."""


@pytest.fixture(scope="module")
def lone(podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled."""
    podman_service.start()
    with lone_agent(tmp_path_factory.mktemp("lone"), podman_service) as agent:
        yield agent


def refused(row: Row, number: int) -> tuple[Fields, str]:
    """A pod that sets the row's field, and the field's path."""
    name = f"refused-{number}"
    if row.struct in IN_POD:
        place, spec = IN_POD[row.struct]
        return static_pod(name, **spec(row.field)), f"{place}.{row.field}"
    place, container = IN_CONTAINER[row.struct]
    more = volume("emptyDir") if row.struct == "VolumeMount" else {}
    return static_pod(name, container=container(row.field), **more), f"{place}.{row.field}"


def test_every_refused_field_keeps_its_pod_from_running_and_is_named(lone: LoneAgent) -> None:
    made = [refused(row, number) for number, row in enumerate(REFUSED)]
    assert len(made) > 40
    lone.write("refusals", [pod for pod, _ in made])

    def accepted(pod: Fields) -> Fields:
        conditions = lone.status(pod["metadata"]["name"]).get("conditions", [])
        return next((one for one in conditions if one["type"] == "Accepted"), {})

    try:
        for pod, path in made:
            wait_for(partial(accepted, pod), 30, f"{path} to be refused ({lone.problems()})")
            said = accepted(pod)
            assert (said["status"], said["reason"]) == ("False", "FieldNotSupported"), path
            assert path in said["message"]
            told = [
                e["message"]
                for e in lone.events(pod["metadata"]["name"])
                if e["reason"] == "FieldNotSupported"
            ]
            assert any(path in message for message in told), path
        assert not containers(lone.podman)
    finally:
        lone.remove("refusals")
        for pod, _ in made:
            lone.wait_gone(pod["metadata"]["name"])


def test_a_path_of_the_node_that_leads_in_a_circle_is_named_until_it_does_not(
    lone: LoneAgent, tmp_path: Path
) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    pod = mounting("circle", v={"hostPath": {"path": str(tmp_path / "a"), "type": "Directory"}})
    with lone.running(pod, until=fails_to_mount(lone, "circle")):
        assert str(tmp_path / "a") in failed_mounts(lone, "circle")
        (tmp_path / "b").unlink()
        (tmp_path / "b").mkdir()
        lone.wait_status("circle", is_running)
