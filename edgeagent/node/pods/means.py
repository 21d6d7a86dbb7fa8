"""What the workers of a node's pods work with: the manager fills it in, and holds what is behind it."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.network import Attachment, PodSandbox
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.events import EventRecorder
from edgeagent.node.histogram import Histogram
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.pods.admission import Admissions
from edgeagent.node.pods.lookup import Lookup
from edgeagent.node.pods.sandbox import Sandboxes
from edgeagent.node.pods.volumes import Volumes
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.store.pods import PodRecord


class NodeFacts(msgspec.Struct, frozen=True):
    """The node as its pods see it. ``allocatable``: resources in base units; ``profiles``: seccomp's folder.

    ``pids_limit`` holds for each container, 0 for none.
    """

    name: str = ""
    allocatable: Mapping[str, float] = msgspec.field(default_factory=dict)
    pids_limit: int = 0
    unsafe_sysctls: Sequence[str] = ()
    profiles: Path = Path("/var/lib/edgeagent/seccomp")

    @property
    def memory(self) -> int:
        """Bytes of memory."""
        return int(self.allocatable.get("memory", 0))


class PodNetwork(Protocol):
    """Gives pods their places on the network, and takes them back. Raises what a runtime call may raise."""

    def adopt(self, pods: Sequence[PodSandbox]) -> None:
        """These ran before this process began: their networks are in use. Called once, before all else."""

    async def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's namespace and addresses."""

    async def detach(self, pod: PodSandbox) -> None:
        """Give back what ``attach`` made."""


class Limits(msgspec.Struct, frozen=True):
    """How many calls of a kind may be under way at once, over all pods."""

    steps: asyncio.Semaphore
    pulls: asyncio.Semaphore
    stops: asyncio.Semaphore
    """Of containers that get no time to end in, or next to none."""
    execs: asyncio.Semaphore
    hooks: asyncio.Semaphore
    """Commands: those of probes, and those of hooks."""
    asks: asyncio.Semaphore
    """Questions to the other plugins, which have lanes of their own."""


class Means(msgspec.Struct, frozen=True):
    """What a worker works with; the same for all pods of a node."""

    clock: Clock
    """What is waited for is counted by it; it is never set."""
    today: Callable[[], float]
    """What is told of is dated by it, in seconds since the epoch."""
    rng: random.Random
    node: NodeFacts
    runtime: RuntimeFacade
    network: PodNetwork | None
    volumes: Volumes
    sandboxes: Sandboxes
    folder: Path
    """Where what belongs to pods lies on disk, a folder for each uid."""
    events: EventRecorder
    gate: Gate
    """Whether pods may begin to run."""
    limits: Limits
    wanted: Callable[[str], Pod | None]
    static: Callable[[str], bool]
    """Whether the pod comes from the node's own folder."""
    admissions: Admissions
    lookup: Callable[[Pod], Lookup]
    containers: Callable[[str], list[ContainerRecord]]
    observed: Callable[[ContainerRecord], None]
    vanished: Callable[[ContainerRecord], None]
    ended: Callable[[str], set[str]]
    """Ids of a pod's containers whose process has ended and whose exit code is still to be asked for."""
    exit_of: Callable[[str, str], Coroutine[object, object, None]]
    """Waits until the process of a pod's running container has ended."""
    confirmed: Callable[[], bool]
    """Whether desired state is the newest accepted, or a copy of it that may be old."""
    record: Callable[[str], PodRecord | None]
    keep: Callable[[PodRecord], None]
    report: Callable[[Pod, PodStatus], None]
    gone: Callable[[str], None]
    trouble: Callable[[EdgeAgentError], None]
    passes: Histogram
    """How many seconds each look of a worker at its pod took."""
    started: Callable[[], None]
    """To be called when a container was started."""
    in_the_way: Callable[[Pod], bool]
    host_ip: Callable[[], str]
