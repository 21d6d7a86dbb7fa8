"""What a renewal needs of the uplink, put together: the two ways to the hub, the session, the store."""

import random
import ssl
from collections.abc import Callable, Sequence

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.node.events import EventRecorder
from edgeagent.node.hubcalls import HubCalls
from edgeagent.node.identity import IdentityDir, NodeIdentity
from edgeagent.node.renewal import Renewal, RenewalMeans
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.trustedtime import TrustedTime
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.join import BrokerAddress, parse_broker
from edgeagent.wire.session import MqttSession
from edgeagent.wire.topics import Topics
from edgeagent.wire.trial import try_connection


class RenewalParts(msgspec.Struct, frozen=True):
    """Parts of the uplink. ``time`` is what certificates are judged by."""

    identity: NodeIdentity
    files: IdentityDir
    brokers: Sequence[BrokerAddress]
    database: Database
    desired: DesiredState
    events: EventRecorder
    topics: Topics
    clock: Clock
    rng: random.Random
    time: TrustedTime
    session: MqttSession
    hub: HubCalls
    anchor: Callable[[], TrustAnchor]
    on_change: Callable[[], None]


def make_renewal(parts: RenewalParts) -> Renewal:
    """The renewal of the node whose uplink this is."""
    about = ObjectReference(kind="Node", name=parts.identity.node)

    async def ask(data: bytes) -> bytes:
        from edgeagent.wire.renewal import RENEW

        return await parts.hub.call(RENEW, data)

    async def ask_at_door(data: bytes, listeners: Sequence[str]) -> bytes:
        from edgeagent.node.enrolmentdoor import ask_at_door

        addresses = doors(listeners, parts.identity.enrolment, parts.brokers)
        return await ask_at_door(data, addresses, parts.topics, clock=parts.clock, rng=parts.rng)

    async def probe(tls: ssl.SSLContext) -> None:
        connection = parts.session.connection
        addresses = [connection.address] if connection is not None else parts.brokers
        if reason := await try_connection(addresses, tls, clock=parts.clock, rng=parts.rng):
            raise TemporaryError(
                f"the broker does not let the new one in ({reason})", reason="CertificateRefused"
            )

    return Renewal(
        RenewalMeans(
            cluster=parts.identity.cluster,
            node=parts.identity.node,
            files=parts.files,
            database=parts.database,
            clock=parts.clock,
            rng=parts.rng,
            now=parts.time.now,
            floor=parts.time.floor,
            on_time=parts.time.told,
            anchor=parts.anchor,
            objects=lambda: list(parts.desired.objects.values()),
            connected=lambda: parts.session.connection is not None,
            ask=ask,
            ask_at_door=ask_at_door,
            probe=probe,
            use=parts.session.use_tls,
            say=lambda kind, reason, message: parts.events.record(about, kind, reason, message),
            on_change=parts.on_change,
        )
    )


def doors(
    listeners: Sequence[str], enrolment: Sequence[BrokerAddress], brokers: Sequence[BrokerAddress]
) -> list[BrokerAddress]:
    """Where to ask without a certificate: where the hub said, and at the port after each broker's."""
    found = []
    for text in listeners:
        try:
            found.append(parse_broker(text))
        except InvalidObjectError:
            continue  # of a hub that writes addresses another way
    others = [BrokerAddress(host=b.host, port=b.port + 1, tls=b.tls) for b in brokers if b.port < 65_535]
    return list(dict.fromkeys([*found, *enrolment, *others]))
