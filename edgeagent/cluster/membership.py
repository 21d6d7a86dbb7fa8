"""Members that come and go while the hub runs: devices that enrol, nodes that were revoked or removed.

May not decide who is one: the store says so. From that moment on a former node is not heard, and its retained
messages are cleared from the broker, its desired state among them.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.authorities import Authorities
from edgeagent.cluster.enrolment import Enrolments
from edgeagent.cluster.enrolmentdesk import EnrolmentDesk
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.publisher import Publisher
from edgeagent.cluster.revocation import Revocations
from edgeagent.cluster.settings import HubSettings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store
from edgeagent.wire.session import Message, MqttSession
from edgeagent.wire.topics import Topics

log = logging.getLogger(__name__)

MAX_TO_CLEAR = 20_000
"""How many retained messages of former nodes are remembered, to be cleared; others at the next connection."""


class Membership:
    """One per hub, on its event loop. ``on_joined`` is told the name of each new member."""

    def __init__(
        self,
        files: HubFiles,
        settings: HubSettings,
        store: Store,
        session: MqttSession,
        observer: Observer,
        publisher: Publisher,
        authorities: Callable[[], Authorities],
        signing: Callable[[], Signing],
        *,
        clock: Clock,
        rng: random.Random,
        on_joined: Callable[[str], None],
        on_left: Callable[[str], None],
        others: Callable[[bytes], bytes | None] = lambda _: None,
    ) -> None:
        """``others`` answers what comes in at the listener for enrolment and is no enrolment."""
        self._store = store
        self._session = session
        self._observer = observer
        self._publisher = publisher
        self._topics = Topics(settings.cluster)
        self._revocations = Revocations(files, settings, store, clock, rng)
        self._on_joined = on_joined
        self._on_left = on_left
        self._has_door = bool(settings.enrol_port)
        self._desk = EnrolmentDesk(
            settings.cluster,
            Enrolments(settings, store, authorities, signing, clock),
            session,
            clock,
            on_admitted=self._admitted,
            others=others,
        )
        self._to_clear: dict[str, None] = {}
        self._clearing: asyncio.Task[None] | None = None
        self._enforcing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """There is a connection, and what the broker retains is known. Errors as of ``subscribe``."""
        if self._has_door:
            await self._desk.open()
        self.look()

    def ask(self, channel: str, message: Message) -> None:
        """A message on the topic where devices ask to become nodes."""
        self._desk.receive(channel, message)

    def is_former(self, node: str) -> bool:
        """Whether ``node`` was a member and is none: what it says does not count."""
        found = self._store.any_node(node)
        return found is not None and found.state != "member"

    def heard_former(self, message: Message) -> None:
        """Something that a former node has published."""
        if message.retain and message.payload and len(self._to_clear) < MAX_TO_CLEAR:
            self._to_clear[message.topic] = None

    def look(self) -> None:
        """Another program may have revoked nodes, or decided about devices that wait."""
        for node in [*self._store.nodes("revoked"), *self._store.nodes("removed")]:
            self._forget(node.name)
        self._clear()
        self._desk.look_again()
        if self._revocations.outstanding and self._enforcing is None:
            self._enforcing = asyncio.create_task(self._enforce())

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (self._clearing, self._enforcing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._desk.close()

    async def _admitted(self, node: str) -> None:
        # The broker must let the new certificate's name in, and the old certificate out, before it is used.
        if self._revocations.outstanding:
            if self._enforcing is None:
                self._enforcing = asyncio.create_task(self._enforce())
            await asyncio.wait([self._enforcing])
        self._on_joined(node)

    async def _enforce(self) -> None:
        try:
            done = await self._revocations.enforce()
            if done.problem:
                log.warning("not all revocations are in force yet: %s", done.problem)
        except EdgeAgentError as error:
            log.error("revocations are not in force yet: %s", error)
        except OSError as error:
            log.error("revocations are not in force yet: %s", error.strerror or error)
        finally:
            self._enforcing = None

    def _forget(self, node: str) -> None:
        self._on_left(node)
        pods = self._observer.forget(node)
        if pods is not None:
            log.info("node %s is no member any more", node)
            topics = self._topics
            said = [topics.status(node), topics.online(node), *(topics.pod(node, *pod) for pod in pods)]
            self._to_clear.update(dict.fromkeys(said))
        if self._publisher.published(node) is not None:
            self._publisher.wake(node)

    def _clear(self) -> None:
        if self._to_clear and self._clearing is None:
            self._clearing = asyncio.create_task(self._clear_all())

    async def _clear_all(self) -> None:
        try:
            while self._to_clear:
                topic = next(iter(self._to_clear))
                await self._session.publish(topic, b"", retain=True)
                self._to_clear.pop(topic, None)
        except EdgeAgentError as error:
            log.info("what former nodes retain stays on the broker for now: %s", error)
        finally:
            self._clearing = None
