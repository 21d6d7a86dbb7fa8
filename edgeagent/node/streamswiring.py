"""Streams joined to what serves them: a part of the composition root."""

from edgeagent.api.clock import Clock
from edgeagent.node.config import RemoteSection
from edgeagent.node.events import EventRecorder
from edgeagent.node.identity import NodeIdentity
from edgeagent.node.plugins.facades import RuntimeFacade, UnsealerFacade
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.streams.events import EventsService
from edgeagent.node.streams.exec import ExecService
from edgeagent.node.streams.follow import FollowService
from edgeagent.node.streams.operatorstreams import Limits, OperatorStreams
from edgeagent.node.streams.portforward import PortForwardService
from edgeagent.node.streams.service import Services
from edgeagent.wire.localevents import EVENTS
from edgeagent.wire.streamapi import EXEC, FOLLOW, PORT_FORWARD


def make_services(pods: PodManager | None, runtime: RuntimeFacade | None, clock: Clock) -> Services:
    """What this node serves, behind every door. Both are None where no runtime could be loaded."""
    return {
        FOLLOW: FollowService(pods, clock.now),
        EXEC: ExecService(pods, runtime),
        PORT_FORWARD: PortForwardService(pods),
    }


def local_services(services: Services, events: EventRecorder) -> Services:
    """What is served at the node's own socket: ``services``, and what happens on the node."""
    return {**services, EVENTS: EventsService(events)}


def make_operator_streams(
    identity: NodeIdentity,
    services: Services,
    unsealer: UnsealerFacade | None,
    config: RemoteSection,
    clock: Clock,
) -> OperatorStreams:
    """The streams of a node that is enrolled. ``clock`` says what time it is as certificates are judged."""
    return OperatorStreams(
        cluster=identity.cluster,
        node=identity.node,
        services=services,
        unseal=unsealer.unseal_stream if unsealer is not None else None,
        limits=stream_limits(config),
        clock=clock,
    )


def stream_limits(config: RemoteSection) -> Limits:
    """What ``[remote]`` says; logs, which any viewer may read, have three quarters of the streams at most."""
    most = config.max_streams
    kept = max(1, most // 4) if most > 1 else 0
    return Limits(
        config.bytes_per_second, most, config.max_streams_per_operator, of_method={FOLLOW: most - kept}
    )
