"""LogFollower: one log source, told what to follow and read without a pause, chunk by chunk kept."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.logs import LogChunk, LogTarget
from edgeagent.node.telemetry.logshares import LogShares
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

RETRY_CEILING_SECONDS = 60.0


class Source(Protocol):
    """``edgeagent.api.logs.LogSource`` as the core calls it. ``plugin``: whose it is."""

    @property
    def plugin(self) -> str:
        """The plugin's name."""

    async def resume(self, positions: dict[str, str]) -> None:
        """Go on from these positions."""

    async def reconcile(self, targets: list[LogTarget]) -> None:
        """The containers to follow."""

    async def read(self) -> LogChunk:
        """The next chunk."""


class LogFollower:
    """``targets`` answers which containers have logs now, None while nobody knows; ``on_kept`` is called
    when a chunk is on disk. ``shares`` puts it there.

    ``dropped`` counts the lines that the source left out, by its reasons.
    """

    def __init__(
        self,
        source: Source,
        spool: SpoolThread,
        shares: LogShares,
        *,
        targets: Callable[[], list[LogTarget] | None],
        clock: Clock,
        rng: random.Random,
        on_kept: Callable[[], None],
    ) -> None:
        self._source = source
        self._spool = spool
        self._shares = shares
        self._targets = targets
        self._clock = clock
        self._rng = rng
        self._on_kept = on_kept
        self._changed = asyncio.Event()
        self.dropped: Counter[str] = Counter()
        self.kept = 0
        self.last_error = ""

    def targets_changed(self) -> None:
        """There may be other containers, or other labels."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled; a source that fails begins again from what is kept."""
        retry = Backoff(self._rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        while True:
            kept = self.kept
            try:
                await self._follow()
            except EdgeAgentError as error:
                if self.kept != kept:
                    retry.reset()
                wait = max(getattr(error, "delay", None) or 0.0, retry.next())
                if str(error) != self.last_error:
                    log.warning(
                        "logs of plugin %s are not read at the moment: %s", self._source.plugin, error
                    )
                self.last_error = str(error)
                await self._clock.sleep(wait)

    async def _follow(self) -> None:
        name = self._source.plugin
        await self._source.resume(await self._spool.call(lambda spool: spool.positions(name)))
        # No TaskGroup: where a part fails in the turn that all is cancelled in, it forgets the latter.
        parts = [asyncio.create_task(self._tell()), asyncio.create_task(self._read())]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        for part in done:
            part.result()

    async def _tell(self) -> None:
        told: list[LogTarget] | None = None
        while True:
            self._changed.clear()
            targets = self._targets()
            if targets is not None and targets != told:
                await self._source.reconcile(targets)
                told = targets
            await self._changed.wait()

    async def _read(self) -> None:
        while True:
            chunk = await self._source.read()
            self.last_error = ""
            self.dropped.update(chunk.dropped)
            if chunk.batch.records or chunk.positions:
                await self._keep(chunk)

    async def _keep(self, chunk: LogChunk) -> None:
        """Until it is kept nothing more is read: the lines wait where they are, in the containers' files."""
        name, count, made = self._source.plugin, len(chunk.batch.records), self._clock.now()
        retry = Backoff(self._rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        while True:
            try:
                await self._spool.call(
                    lambda spool: self._shares.keep(
                        spool, chunk.batch, made, source=name, positions=chunk.positions
                    )
                )
                break
            except TemporaryError as error:
                if str(error) != self.last_error:
                    log.warning("logs wait: %s", error)
                self.last_error = str(error)
                await self._clock.sleep(retry.next())
        self.last_error = ""
        self.kept += count
        if count:
            self._on_kept()
