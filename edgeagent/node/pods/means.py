"""What the workers of a node's pods work with: the manager fills it in, and holds what is behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.events import EventRecorder
from edgeagent.node.plugins.facades import NetworkFacade, RuntimeFacade
from edgeagent.node.pods.environment import FindConfigMap, FindSecret
from edgeagent.node.store.pods import PodRecord


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker works with; the same for all pods of a node."""

    clock: Clock
    runtime: RuntimeFacade
    network: NetworkFacade | None
    events: EventRecorder
    steps: asyncio.Semaphore
    pulls: asyncio.Semaphore
    stops: asyncio.Semaphore
    wanted: Callable[[str], Pod | None]
    admit: Callable[[Pod], Awaitable[Pod]]
    find_config_map: Callable[[str], FindConfigMap]
    find_secret: Callable[[str], FindSecret]
    containers: Callable[[str], list[ContainerRecord]]
    observed: Callable[[ContainerRecord], None]
    vanished: Callable[[ContainerRecord], None]
    ended: Callable[[str], set[str]]
    """Ids of a pod's containers whose process has ended and whose exit code is still to be asked for."""
    asks: asyncio.Semaphore
    """Bounds the questions to the other plugins, which have lanes of their own."""
    confirmed: Callable[[], bool]
    """Whether desired state is the newest accepted, or a copy of it that may be old."""
    record: Callable[[str], PodRecord | None]
    keep: Callable[[PodRecord], None]
    report: Callable[[Pod, PodStatus], None]
    gone: Callable[[str], None]
    trouble: Callable[[EdgeAgentError], None]
    in_the_way: Callable[[Pod], bool]
    host_ip: Callable[[], str]
