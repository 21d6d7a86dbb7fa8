"""The hub's composition root: one MQTT session, and what takes and makes the messages on it.

May not hold a rule of its own: it wires store, observer, publisher and calls to each other and to the
session, and sees that what follows a connection happens in order.
"""

import asyncio
import logging
import random
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path

from edgeagent.api.clock import Clock, SystemClock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.trust import CLUSTER_TRUST_NAME
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.api import Api
from edgeagent.cluster.audit import AuditLogs
from edgeagent.cluster.ca import HUB_NAME, USER_PREFIX
from edgeagent.cluster.calls import Calls
from edgeagent.cluster.desired import Wanted
from edgeagent.cluster.layout import HubFiles, read_file
from edgeagent.cluster.lock import HubLock
from edgeagent.cluster.membership import Membership
from edgeagent.cluster.metrics import HubMetrics
from edgeagent.cluster.networking import Networking
from edgeagent.cluster.nodecalls import NodeCalls
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.operatorgate import OperatorGate
from edgeagent.cluster.owncertificates import OwnCertificates
from edgeagent.cluster.publisher import Publisher
from edgeagent.cluster.renewal import AuthoritySource, Renewals
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.signing import SigningSource
from edgeagent.cluster.store import Store, StoredObject
from edgeagent.cluster.timekeeping import Timekeeping
from edgeagent.cluster.trust import follow_files
from edgeagent.cluster.views import Views
from edgeagent.wire.canonical import digest
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.operatorcalls import CALL_SECONDS
from edgeagent.wire.renewal import RENEW, is_renewal
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig
from edgeagent.wire.signedtime import TIME
from edgeagent.wire.tls import client_context
from edgeagent.wire.topics import Topics

log = logging.getLogger(__name__)

CLEAR_AFTER_SECONDS = 600.0
"""An object that no index uses any more stays this long on the broker, for nodes still fetching it."""
SESSION_SECONDS = 7 * 86_400
"""The broker keeps nodes' events for a hub that is away for up to this long."""
BARRIER_SECONDS = 15.0
RECONNECT_FIRST_SECONDS = 0.5
RECONNECT_CEILING_SECONDS = 10.0
"""There is one hub, and it is beside the broker: it may come back sooner than ten thousand nodes."""


