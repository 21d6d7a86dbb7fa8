"""LogFlow: all log sources and all sinks of a node, with the spool in between."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.logs import LogTarget
from edgeagent.node.pace import Pace
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.logfollower import LogFollower, Source
from edgeagent.node.telemetry.logshares import CLASSES, GROUP, SHARED, LogShares
from edgeagent.node.telemetry.logshipper import BATCH_BYTES, LogShipper, Sinks
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

RETRY_CEILING_SECONDS = 60.0


class LogFlow:
    """Runs while there is a sink: without one, no log is read and nothing is written.

    ``targets`` answers which containers have logs now, None while nobody knows. ``rate`` is in bytes of the
    spool a second, for each sink. ``on_refused`` gets a sink's name and what it said, when a person must
    mend something.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sinks: Sequence[Sinks],
        spool: SpoolThread,
        *,
        targets: Callable[[], list[LogTarget] | None],
        clock: Clock,
        rng: random.Random,
        rate: float,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._sinks = sinks
        self._spool = spool
        self._clock = clock
        self._rng = rng
        self._rate = rate
        self._on_refused = on_refused
        self.shippers: list[LogShipper] = []
        shares = LogShares()
        self.followers = [
            LogFollower(one, spool, shares, targets=targets, clock=clock, rng=rng, on_kept=self._kept)
            for one in sources
        ]

    @property
    def waiting(self) -> int:
        """How many records at least one sink does not have yet."""
        spool = self._spool.opened
        return spool.held(GROUP).items if spool is not None else 0

    def targets_changed(self) -> None:
        """There may be other containers, or other labels."""
        for follower in self.followers:
            follower.targets_changed()

    def wake(self) -> None:
        """A sink that waits for nothing but news may have some."""
        self._kept()

    def _kept(self) -> None:
        for shipper in self.shippers:
            shipper.wake()

    async def run(self) -> None:
        """Until cancelled."""
        silent = set()
        for sinks in self._sinks:
            if (names := await self._names(sinks)) is None:
                silent.add(sinks.plugin)
            self.shippers += [self._shipper(sinks, name) for name in names or ()]
        wanted = {shipper.name for shipper in self.shippers}
        await self._set_sinks(wanted, silent)
        if not wanted:
            return
        async with asyncio.TaskGroup() as tasks:
            for shipper in self.shippers:
                tasks.create_task(shipper.run())
            for follower in self.followers:
                tasks.create_task(follower.run())

    async def _names(self, sinks: Sinks) -> list[str] | None:
        """None for a plugin that will not say; one that cannot say now is asked again."""
        retry = Backoff(self._rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        while True:
            try:
                return await sinks.names()
            except TemporaryError as error:
                log.warning("plugin %s does not say where logs go: %s", sinks.plugin, error)
                await self._clock.sleep(max(error.delay or 0.0, retry.next()))
            except EdgeAgentError as error:
                log.error("plugin %s ships no logs: %s", sinks.plugin, error)
                return None

    async def _set_sinks(self, wanted: set[str], silent: set[str]) -> None:
        if not wanted and not self._spool.exists:
            return
        retry = Backoff(self._rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        while True:
            try:
                await self._spool.call(lambda spool: _set_sinks(spool, wanted, silent))
                return
            except TemporaryError as error:
                log.warning("no log is shipped at the moment: %s", error)
                await self._clock.sleep(retry.next())

    def _shipper(self, sinks: Sinks, name: str) -> LogShipper:
        return LogShipper(
            sinks,
            name,
            self._spool,
            pace=Pace(self._clock, rate=self._rate, burst=max(self._rate, BATCH_BYTES)),
            clock=self._clock,
            rng=self._rng,
            on_refused=lambda text: self._on_refused(f"{sinks.plugin}/{name}", text),
        )


def _set_sinks(spool: Spool, wanted: set[str], silent: set[str]) -> None:
    """What waits for sinks of the plugins that are ``silent`` goes on waiting for them."""
    kept = {name for name in spool.sinks(SHARED) if name.partition("/")[0] in silent}
    for one in CLASSES:
        spool.set_sinks(one, wanted | kept)
