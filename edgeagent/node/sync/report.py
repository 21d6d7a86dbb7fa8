"""What the node tells the hub: retained states by topic, and the outbox in order.

Level-triggered: each topic has a wanted payload; whenever there is a connection, what differs from what
the broker has taken is sent. After a reconnection everything is sent anew, for the broker may have
forgotten it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.node.store.outbox import Item, Outbox
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

FIELDS: Mapping[str, str] = {"events": "event", "audit": "audit"}
"""The field that an item of each of the outbox's classes is in."""
DRAIN_BATCH = 20
DRAIN_PER_SECOND = 50.0
"""How fast a backlog is sent, so that the link's return does not choke what it carries besides."""


class Publisher(Protocol):
    """The part of an MQTT session that reporting needs."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, heard: bool = False) -> None:
        """Send with QoS 1 and wait until the broker has it; ``heard``: and somebody who reads it."""


class Reporter:
    """Keeps the broker's picture of this node up to date, for as long as ``run`` runs.

    ``topics`` are where the classes of the outbox go.
    """

    def __init__(
        self,
        *,
        session: Publisher,
        connected: Callable[[], bool],
        outbox: Outbox,
        topics: Mapping[str, str],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._session = session
        self._connected = connected
        self._outbox = outbox
        self._topics = topics
        self._clock = clock
        self._retry = Backoff(rng, first=1.0, ceiling=60.0)
        self._wanted: dict[str, bytes] = {}
        self._taken: dict[str, bytes] = {}
        self._cleared: dict[str, list[Callable[[], None]]] = {}
        self._news = asyncio.Event()
        self._heard = False

    def set(self, topic: str, value: object) -> None:
        """From now on ``topic`` should hold ``value`` as canonical JSON."""
        self._wanted[topic] = canonical_json(value)
        self._news.set()

    def clear(self, topic: str, then: Callable[[], None]) -> None:
        """From now on ``topic`` should hold nothing; ``then`` is called when the broker knows."""
        self._wanted[topic] = b""
        self._cleared.setdefault(topic, []).append(then)
        self._news.set()

    def wake(self) -> None:
        """There may be something to send: the outbox has grown."""
        self._news.set()

    def reconnected(self) -> None:
        """A new connection: nothing is taken for granted."""
        self._taken.clear()
        self._heard = False
        self._retry.reset()
        self._news.set()

    async def run(self) -> None:
        """Send what is to be sent, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if not self._connected():
                continue
            try:
                await self._states()
                await self._drain()
            except EdgeAgentError as error:
                log.info("reporting waits: %s", error)
                if self._connected():
                    await self._clock.sleep(max(getattr(error, "delay", None) or 0.0, self._retry.next()))
                    self._news.set()
            else:
                self._retry.reset()

    async def _states(self) -> None:
        while pending := [t for t, payload in self._wanted.items() if self._taken.get(t) != payload]:
            for topic in pending:
                payload = self._wanted[topic]
                try:
                    await self._session.publish(topic, payload, retain=True)
                except PermanentError as error:
                    # The broker does not know: with the next connection it is told anew.
                    log.error("%s cannot be reported: %s", topic, error)
                    self._taken[topic] = payload
                    continue
                self._taken[topic] = payload
                if self._wanted[topic] == payload:  # else it was cleared while this was under way
                    for then in self._cleared.pop(topic, []):
                        then()
                if not payload and self._wanted[topic] == b"":
                    del self._wanted[topic], self._taken[topic]

    async def _drain(self) -> None:
        """Everything in the outbox, oldest first; items are forgotten when the broker has them.

        A batch is under way at a time: MQTT keeps the order of one connection, so nothing waits for each
        acknowledgement in turn. The first one goes alone, for the hub passes over what comes too late: a
        broker that lost its memory knows of the hub from some moment on, and all that it took before would
        be gone.
        """
        while items := self._outbox.first(DRAIN_BATCH if self._heard else 1):
            await asyncio.gather(*(self._send(item) for item in items))
            self._outbox.remove(items[-1].sequence)
            self._heard = True
            await self._states()
            if len(items) == DRAIN_BATCH:
                await self._clock.sleep(DRAIN_BATCH / DRAIN_PER_SECOND)

    async def _send(self, item: Item) -> None:
        about = self._outbox.stream.encode(), item.sequence, FIELDS[item.name].encode()
        head = b'{"stream":"%b","sequence":%d,"%b":' % about
        try:
            await self._session.publish(self._topics[item.name], head + item.body + b"}", heard=True)
        except PermanentError as error:
            log.error("something for %s is dropped: %s", self._topics[item.name], error)
