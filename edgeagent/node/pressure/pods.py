"""What pressure needs to know of the pods that run, and how it has one evicted."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from edgeagent.api.objects.base import ObjectReference

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]


class RunningContainer(msgspec.Struct, frozen=True):
    """A container that runs, or ran last. ``pid``: its main process on the host, 0 where it has ended.
    ``log_path``: empty where it has no log.

    ``requests``: in base units, as far as given. ``storage_limit``: of ephemeral storage, None for none.
    """

    name: str
    id: str
    pid: int
    log_path: str = ""
    requests: Mapping[str, float] = msgspec.field(default_factory=dict)
    storage_limit: float | None = None


class RunningPod(msgspec.Struct, frozen=True):
    """A pod that is not over, in plain values.

    ``critical``: never evicted (static, or of a system priority). ``requests`` are the whole pod's, in base
    units, under ``memory`` and ``ephemeral-storage``. ``volume_limits``: the ``sizeLimit`` of each emptyDir
    that has one, by volume name. ``storage_limit``: the pod's limit of ephemeral storage, None for none.
    """

    uid: str
    namespace: str
    name: str
    containers: Sequence[RunningContainer]
    priority: int = 0
    qos: QosClass = "BestEffort"
    critical: bool = False
    grace_seconds: int = 30
    requests: Mapping[str, float] = msgspec.field(default_factory=dict)
    volume_limits: Mapping[str, float] = msgspec.field(default_factory=dict)
    storage_limit: float | None = None

    @property
    def reference(self) -> ObjectReference:
        """The pod as an event names it."""
        return ObjectReference(kind="Pod", namespace=self.namespace, name=self.name, uid=self.uid)

    @property
    def has_storage_limits(self) -> bool:
        """Whether its disk usage can be a reason of its own to evict it."""
        limits = (self.storage_limit, *(container.storage_limit for container in self.containers))
        return bool(self.volume_limits) or any(limit is not None for limit in limits)


class DiskUsage(msgspec.Struct, frozen=True):
    """What a pod has on disk, in bytes: emptyDir ``volumes`` by name, and ``containers`` by name (writable
    layer and logs), and ``files``: what else the node keeps for it and its containers can write to.
    ``inodes`` in all. ``images``: how much of ``containers`` lies on the images' file system, by name; None
    where that is the node's own.
    """

    volumes: Mapping[str, int] = msgspec.field(default_factory=dict)
    containers: Mapping[str, int] = msgspec.field(default_factory=dict)
    inodes: int = 0
    files: int = 0
    images: Mapping[str, int] | None = None

    @property
    def total(self) -> int:
        """What evicting the pod gives back."""
        return sum(self.volumes.values()) + sum(self.containers.values()) + self.files


class PodsUnderPressure(Protocol):
    """The pod lifecycle, as pressure sees it. Called on the loop."""

    def running(self) -> Sequence[RunningPod]:
        """All pods with a running container, and these containers. Called often: answers from memory."""

    def on_disk(self) -> Sequence[RunningPod]:
        """All pods that are not over, and the last run of each container: what was written is still there.

        Called often: answers from memory.
        """

    async def disk_usage(self, pods: Sequence[RunningPod]) -> Mapping[str, DiskUsage]:
        """By uid, what these pods have on disk; those that cannot be measured are left out.

        May raise TemporaryError or PermanentError.
        """

    def evict(self, uid: str, message: str, grace_seconds: int) -> Awaitable[None]:
        """End the pod within ``grace_seconds`` (0: at once) and give back its volumes and writable layers.

        Its phase becomes ``Failed``, the reason ``Evicted``, with ``message``. Done when the space is free.
        To cancel it is to wait no longer. May be asked again for a pod that is being evicted.
        """


class Reclaimer(Protocol):
    """Frees disk space without ending a container that runs."""

    async def reclaim(self) -> None:
        """Free what can be freed. May raise TemporaryError or PermanentError."""
