"""A thousand pods come, change and go on one node, and nothing is left behind.

In memory, so that a thousand take seconds; files, folders, the database, descriptors, threads and tasks are
real.
"""

import asyncio
import os
import random
import threading
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.objects.decode import KubernetesObject, convert
from edgeagent.api.objects.pod import Pod
from tests.node.indexes import NODE, config_map
from tests.node.podworld import FakeNetwork, PodWorld, pod, run

pytestmark = pytest.mark.slow

PODS = 1000
AT_ONCE = 40


def any_pod(rng: random.Random, number: int) -> Pod:
    """A pod with init containers, sidecars, volumes and one or two containers, as chance will have it."""
    image = {"image": "image:1", "imagePullPolicy": "IfNotPresent"}
    mounts = [{"name": "scratch", "mountPath": "/scratch"}, {"name": "conf", "mountPath": "/conf"}]
    inits: list[dict[str, object]] = [
        {"name": f"side{n}", **image, "restartPolicy": "Always"} for n in range(rng.choice((0, 0, 1)))
    ]
    spec = {
        "nodeName": NODE,
        "hostNetwork": rng.random() < 0.5,
        "shareProcessNamespace": rng.random() < 0.2,
        "restartPolicy": rng.choice(("Always", "OnFailure", "Never")),
        "initContainers": inits,
        "containers": [
            {"name": f"main{n}", **image, "volumeMounts": mounts} for n in range(rng.choice((1, 1, 2)))
        ],
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "conf"}}],
    }
    made = pod(f"p{number}")
    return msgspec.structs.replace(made, spec=convert(spec, type(made.spec)))


def changed(rng: random.Random, old: Pod) -> Pod:
    """The same pod with another image."""
    image = rng.choice(("image:1", "image:2"))
    containers = [msgspec.structs.replace(c, image=image) for c in old.spec.containers]
    spec = msgspec.structs.replace(old.spec, containers=containers)
    meta = msgspec.structs.replace(old.metadata, generation=old.metadata.generation + 1)
    return msgspec.structs.replace(old, spec=spec, metadata=meta)


async def churn(world: PodWorld, rng: random.Random) -> None:
    """Create, change, end and delete at random, until every pod has come and gone."""
    alive: dict[int, Pod] = {}
    born = 0
    conf: KubernetesObject = config_map("conf", "value")
    while born < PODS or alive:
        for _ in range(rng.randint(1, 20)):
            if born < PODS and len(alive) < AT_ONCE:
                alive[born] = any_pod(rng, born)
                born += 1
        for number in rng.sample(sorted(alive), k=min(len(alive), rng.randint(0, 4))):
            alive[number] = changed(rng, alive[number])
        for number in rng.sample(sorted(alive), k=min(len(alive), rng.randint(0, 15))):
            del alive[number]
        world.switch([conf, *alive.values()])
        for _ in range(rng.randint(0, 60)):
            await asyncio.sleep(0)
        for running in rng.sample(world.runtime.running(), k=min(3, len(world.runtime.running()))):
            if running.id in world.runtime.containers:
                world.runtime.end(running.id, rng.choice((0, 1, 137)))


def test_a_thousand_pods_leave_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        rng = random.Random(7)
        async with PodWorld(tmp_path, network=FakeNetwork()) as world:
            await world.clock.settle()
            descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
            tasks = len(asyncio.all_tasks())
            await churn(world, rng)
            await world.advance(3600)
            async with asyncio.timeout(60):  # folders are removed in threads, which no clock waits for
                while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            for uid in list(world.gone):
                world.manager.forget(uid)
            assert world.runtime.containers == {}
            assert world.mounter.mounted == []
            assert [str(left) for base in ("pods", "run") for left in (tmp_path / base).iterdir()] == []
            assert world.database.rows("SELECT uid FROM pod_record") == []
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # the loop's own, for other threads
            assert threading.active_count() <= threads + (os.cpu_count() or 1) + 4  # asyncio's bounded pool
            assert len(asyncio.all_tasks()) == tasks

    run(scenario)