class Hub:
    """The hub of one directory. ``run`` works until it is cancelled."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        addresses: Sequence[BrokerAddress] | None = None,
        clear_after: float = CLEAR_AFTER_SECONDS,
        reconnect_first: float = RECONNECT_FIRST_SECONDS,
    ) -> None:
        self._files = HubFiles(directory)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._settings = settings = load_settings(self._files.settings)
        self._topics = Topics(settings.cluster)
        self._signing = SigningSource(self._files.signing)
        context = client_context(self._files.ca_certificate, self._files.hub_certificate, self._files.hub_key)
        config = SessionConfig(
            addresses=list(addresses or settings.hub_addresses()),
            client_id=_client_id(settings.cluster, self._files.hub_key),
            tls=context,
            session_expiry=SESSION_SECONDS,
            reconnect_first=reconnect_first,
            reconnect_ceiling=RECONNECT_CEILING_SECONDS,
        )
        self._lock = HubLock(self._files.lock)
        try:
            self._metrics = HubMetrics(self._files, clock=self._clock, rng=self._rng)
            self._store = Store(self._files.database)
        except BaseException:
            self._lock.release()
            raise
        self._session = MqttSession(
            config,
            clock=self._clock,
            rng=self._rng,
            on_message=self._on_message,
            on_connect=self._on_connect,
            on_disconnect=self._on_disconnect,
        )
        self._observer = Observer(
            self._store,
            self._clock,
            on_change=self._changed,
            on_gone=self._pod_gone,
            on_node=self._node_spoke,
        )
        self._publisher = Publisher(
            self._store,
            self._session,
            self._signing.current,
            self._topics,
            clock=self._clock,
            rng=self._rng,
            grace=clear_after,
            shared=self._told,
            on_published=self._published,
            on_failed=lambda node: self._changed("Node", "", node),
        )
        self._audit = AuditLogs(self._store, self._clock)
        self._views = Views(
            self._store,
            self._observer,
            self._publisher,
            self._audit,
            endpoint_slices=self._slices,
        )
        self._networking = Networking(
            self._store,
            self._observer,
            settings.cluster,
            settings.network,
            clock=self._clock,
            wake_all=self._publisher.wake_all,
        )
        self._api = Api(
            self._store,
            self._views,
            self._observer,
            self._signing.current,
            self._audit,
            network=settings.network or ClusterNetwork(),
            clock=self._clock,
            wake=self._publisher.wake,
            on_change=self._changed,
        )
        self._calls = Calls(
            self._api,
            OperatorGate(
                self._store,
                cluster=settings.cluster,
                ca=self._files.ca_certificate,
                clock=self._clock,
                served=self._audit.recent_calls(2 * CALL_SECONDS),
            ),
            self._views,
            self._session,
            self._topics,
            self._clock,
            SealingKey(read_file(self._files.sealing_key)),
        )
        authorities = AuthoritySource(self._files, self._clock).current
        self._renewals = Renewals(self._store, authorities, self._signing.current, settings, self._clock)
        self._node_calls = NodeCalls(
            self._session,
            self._topics,
            {
                RENEW: lambda node, data: self._renewals.answer(data, name=node),
                TIME: Timekeeping(settings.cluster, self._signing.current, self._clock).answer,
            },
        )
        self._own = OwnCertificates(self._files, authorities, self._clock, self._use_certificate)
        self._membership = Membership(
            self._files,
            settings,
            self._store,
            self._session,
            self._observer,
            self._publisher,
            authorities,
            self._signing.current,
            clock=self._clock,
            rng=self._rng,
            on_joined=self._joined,
            on_left=self._metrics.forget,
            others=lambda data: self._renewals.answer(data) if is_renewal(data) else None,
        )
        self._connected: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] | None = None
        self._barrier: tuple[bytes, asyncio.Event] | None = None
        self.ready = asyncio.Event()
        """Set while the hub is connected and knows what the broker has."""

    async def run(self) -> None:
        """Work until cancelled, then leave the broker in an orderly way and close the store."""
        self._broken = asyncio.get_running_loop().create_future()
        self._follow_files()
        own = asyncio.create_task(self._own.run())
        metrics = asyncio.create_task(self._metrics.run())
        session = asyncio.create_task(self._session.run())
        listening = self._listen_for_changes()
        try:
            await asyncio.wait((session, own, metrics, self._broken), return_when=asyncio.FIRST_COMPLETED)
            for done in (session, own, metrics, self._broken):
                if done.done():
                    done.result()
        finally:
            if listening:
                self._lock.withdraw()
                asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
            for task in (session, own, metrics):
                task.cancel()
            await asyncio.gather(session, own, metrics, return_exceptions=True)
            await self._end_connection()
            await self._calls.close()
            await self._membership.close()
            await self._node_calls.close()
            self._metrics.close()
            self._store.close()
            self._lock.release()

    def _listen_for_changes(self) -> bool:
        """SIGHUP is how ``edgehub node add`` and ``edgehub keys rotate`` say that they changed something."""
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        except (ValueError, RuntimeError):
            return False  # not the main thread, which alone gets signals
        self._lock.advertise()
        return True

    def reload(self) -> None:
        """Something in the directory was changed by another program: look at every node again."""
        self._own.look()
        self._follow_files()
        self._networking.members_changed()
        self._networking.look_again()
        self._calls.authority_changed()
        if self.ready.is_set():
            self._publisher.wake_all()
            self._membership.look()

    @property
    def settled(self) -> bool:
        """Whether all that is wanted is published, as far as the hub knows."""
        return self.ready.is_set() and self._publisher.idle and not self._publisher.failures

    # The connection

    def _on_connect(self, connection: Connection) -> None:
        log.info("packet limit %d bytes", connection.payload_limit)
        self._connected = asyncio.create_task(self._follow_connection())
        self._connected.add_done_callback(self._connection_done)

    def _connection_done(self, task: "asyncio.Task[None]") -> None:
        """A bug, or a database that cannot be read: better to end and be started anew than to stand still."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _on_disconnect(self, reason: str) -> None:
        self.ready.clear()
        self._calls.disconnected()
        if self._connected is not None:
            self._connected.cancel()

    async def _end_connection(self) -> None:
        if self._connected is not None:
            self._connected.cancel()
            await asyncio.gather(self._connected, return_exceptions=True)

    async def _follow_connection(self) -> None:
        """What comes after CONNACK: learn what the broker has, then keep it up to date."""
        backoff = Backoff(self._rng, first=1.0, ceiling=60.0)
        while True:
            try:
                await self._learn()
                break
            except TemporaryError as error:
                log.warning("cannot learn what the broker has: %s", error)
            except PermanentError as error:
                log.error("the broker does not let the hub work: %s (does it use the hub's ACL file?)", error)
            await self._clock.sleep(backoff.next())
        self.ready.set()
        log.info("ready")
        work = [asyncio.create_task(one.run()) for one in (self._publisher, self._networking)]
        try:
            await asyncio.gather(*work)
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _learn(self) -> None:
        topics, everyone = self._topics, "+"
        self._observer.begin()
        self._publisher.begin()
        objects = topics.object(everyone)
        desired = topics.desired(everyone)
        await self._session.subscribe([topics.replies(HUB_NAME, everyone), desired])
        await self._all_retained()
        await self._session.subscribe([objects])
        await self._session.subscribe(
            [topics.online(everyone), topics.status(everyone), topics.pod(everyone, everyone, everyone)]
        )
        await self._session.subscribe(
            [topics.events(everyone), topics.audit(everyone), topics.hub_rpc(everyone, everyone)]
        )
        # A kept session may have asked for them when there was something to do with them.
        ask = self._session.subscribe if self._metrics.wanted else self._session.unsubscribe
        await ask([topics.metrics(everyone)])
        await self._all_retained()
        # What is published from here on is the hub's own: it need not come back.
        await self._session.unsubscribe([objects, desired])
        self._observer.known()
        self._publisher.known()
        for stored in self._store.deleting():
            self._check_terminating(stored)
        await self._membership.open()

    async def _all_retained(self) -> None:
        """Return when the retained messages of all subscriptions so far have come.

        MQTT has no mark for their end. A message to oneself, sent after the subscriptions, comes after
        them; it is sent again should the broker have dropped it for a full queue.
        """
        name, seen = secrets.token_hex(8), asyncio.Event()
        self._barrier = name.encode(), seen
        try:
            while not seen.is_set():
                await self._session.publish(self._topics.replies(HUB_NAME, name), name.encode())
                waiting = asyncio.create_task(seen.wait())
                timer = asyncio.create_task(self._clock.sleep(BARRIER_SECONDS))
                try:
                    await asyncio.wait((waiting, timer), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                    timer.cancel()
        finally:
            self._barrier = None

    # Messages

    def _on_message(self, message: Message) -> None:
        match self._topics.levels(message.topic):
            case ["nodes", node, "desired"]:
                if not self.ready.is_set():
                    self._publisher.found_desired(node, message.payload)
            case ["objects", name]:
                if not self.ready.is_set():
                    self._publisher.found_object(name, message.payload)
            case ["nodes", node, *_] if self._membership.is_former(node):
                self._membership.heard_former(message)
            case ["enrolment", channel, "request"]:
                self._membership.ask(channel, message)
            case ["nodes", node, "audit"]:
                if self._audit.receive(node, message.payload):
                    self._changed("Node", "", node)
            case ["nodes", node, "metrics"]:
                if self._store.node(node) is not None:
                    self._metrics.receive(node, message.payload)
            case ["nodes", node, *levels]:
                self._observer.receive(node, levels, message.payload)
            case ["hub", "rpc", node, method] if not node.startswith(USER_PREFIX):
                self._node_calls.receive(node, method, message)
            case ["hub", "rpc", user, method]:
                self._calls.receive(user, method, message)
            case ["replies", _, _]:
                if self._barrier is not None and message.payload == self._barrier[0]:
                    self._barrier[1].set()
            case _:
                log.debug("nothing expects a message on %s", message.topic)

    # What follows from what

    def _changed(self, kind: str, namespace: str, name: str) -> None:
        self._calls.changed(kind, namespace, name)
        self._networking.changed(kind, namespace, name)

    def _joined(self, node: str) -> None:
        self._networking.members_changed()
        self._publisher.wake(node)
        self._changed("Node", "", node)

    def _follow_files(self) -> None:
        """Nodes are told of the CAs as they are in the files now."""
        try:
            if follow_files(self._store, self._files, self._settings, self._clock):
                self._changed("ClusterTrust", "", CLUSTER_TRUST_NAME)
        except (PermanentError, TemporaryError) as error:
            log.error("nodes are not told of the CAs: %s", error)

    def _use_certificate(self) -> None:
        """The hub's own certificate is another: the next connection is made with it."""
        files = self._files
        self._session.use_tls(client_context(files.ca_certificate, files.hub_certificate, files.hub_key))

    def _slices(self) -> list[KubernetesObject]:
        return self._networking.endpoint_slices()

    def _told(self, node: str) -> list[Wanted]:
        return self._networking.for_node(node)

    def _node_spoke(self, node: str) -> None:
        if (status := self._observer.view(node).status) is not None:
            self._audit.see_head(node, status.audit)
        if not self.ready.is_set():
            return
        if self._publisher.published(node) is None:
            # Added by `edgehub node add` while this hub ran, and here it is: it gets its first index.
            self._publisher.wake(node)
        self._check_node(node)

    def _published(self, node: str) -> None:
        self._check_node(node)

    def _check_node(self, node: str) -> None:
        for stored in self._store.pods_on(node):
            if stored.deleting:
                self._check_terminating(stored)

    def _pod_gone(self, node: str, namespace: str, name: str, uid: str) -> None:
        stored = self._store.find("Pod", namespace, name)
        if stored is not None and stored.deleting and stored.uid == uid and stored.node == node:
            self._api.finish(stored)

    def _check_terminating(self, stored: StoredObject) -> None:
        """Forget a pod that its node has dropped unreported, or while nobody listened."""
        if self._store.node(stored.node) is None:
            self._api.finish(stored)
            return
        published = self._publisher.published(stored.node)
        view = self._observer.view(stored.node)
        if (
            published is not None
            and view.status is not None
            and view.status_is_fresh
            and view.status.observed_generation >= published.generation
            and all(entry.uid != stored.uid for entry in published.entries)
            and self._observer.report(stored.node, stored.namespace, stored.name, stored.uid) is None
        ):
            self._api.finish(stored)


def _client_id(cluster: str, key: Path) -> str:
    """Constant, for the kept session, and not to be guessed: brokers let the newer of two equal ids win."""
    return f"{cluster}.{HUB_NAME}.{digest(b'client id' + read_file(key))[:16]}"
