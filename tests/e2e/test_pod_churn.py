"""A thousand pods come, change and go on one node with a real Podman, and nothing is left behind.

``tests/node/test_pods_churn.py`` is the same in memory, with far more at once.
"""

import logging
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import tasks_plugin
from tests.support.lone import LoneAgent, config_map, secret, static_pod
from tests.support.podman import PodmanService
from tests.support.waiting import WaitTimeout, wait_for

log = logging.getLogger(__name__)

PODS = 1000
AT_ONCE = 20
RESTARTS = {PODS // 3: False, 2 * PODS // 3: True}
"""After how many births the agent is ended, and whether by SIGKILL."""
SEED = 7
POOL_THREADS = (os.cpu_count() or 1) + 4
"""What asyncio's own pool has at most: folders are made and removed in it."""
LANE_THREADS = 1
"""The network plugin's."""

SLEEP = ["sleep", "3600"]
COMMANDS = (SLEEP, SLEEP, SLEEP, ["true"], ["false"], ["/no/such/program"])
VOLUMES: Mapping[str, Mapping[str, object]] = {
    "disk": {"emptyDir": {}},
    "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    "conf": {"configMap": {"name": "{}"}},
    "secret": {"secret": {"secretName": "{}"}},
}
WRITE = ["sh", "-c", "for f in /disk /memory; do [ ! -d $f ] || echo x > $f/x; done; exec sleep 3600"]


class Births:
    """Makes pods, and changes them, as chance will have it. A pod's objects are in one file."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._versions: dict[str, int] = {}

    def new(self, name: str) -> list[dict[str, Any]]:
        """The objects of a new pod: a ConfigMap, a Secret, and the pod."""
        rng = self._rng
        volumes = [kind for kind in VOLUMES if rng.random() < 0.4]
        mounts = [{"name": kind, "mountPath": f"/{kind}"} for kind in volumes]
        commands = [rng.choice((*COMMANDS, WRITE)) for _ in range(rng.choice((1, 1, 1, 2)))]
        pod = static_pod(
            name,
            *commands,
            container={"volumeMounts": mounts},
            volumes=[{"name": kind, **_named(VOLUMES[kind], name)} for kind in volumes],
            restartPolicy=rng.choice(("Always", "OnFailure", "Never")),
            hostNetwork=rng.random() < 0.8,
            shareProcessNamespace=rng.random() < 0.1,
        )
        image = pod["spec"]["containers"][0]["image"]
        inits = []
        if rng.random() < 0.2:
            inits.append({"name": "init", "image": image, "command": ["true"], "volumeMounts": mounts})
        if rng.random() < 0.1:
            inits.append({"name": "side", "image": image, "command": SLEEP, "restartPolicy": "Always"})
        pod["spec"]["initContainers"] = inits
        self._versions[name] = 0
        return [config_map(name, key="v0"), secret(name, key="v0"), pod]

    def changed(self, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same pod with other content in its volumes, or with another variable in its containers."""
        _, _, pod = objects
        name = pod["metadata"]["name"]
        self._versions[name] += 1
        value = f"v{self._versions[name]}"
        if self._rng.random() < 0.5:
            return [config_map(name, key=value), secret(name, key=value), pod]
        env = [{"name": "VERSION", "value": value}]
        containers = [{**container, "env": env} for container in pod["spec"]["containers"]]
        return [*objects[:2], {**pod, "spec": {**pod["spec"], "containers": containers}}]


def _named(source: Mapping[str, object], name: str) -> dict[str, object]:
    """A volume's source, with the pod's name for that of the object it shows."""
    return {
        kind: {key: name if value == "{}" else value for key, value in fields.items()}
        for kind, fields in source.items()
        if isinstance(fields, Mapping)
    }


def is_on_its_way(status: Mapping[str, Any]) -> bool:
    """Whether something of the pod is yet to be made; a back-off is not waited for."""
    statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    waiting = [one["state"]["waiting"]["reason"] for one in statuses if "waiting" in one["state"]]
    return not statuses or "ContainerCreating" in waiting


class Churn:
    """Creates, changes and deletes at random, until every pod has come and gone."""

    def __init__(self, lone: LoneAgent, rng: random.Random) -> None:
        self._lone = lone
        self._rng = rng
        self._births = Births(rng)
        self._alive: dict[str, list[dict[str, Any]]] = {}
        self._born = 0
        self._restarts = dict(RESTARTS)
        self.phases: set[str] = set()
        """All that a pod was seen in."""

    def run(self) -> None:
        """All of it."""
        while self._born < PODS or self._alive:
            self._create()
            self._change()
            self._wait()
            self._delete()
            for born in [born for born in self._restarts if born <= self._born]:
                self._lone.restart(kill=self._restarts.pop(born))

    def _create(self) -> None:
        for _ in range(self._rng.randint(1, AT_ONCE)):
            if self._born < PODS and len(self._alive) < AT_ONCE:
                name = f"p{self._born}"
                self._born += 1
                self._alive[name] = self._births.new(name)
                self._lone.write(name, self._alive[name])

    def _change(self) -> None:
        for name in self._some(2):
            self._alive[name] = self._births.changed(self._alive[name])
            self._lone.write(name, self._alive[name])

    def _wait(self) -> None:
        """Until all pods are what they will be, or only until the node has heard of them."""
        settle = self._rng.random() < 0.3
        names = {self._lone.full_name(name) for name in self._alive}

        def holds() -> bool:
            pods = self._lone.pods()
            self.phases |= {pod["status"]["phase"] for pod in pods}
            heard = {pod["metadata"]["name"] for pod in pods} == names
            if heard and not settle:
                return True
            return heard and not any(is_on_its_way(pod["status"]) for pod in pods)

        wait_for(holds, 120, "the pods to be made", interval=0.05)

    def _delete(self) -> None:
        for name in self._some(AT_ONCE):
            del self._alive[name]
            self._lone.remove(name)

    def _some(self, most: int) -> list[str]:
        return self._rng.sample(sorted(self._alive), k=min(len(self._alive), self._rng.randint(0, most)))


@pytest.mark.slow
@pytest.mark.minutes
def test_a_thousand_pods_leave_nothing_behind(
    podman: PodmanService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "tasks"
    monkeypatch.setenv(tasks_plugin.VARIABLE, str(told))
    tasks_plugin.install(tmp_path / "site")
    with LoneAgent(tmp_path, podman) as lone:

        def tasks() -> Counter[str]:
            assert lone.agent.process.pid is not None
            return tasks_plugin.tasks_of(lone.agent.process.pid, told)

        def idle() -> Counter[str]:
            found = tasks()
            return Counter() if "Agent._describe_runtime" in found else found

        def left() -> list[str]:
            return lone.leftovers(spare_threads=POOL_THREADS + LANE_THREADS)

        before = wait_for(idle, what="the agent to have started")
        began = time.monotonic()
        churn = Churn(lone, random.Random(SEED))
        churn.run()
        lone.clear()
        log.info("%d pods in %.0f s", PODS, time.monotonic() - began)
        assert churn.phases >= {"Pending", "Running", "Succeeded", "Failed"}
        with suppress(WaitTimeout):  # what the last ones had is being given back
            wait_for(lambda: not left(), 60, interval=0.5)
        assert left() == []
        wait_for(lambda: tasks() <= before, what=f"no more tasks than {before}")
        assert "Traceback" not in (tmp_path / "agent.log").read_text()
