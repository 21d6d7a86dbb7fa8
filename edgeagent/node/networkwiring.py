"""The pod network joined to the pods and the desired state of this node: a part of the composition root."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.events import EventRecorder
from edgeagent.node.identity import IdentityDir
from edgeagent.node.network.keeper import NetworkKeeper
from edgeagent.node.network.localpods import Remembered
from edgeagent.node.network.state import Uplinked
from edgeagent.node.networkkey import PublicKey, proven
from edgeagent.node.plugins.facades import NetworkFacade
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.static.folder import StaticPods
from edgeagent.node.status import Conditions
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState


class Broker(Protocol):
    """The connection to it, as far as the network asks."""

    @property
    def connected(self) -> bool:
        """Whether there is one."""

    async def answers(self, seconds: float) -> bool:
        """Whether the broker answers within ``seconds``."""


class NetworkMeans(msgspec.Struct, frozen=True):
    """What of the agent the network works with. ``static`` and ``manager`` give what is made after this is.

    ``broker`` is None while the node has no cluster; ``brokers`` are where it is.
    """

    node: str
    clock: Clock
    rng: random.Random
    events: EventRecorder
    desired: DesiredState
    static: Callable[[], StaticPods | None]
    manager: Callable[[], PodManager | None]
    broker: Callable[[], Broker | None]
    brokers: Sequence[str]
    on_change: Callable[[], None]
    resync_seconds: float


def make_network(plugin: NetworkFacade | None, means: NetworkMeans) -> NetworkKeeper | None:
    """The keeper of the node's network; None where no plugin makes one."""
    if plugin is None:
        return None

    def objects() -> Iterable[KubernetesObject]:
        static = means.static()
        return (*means.desired.objects.values(), *(static.objects.values() if static is not None else ()))

    def pods() -> Iterable[tuple[Pod, PodStatus]]:
        manager = means.manager()
        return manager.statuses() if manager is not None else ()

    def remembered() -> Iterable[Remembered]:
        manager = means.manager()
        return manager.remembered() if manager is not None else ()

    def dns_changed() -> None:
        if (manager := means.manager()) is not None:
            manager.surroundings_changed()

    def uplinked() -> Uplinked:
        broker = means.broker()
        return Uplinked(broker is not None and broker.connected, means.brokers)

    async def answers(seconds: float) -> bool:
        broker = means.broker()
        return broker is not None and await broker.answers(seconds)

    return NetworkKeeper(
        plugin,
        node=means.node,
        clock=means.clock,
        rng=means.rng,
        events=means.events,
        objects=objects,
        pods=pods,
        remembered=remembered,
        uplinked=uplinked,
        answers=answers,
        on_change=means.on_change,
        on_dns=dns_changed,
        resync_seconds=means.resync_seconds,
    )


def cluster_dns(keeper: NetworkKeeper | None) -> Sequence[str] | None:
    """Where pods ask for the cluster's names; empty where nobody answers, None while that is not known."""
    return () if keeper is None else keeper.dns


def tell_network(
    conditions: Conditions, keeper: NetworkKeeper | None, now: float, database: Database, files: IdentityDir
) -> PublicKey:
    """Set the condition ``NetworkUnavailable`` (as in Kubernetes, False is good); the node's public key.

    A key that cannot be proven is told as a problem: the hub takes none without proof.
    """
    if keeper is None:
        return PublicKey()
    problem, public_key = keeper.problem, PublicKey(keeper.report.public_key)
    try:
        public_key = proven(public_key.key, database, files)
    except EdgeAgentError as error:
        problem = problem or ("KeyNotProven", f"the hub cannot be shown this node's WireGuard key: {error}")
    reason, message = problem or ("NetworkReady", "")
    conditions.set("NetworkUnavailable", problem is not None, reason, message, now)
    return public_key
