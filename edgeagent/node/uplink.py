"""The node's end of the wire: one MQTT session, and what goes through it both ways.

Everything the broker can do is here; the agent runs the same without it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.node import NodeStatus
from edgeagent.node.calls import NodeCalls
from edgeagent.node.config import MqttSection
from edgeagent.node.events import EventRecorder
from edgeagent.node.hubcalls import HubCalls
from edgeagent.node.hubtime import HubTime
from edgeagent.node.identity import IdentityDir, NodeIdentity
from edgeagent.node.operations import Operations
from edgeagent.node.renewal import Renewal
from edgeagent.node.renewalwiring import RenewalParts, make_renewal
from edgeagent.node.renewedfiles import RenewedFiles
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import Change, DesiredState, get_meta, set_meta
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.streams.operatorstreams import OperatorStreams
from edgeagent.node.sync.desired import DesiredSync
from edgeagent.node.sync.fetch import ObjectFetcher
from edgeagent.node.sync.report import Reporter
from edgeagent.node.trustedtime import TrustedTime
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.clientid import client_id
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.reports import PodReport, Presence
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig, Will
from edgeagent.wire.signedtime import TIME
from edgeagent.wire.tls import client_context
from edgeagent.wire.topics import Topics
from edgeagent.wire.traffic import Traffic

log = logging.getLogger(__name__)

FETCH_PATIENCE_SECONDS = 10.0
SUBSCRIBE_RETRY_SECONDS = 30.0
SESSIONS_RESERVED = 100


class UplinkParts(msgspec.Struct, frozen=True):
    """What an uplink is made of."""

    identity: NodeIdentity
    files: IdentityDir
    brokers: Sequence[BrokerAddress]
    mqtt: MqttSection
    events: EventRecorder
    database: Database
    desired: DesiredState
    outbox: Outbox
    topics: Topics
    clock: Clock
    time: TrustedTime
    rng: random.Random
    operations: Operations
    streams: OperatorStreams
    on_switch: Callable[[Change], None]
    on_change: Callable[[], None]
    prepare: Callable[[], None]
    forget: Callable[[str], None]


class Uplink:
    """Connects, receives desired state and requests, reports. ``last_error``: why there is no connection."""

    def __init__(self, parts: UplinkParts) -> None:
        """PermanentError where the node's certificate files cannot be used."""
        self._parts = parts
        node, topics = parts.identity.node, parts.topics
        files = parts.files
        tls = None
        if any(address.tls for address in parts.brokers):
            in_force = RenewedFiles(files).in_force
            tls = client_context(in_force.ca, in_force.certificate, in_force.key, floor=parts.time.floor)
        self._session_number = int(get_meta(parts.database, "session") or "0")
        self._sessions_reserved = self._session_number
        self.last_error = ""
        self._session = MqttSession(
            SessionConfig(
                addresses=parts.brokers,
                client_id=_client_id(parts),
                tls=tls,
                keepalive=parts.mqtt.keepalive_seconds,
                session_expiry=parts.mqtt.session_expiry_seconds,
                reconnect_ceiling=parts.mqtt.reconnect_ceiling_seconds,
            ),
            clock=parts.clock,
            rng=parts.rng,
            on_message=self._message,
            on_connect=self._connected,
            on_disconnect=self._disconnected,
            will=self._will,
        )
        parts.streams.use(self._session)
        self._reporter = Reporter(
            session=self._session,
            connected=lambda: self._session.connection is not None,
            outbox=parts.outbox,
            topics={"events": topics.events(node), "audit": topics.audit(node)},
            clock=parts.clock,
            rng=parts.rng,
        )
        self._fetcher = ObjectFetcher(topics, self._session, patience=FETCH_PATIENCE_SECONDS)
        self._sync = DesiredSync(
            cluster=parts.identity.cluster,
            node=node,
            pinned=parts.identity.trust,
            desired=parts.desired,
            fetcher=self._fetcher,
            clock=parts.clock,
            rng=parts.rng,
            on_switch=self._switched,
            on_problem=parts.on_change,
            prepare=parts.prepare,
            on_issued=parts.time.at_least,
        )
        self._hub = HubCalls(self._session, topics, node)
        self._hub_time = HubTime(
            parts.time,
            cluster=parts.identity.cluster,
            clock=parts.clock,
            anchor=lambda: self._sync.anchor,
            ask=lambda data: self._hub.call(TIME, data),
            on_settled=self._time_settled,
            on_change=parts.on_change,
        )
        self._calls = NodeCalls(
            node=node,
            session=self._session,
            anchor=lambda: self._sync.anchor,
            operations=parts.operations,
            clock=parts.time,
            payload_limit=lambda: self.payload_limit,
            make_sure=self._hub_time.make_sure,
            on_expired=self._hub_time.doubt,
        )
        self._renewal = self._make_renewal() if tls is not None else None
        self._subscribe = asyncio.Event()

    def _make_renewal(self) -> Renewal:
        parts = self._parts
        return make_renewal(
            RenewalParts(
                identity=parts.identity,
                files=parts.files,
                brokers=parts.brokers,
                database=parts.database,
                desired=parts.desired,
                events=parts.events,
                topics=parts.topics,
                clock=parts.clock,
                rng=parts.rng,
                time=parts.time,
                session=self._session,
                hub=self._hub,
                anchor=lambda: self._sync.anchor,
                on_change=parts.on_change,
            )
        )

    @property
    def connected(self) -> bool:
        """Whether a broker has accepted the session."""
        return self._session.connection is not None

    async def answers(self, seconds: float) -> bool:
        """Whether the broker answers within ``seconds``; nothing but that comes of asking."""
        try:
            async with asyncio.timeout(seconds):
                # The node never subscribed to this, and whoever asks to be rid of it is told so all the same.
                await self._session.unsubscribe([self._parts.topics.status(self._parts.identity.node)])
        except (EdgeAgentError, TimeoutError):
            return False
        return True

    @property
    def broker(self) -> str:
        """The broker in use, as ``host:port``, empty where there is none."""
        connection = self._session.connection
        return f"{connection.address.host}:{connection.address.port}" if connection is not None else ""

    @property
    def connections(self) -> int:
        """How often a broker has accepted the session since the agent began."""
        return self._session.accepted

    @property
    def traffic(self) -> Traffic:
        """What went over the wire since the agent began."""
        return self._session.traffic

    @property
    def newest_generation(self) -> int:
        """The highest generation of an index that was signed for this node; 0 before the first."""
        return self._sync.newest

    @property
    def sync_lag(self) -> float:
        """For how many seconds an index waits to be in force."""
        return self._sync.lag

    @property
    def sync_failures(self) -> Mapping[str, int]:
        """How often an index could not be put in force, by the reason."""
        return self._sync.failures

    @property
    def conditions(self) -> list[tuple[str, bool, str, str]]:
        """What the node says of its connection: type, whether it is good, reason and message of each."""
        refused, connected = self._sync.problem, self.connected
        found = [
            ("DesiredStateInForce", refused is None, *(refused or ("InForce", ""))),
            ("Connected", connected, "Connected" if connected else "Disconnected", self.last_error),
        ]
        if self._renewal is not None:
            found.append(("CertificateRenewed", *self._renewal.condition))
        return found

    async def run(self) -> None:
        """Until cancelled."""
        working = asyncio.create_task(self._work())
        try:
            await asyncio.shield(working)
        finally:
            # While there still is a session to say so.
            await self._parts.streams.stop()
            working.cancel()
            await asyncio.wait({working})

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._session.run())
                tasks.create_task(self._sync.run())
                tasks.create_task(self._reporter.run())
                tasks.create_task(self._keep_subscribed())
                tasks.create_task(self._hub_time.run())
                if self._renewal is not None:
                    tasks.create_task(self._renewal.run())
        finally:
            await self._calls.stop()

    def report_node(self, status: NodeStatus) -> None:
        """The node's status is now this."""
        self._reporter.set(self._parts.topics.status(self._parts.identity.node), status)

    def report_pod(self, namespace: str, name: str, report: PodReport) -> None:
        """A pod's status is now this."""
        self._reporter.set(self._parts.topics.pod(self._parts.identity.node, namespace, name), report)

    def clear_pod(self, namespace: str, name: str, uid: str) -> None:
        """Nothing of a pod is left on this node."""
        topic = self._parts.topics.pod(self._parts.identity.node, namespace, name)
        self._reporter.clear(topic, lambda: self._parts.forget(uid))

    @property
    def payload_limit(self) -> int:
        """The most bytes that a message may have; 0 while there is no connection."""
        connection = self._session.connection
        return connection.payload_limit if connection is not None else 0

    async def publish_logs(self, payload: bytes) -> None:
        """Publish on the node's topic for logs, and wait until the broker has it."""
        await self._session.publish(self._parts.topics.logs(self._parts.identity.node), payload)

    async def publish_metrics(self, payload: bytes) -> None:
        """Publish on the node's topic for metrics, and wait until the broker has it for somebody.

        After a broker that lost its memory came back, the hub may take longer to return than the node.
        """
        topic = self._parts.topics.metrics(self._parts.identity.node)
        await self._session.publish(topic, payload, heard=True)

    def events_appended(self) -> None:
        """The outbox has something new."""
        self._reporter.wake()

    def _will(self) -> Will:
        self._session_number += 1
        if self._session_number > self._sessions_reserved:
            # In blocks, for a node that is offline for long tries often, and its disk wears.
            self._sessions_reserved = self._session_number + SESSIONS_RESERVED
            try:
                set_meta(self._parts.database, [("session", str(self._sessions_reserved))])
            except EdgeAgentError as error:
                log.warning("the session number could not be kept: %s", error)
        presence = Presence(online=False, session=self._session_number)
        return Will(self._parts.topics.online(self._parts.identity.node), canonical_json(presence))

    def _connected(self, _connection: Connection) -> None:
        self.last_error = ""
        online = Presence(online=True, session=self._session_number)
        self._reporter.set(self._parts.topics.online(self._parts.identity.node), online)
        self._reporter.reconnected()
        self._subscribe.set()
        self._hub_time.connected()
        self._parts.on_change()

    def _time_settled(self) -> None:
        """What time it is comes first: by a clock that is years ahead each certificate has run out."""
        self._parts.streams.judge(self._parts.operations.check)
        if self._renewal is not None and self.connected:
            self._renewal.connected()

    def _switched(self, change: Change) -> None:
        self._parts.on_switch(change)
        self._parts.streams.judge(self._parts.operations.check)
        self._hub_time.switched()
        if self._renewal is not None:
            self._renewal.switched()

    def _disconnected(self, reason: str) -> None:
        self._parts.streams.disconnected(reason)
        if self._renewal is not None:
            self._renewal.disconnected(reason)
        if reason != self.last_error:
            self.last_error = reason
            self._parts.on_change()

    async def _keep_subscribed(self) -> None:
        """After each connection: ask for the index and for requests. Retained messages come at once."""
        node, topics = self._parts.identity.node, self._parts.topics
        while True:
            await self._subscribe.wait()
            self._subscribe.clear()
            try:
                await self._session.subscribe(
                    [topics.desired(node), topics.node_rpc(node, "+"), topics.stream(node, "+", "+")]
                )
                self._sync.connected()
                self._parts.streams.connected()
            except EdgeAgentError as error:
                if not self.connected:
                    continue
                self.last_error = f"the broker does not let this node read its topics: {error}"
                log.warning("%s", self.last_error)
                self._parts.on_change()
                # A new connection does not wait for this one's next try.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SUBSCRIBE_RETRY_SECONDS):
                        await self._subscribe.wait()
                self._subscribe.set()

    def _message(self, message: Message) -> None:
        match self._parts.topics.levels(message.topic):
            case ["objects", digest]:
                self._fetcher.deliver(digest, message.payload)
            case ["nodes", node, "desired"] if node == self._parts.identity.node:
                self._sync.offer(message.payload)
            case ["nodes", node, "rpc", method] if node == self._parts.identity.node:
                self._calls.handle(method, message)
            case ["nodes", node, "streams", user, stream] if node == self._parts.identity.node:
                self._parts.streams.deliver(user, stream, message.payload)
            case ["replies", node, _] if node == self._parts.identity.node:
                self._hub.deliver(message)


def _client_id(parts: UplinkParts) -> str:
    """Constant for this enrolment."""
    key = parts.files.keys.usable(parts.files.sealing_key)
    secret = key.read_bytes() if key.exists() else b""
    return client_id(parts.identity.cluster, parts.identity.node, secret)
