"""A node whose clock is wrong, and the hub that it may ask: everything but the broker between them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from edgeagent.api.errors import TemporaryError
from edgeagent.cluster.timekeeping import Timekeeping
from edgeagent.node.hubtime import HubTime
from edgeagent.node.renewal import Renewal
from edgeagent.node.trustedtime import TrustedTime
from edgeagent.testing.clock import ManualClock
from tests.node.renewalkit import CLUSTER, HubSide, NodeSide


class WrongClock:
    """The clock of another machine than the hub's: ``ahead`` by so many seconds, and as fast."""

    def __init__(self, hub: ManualClock, ahead: float) -> None:
        self._hub = hub
        self.ahead = ahead

    def now(self) -> float:
        """Seconds since the epoch, wrongly."""
        return self._hub.now() + self.ahead

    def monotonic(self) -> float:
        """As the hub's."""
        return self._hub.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As the hub's."""
        await self._hub.sleep(seconds)


class ClockNode(NodeSide):
    """A node that has the time of its own ``wrong`` clock, and what it may know besides.

    ``takes``: how many seconds the hub's answer is under way.
    """

    def __init__(self, hub: HubSide, directory: Path, ahead: float) -> None:
        self.wrong = WrongClock(hub.clock, ahead)
        self.timekeeping = Timekeeping(CLUSTER, hub.signing.current, hub.clock)
        self.takes = 0.0
        self.questions = 0
        self.changes = 0
        self.forge: Callable[[bytes], bytes] = lambda answer: answer
        super().__init__(hub, directory)

    def make(self) -> None:
        """An agent that has just started."""
        super().make()
        self.time = TrustedTime(self.database, self.wrong)
        self.renewal = Renewal(
            msgspec.structs.replace(
                self.renewal._means,
                clock=self.wrong,
                now=self.time.now,
                floor=self.time.floor,
                on_time=self.time.told,
            )
        )
        self.hub_time = HubTime(
            self.time,
            cluster=CLUSTER,
            clock=self.wrong,
            anchor=lambda: self.anchor,
            ask=self.ask_time,
            on_settled=self.settled,
            on_change=self.changed,
        )

    async def ask_time(self, data: bytes) -> bytes:
        """The session's way, which takes its time."""
        self.questions += 1
        await self._travel()
        answer = self.timekeeping.answer(self.name, data)
        await self._travel()
        if answer is None or not self.connected:
            raise TemporaryError("no answer", reason="NoAnswer")
        return self.forge(answer)

    async def _travel(self) -> None:
        if self.takes:
            await self.clock.sleep(self.takes / 2)

    def settled(self) -> None:
        """What time it is is known, or nobody says."""
        if self.connected:
            self.renewal.connected()

    def changed(self) -> None:
        """The node's status may be another."""
        self.changes += 1

    def connect(self) -> None:
        """A session is there."""
        self.connected = True
        self.hub_time.connected()

    @property
    def error(self) -> float:
        """By how many seconds what the node believes is off."""
        return self.time.now() - self.clock.now()

    def runs(self, *, renews: bool) -> list[Awaitable[None]]:
        """What the uplink would run."""
        return [self.hub_time.run(), *([self.renewal.run()] if renews else [])]


@asynccontextmanager
async def running(node: ClockNode, *, renews: bool = False) -> AsyncIterator[ClockNode]:
    """The node at work. An answer to a renewal says what time it is, too."""
    tasks = [asyncio.ensure_future(work) for work in node.runs(renews=renews)]
    await node.clock.settle()
    try:
        yield node
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
