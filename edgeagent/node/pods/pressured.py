"""The pods of a node as node pressure sees them: what runs, what it holds on disk, and how one is evicted."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.quantity import parse_quantity
from edgeagent.api.runtime import LABEL_ATTEMPT, LABEL_CONTAINER, ContainerRecord
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.pods.qos import is_critical, pod_limits, pod_requests, qos_class
from edgeagent.node.pods.volumes import Volumes
from edgeagent.node.pressure.pods import DiskUsage, RunningContainer, RunningPod

log = logging.getLogger(__name__)

STORAGE = "ephemeral-storage"
_FINAL = ("Succeeded", "Failed")


class PressuredPods:
    """``PodsUnderPressure`` over the pod manager.

    ``image_device``: the device (``st_dev``) with the images, None where it is that of the node's own files.
    """

    def __init__(
        self,
        manager: PodManager,
        runtime: RuntimeFacade,
        volumes: Volumes,
        image_device: Callable[[], int | None],
    ) -> None:
        self._manager = manager
        self._runtime = runtime
        self._volumes = volumes
        self._image_device = image_device

    def running(self) -> Sequence[RunningPod]:
        """All pods with a running container, and these containers."""
        found = []
        for uid, pod in self._manager.pods().items():
            records = [one for one in self._manager.containers_of(uid) if one.state == "running"]
            if records:
                found.append(self._pressured(pod, records))
        return found

    def on_disk(self) -> Sequence[RunningPod]:
        """All pods that are not over, and the newest run of each of their containers."""
        return [
            self._pressured(pod, self._manager.containers_of(pod.metadata.uid))
            for pod, status in self._manager.statuses()
            if status.phase not in _FINAL
        ]

    def _pressured(self, pod: Pod, records: Sequence[ContainerRecord]) -> RunningPod:
        newest: dict[str, ContainerRecord] = {}
        for record in sorted(records, key=_attempt):
            newest[record.labels.get(LABEL_CONTAINER, "")] = record
        return _running_pod(pod, newest, static=self._manager.is_static(pod.metadata.uid))

    def desired_images(self) -> Sequence[str]:
        """Every image that a pod names, by itself or as it was admitted."""
        desired = self._manager.pods()
        admitted = (self._manager.admitted(uid) for uid in desired)
        return [
            container.image
            for pod in (*desired.values(), *admitted)
            if pod is not None
            for container in (*pod.spec.init_containers, *pod.spec.containers)
        ]

    async def disk_usage(self, pods: Sequence[RunningPod]) -> Mapping[str, DiskUsage]:
        """What each of ``pods`` has on disk, by uid."""
        layers = await self._runtime.container_sizes()
        device = self._image_device()
        found = {}
        for running in pods:
            pod = self._manager.pods().get(running.uid)
            if pod is None:
                continue
            try:
                usage = await self._volumes.usage(pod)
            except OSError as error:
                name = f"{running.namespace}/{running.name}"
                log.warning("what pod %s has on disk cannot be measured: %s", name, error)
                continue
            logs = {one.name: _log_bytes(one.log_path) for one in running.containers}
            images = {
                one.name: layers.get(one.id, 0) + (logs[one.name] if _lies_on(one.log_path, device) else 0)
                for one in running.containers
            }
            found[running.uid] = DiskUsage(
                volumes=usage.bytes,
                containers={one.name: layers.get(one.id, 0) + logs[one.name] for one in running.containers},
                images=images if device is not None else None,
                inodes=usage.inodes,
                files=usage.beside,
            )
        return found

    async def evict(self, uid: str, message: str, grace_seconds: int) -> None:
        """End the pod; done when what it held is free."""
        await self._manager.evict(uid, message, grace_seconds)


def _attempt(record: ContainerRecord) -> int:
    text = record.labels.get(LABEL_ATTEMPT, "")
    return int(text) if text.isascii() and text.isdecimal() else -1


def _lies_on(log_path: str, device: int | None) -> bool:
    try:
        return device is not None and bool(log_path) and Path(log_path).parent.stat().st_dev == device
    except OSError:
        return False


def _log_bytes(log_path: str) -> int:
    """The log and what was rotated away from it."""
    if not log_path:
        return 0
    path = Path(log_path)
    try:
        with os.scandir(path.parent) as entries:
            return sum(_size(entry) for entry in entries if entry.name.startswith(path.name))
    except OSError:
        return 0  # it is gone, or cannot be read


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0  # rotated away meanwhile


def _running_pod(pod: Pod, records: Mapping[str, ContainerRecord], *, static: bool) -> RunningPod:
    containers = [*pod.spec.init_containers, *pod.spec.containers]
    return RunningPod(
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        containers=[_container(c, records[c.name]) for c in containers if c.name in records],
        priority=pod.spec.priority or 0,
        qos=qos_class(pod),
        critical=static or is_critical(pod),
        grace_seconds=pod.spec.termination_grace_period_seconds,
        requests=pod_requests(pod),
        volume_limits={
            volume.name: limit
            for volume in pod.spec.volumes
            if volume.empty_dir is not None
            and volume.empty_dir.medium != "Memory"
            and (limit := parse_quantity(volume.empty_dir.size_limit or 0))
        },
        storage_limit=pod_limits(pod).get(STORAGE) or None,
    )


def _container(container: Container, record: ContainerRecord) -> RunningContainer:
    return RunningContainer(
        name=container.name,
        id=record.id,
        pid=record.pid,
        log_path=record.log_path,
        requests={name: parse_quantity(text) for name, text in container.resources.requests.items()},
        storage_limit=_storage_limit(container),
    )


def _storage_limit(container: Container) -> float | None:
    """In bytes; Kubernetes has it that 0 is no limit."""
    return parse_quantity(container.resources.limits.get(STORAGE, 0)) or None
