"""Events: said once, counted when they repeat, and handed to the outbox.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

import asyncio
import itertools
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Literal

import msgspec
from msgspec.structs import replace

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.base import ObjectMeta, ObjectReference
from edgeagent.api.objects.event import Event, EventSource
from edgeagent.node.store.outbox import Outbox
from edgeagent.wire.canonical import canonical_json

log = logging.getLogger(__name__)

REMEMBERED = 256
"""How many events are kept in mind, to count their repeats and to be shown on the node itself."""

_Key = tuple[str, str, str, str]
"""What makes two events the same: the object, the part of it, the reason and the message."""


class _Known(msgspec.Struct, frozen=True):
    """An event, the number of its last change, and its last item in the outbox."""

    event: Event
    change: int
    waiting: int


class EventRecorder:
    """Takes what happened, from whoever saw it."""

    def __init__(
        self, *, node: str, outbox: Outbox, clock: Clock, rng: random.Random, on_append: Callable[[], None]
    ) -> None:
        self._node = node
        self._outbox = outbox
        self._clock = clock
        self._rng = rng
        self._on_append = on_append
        self._recent: OrderedDict[_Key, _Known] = OrderedDict()
        self._changes = 0
        self._followers: set[asyncio.Event] = set()

    def recent(self) -> list[Event]:
        """The last events, the one that happened longest ago first; at most ``REMEMBERED``."""
        return [known.event for known in self._recent.values()]

    async def follow(self) -> AsyncGenerator[Event]:
        """Those that are remembered, the one that happened longest ago first; then each that is new or
        happened again, without end. What happens often while nobody takes it is given once, with the count
        of all.
        """
        woken = asyncio.Event()
        self._followers.add(woken)
        last = 0
        try:
            while True:
                woken.clear()
                news = self._since(last)
                for known in news:
                    last = known.change
                    yield known.event
                if not news:
                    await woken.wait()
        finally:
            self._followers.discard(woken)

    def _since(self, change: int) -> list[_Known]:
        """What changed after ``change``, in the order of the changes, in which all of them stand."""
        newest_first = reversed(self._recent.values())
        return [*itertools.takewhile(lambda known: known.change > change, newest_first)][::-1]

    def record(
        self, about: ObjectReference, type_: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Something happened to ``about``; the same again within the last events raises its count."""
        now = rfc3339(self._clock.now())
        key = (about.uid or about.name, about.field_path, reason, message)
        old = self._recent.pop(key, None)
        if old is not None:
            event = msgspec.structs.replace(old.event, count=old.event.count + 1, last_timestamp=now)
        else:
            name = f"{about.name}.{int(self._clock.now() * 1e6):x}{self._rng.getrandbits(16):04x}"
            event = Event(
                api_version="v1",
                metadata=ObjectMeta(
                    name=name, namespace=about.namespace or "default", creation_timestamp=now
                ),
                involved_object=about,
                reason=reason,
                message=message[:1024],
                type=type_,
                source=EventSource(component="edgeagent", host=self._node),
                first_timestamp=now,
                last_timestamp=now,
            )
        self._changes += 1
        self._recent[key] = _Known(event, self._changes, old.waiting if old is not None else 0)
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        for follower in self._followers:
            follower.set()
        log.log(
            logging.WARNING if type_ == "Warning" else logging.INFO,
            "%s %s/%s: %s: %s", about.kind, about.namespace, about.name, reason, message,
        )  # fmt: skip
        try:
            # Its count tells of all before: through a long outage repeats take the room of one.
            known = self._recent[key]
            waiting = self._outbox.append("events", canonical_json(event), instead_of=known.waiting)
            self._recent[key] = replace(known, waiting=waiting)
        except EdgeAgentError as error:
            # The pod goes on whether or not its events can be kept; the log line above stays.
            log.warning("the event could not be kept: %s", error)
        else:
            self._on_append()
