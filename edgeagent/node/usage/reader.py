"""One reading of all that is used: the machine, and every pod of which something runs."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.runtime import LABEL_CONTAINER, ContainerRecord
from edgeagent.api.usage import ContainerUsage, NodeUsage, PodUsage
from edgeagent.node.usage.cgroups import container_cgroup
from edgeagent.node.usage.counters import cpu_usage, io_usage, memory_usage, pids_usage
from edgeagent.node.usage.interfaces import process_interfaces
from edgeagent.node.usage.machine import machine_usage


class PodsInUse(Protocol):
    """The part of the pod manager that usage needs. Called on the loop; answers from memory."""

    def statuses(self) -> list[tuple[Pod, PodStatus]]:
        """Every desired pod with its status."""

    def containers_of(self, uid: str) -> list[ContainerRecord]:
        """What the runtime was last seen to hold of a pod."""


class _Target(msgspec.Struct, frozen=True):
    """A pod and its running containers, with nothing read yet."""

    pod: PodUsage
    on_host_network: bool


class UsageReader:
    """Reads when asked. ``root``: where the file system begins; ``pods``: None where no runtime is."""

    def __init__(self, *, node: str, root: Path, clock: Clock, pods: PodsInUse | None) -> None:
        self._node = node
        self._root = root
        self._clock = clock
        self._pods = pods

    async def read(self) -> NodeUsage:
        """What is used now. The files are read beside the loop: the kernel may take its time over them."""
        return await asyncio.to_thread(self._read, self._targets())

    def _targets(self) -> Sequence[_Target]:
        """On the loop: whose files are to be read."""
        if self._pods is None:
            return []
        found = []
        for pod, status in self._pods.statuses():
            records = self._pods.containers_of(pod.metadata.uid)
            if running := [one for one in records if one.state == "running" and one.pid > 0]:
                found.append(_target(pod, status, running))
        return found

    def _read(self, targets: Sequence[_Target]) -> NodeUsage:
        """Beside the loop."""
        device_name = _device_names(self._root)
        return NodeUsage(
            node=self._node,
            time=self._clock.now(),
            monotonic=self._clock.monotonic(),
            machine=machine_usage(self._root),
            pods=[self._pod(target, device_name) for target in targets],
        )

    def _pod(self, target: _Target, device_name: Callable[[str], str]) -> PodUsage:
        pod = target.pod
        containers = [self._container(container, device_name) for container in pod.containers]
        # One process is as good as any: a pod's containers share its network.
        seen = next((one for one in containers if one.cpu is not None or one.memory is not None), None)
        network = []
        if seen is not None and not target.on_host_network:
            network = process_interfaces(self._root, seen.pid)
        return PodUsage(
            namespace=pod.namespace,
            pod=pod.pod,
            uid=pod.uid,
            labels=pod.labels,
            containers=containers,
            network=network,
        )

    def _container(self, container: ContainerUsage, device_name: Callable[[str], str]) -> ContainerUsage:
        folders = container_cgroup(self._root, container.pid, container.id)
        if not folders.found:
            return container  # it has ended since
        return ContainerUsage(
            namespace=container.namespace,
            pod=container.pod,
            uid=container.uid,
            container=container.container,
            id=container.id,
            image=container.image,
            labels=container.labels,
            pid=container.pid,
            started_at=container.started_at,
            restarts=container.restarts,
            cpu=cpu_usage(folders),
            memory=memory_usage(folders),
            pids=pids_usage(folders),
            io=io_usage(folders, device_name),
        )


def _target(pod: Pod, status: PodStatus, running: Sequence[ContainerRecord]) -> _Target:
    meta = pod.metadata
    images = {one.name: one.image for one in (*pod.spec.init_containers, *pod.spec.containers)}
    restarts = {
        one.name: one.restart_count for one in (*status.init_container_statuses, *status.container_statuses)
    }
    containers = [
        ContainerUsage(
            namespace=meta.namespace,
            pod=meta.name,
            uid=meta.uid,
            container=name,
            id=record.id,
            image=images[name],
            labels=meta.labels,
            pid=record.pid,
            started_at=record.started_at,
            restarts=restarts.get(name, 0),
        )
        for record in running
        if (name := record.labels.get(LABEL_CONTAINER, "")) in images
    ]
    containers.sort(key=lambda one: list(images).index(one.container))
    usage = PodUsage(
        namespace=meta.namespace, pod=meta.name, uid=meta.uid, labels=meta.labels, containers=containers
    )
    return _Target(usage, pod.spec.host_network)


def _device_names(root: Path) -> Callable[[str], str]:
    """What ``8:0`` is called, by ``/sys/dev/block``; each is looked up once a reading."""
    known: dict[str, str] = {}

    def name_of(device: str) -> str:
        if device not in known:
            try:
                known[device] = Path(os.readlink(root / "sys/dev/block" / device)).name
            except OSError:
                known[device] = device
        return known[device]

    return name_of
