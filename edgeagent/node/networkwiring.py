"""The pod network joined to the pods and the desired state of this node: a part of the composition root."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgeagent.api.clock import Clock
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.events import EventRecorder
from edgeagent.node.network.keeper import NetworkKeeper
from edgeagent.node.network.state import Uplinked
from edgeagent.node.plugins.facades import NetworkFacade
from edgeagent.node.status import Conditions


@dataclass(frozen=True, slots=True)
class NetworkMeans:
    """What of the agent the network works with. ``objects`` are all that is desired, from either source."""

    node: str
    clock: Clock
    rng: random.Random
    events: EventRecorder
    objects: Callable[[], Iterable[KubernetesObject]]
    pods: Callable[[], Iterable[tuple[Pod, PodStatus]]]
    connected: Callable[[], bool]
    brokers: Sequence[str]
    on_change: Callable[[], None]
    resync_seconds: float


def make_network(plugin: NetworkFacade | None, means: NetworkMeans) -> NetworkKeeper | None:
    """The keeper of the node's network; None where no plugin makes one."""
    if plugin is None:
        return None
    return NetworkKeeper(
        plugin,
        node=means.node,
        clock=means.clock,
        rng=means.rng,
        events=means.events,
        objects=means.objects,
        pods=means.pods,
        uplinked=lambda: Uplinked(means.connected(), means.brokers),
        on_change=means.on_change,
        resync_seconds=means.resync_seconds,
    )


def cluster_dns(keeper: NetworkKeeper | None) -> Sequence[str]:
    """Where pods ask for the names of the cluster; empty where nobody answers."""
    return keeper.report.dns if keeper is not None else ()


def tell_network(conditions: Conditions, keeper: NetworkKeeper | None, now: float) -> str:
    """Set the condition ``NetworkUnavailable`` (as in Kubernetes, False is good); the node's public key."""
    if keeper is None:
        return ""
    problem = keeper.problem
    reason, message = problem or ("NetworkReady", "")
    conditions.set("NetworkUnavailable", problem is not None, reason, message, now)
    return keeper.report.public_key
