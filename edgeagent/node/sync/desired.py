"""From an index on the wire to desired state in the store: verified, complete, in one step, or not at all."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.node.store.desired import Change, DesiredState
from edgeagent.node.sync.fetch import ObjectFetcher
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.blob import ChunkList, decode_blob
from edgeagent.wire.canonical import digest
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope
from edgeagent.wire.index import MAX_INDEX_BYTES, decode_index, issued
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 1.0
RETRY_CEILING_SECONDS = 300.0


class DesiredSync:
    """Acts on the newest index alone; whatever is wrong with it, the state before it stays in force.

    ``problem`` is empty, or says (reason, message) why the newest index is not in force. ``failures`` counts
    by reason how often one could not be put in force, ``newest`` is the highest generation that was signed.
    """

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        pinned: TrustAnchor,
        desired: DesiredState,
        fetcher: ObjectFetcher,
        clock: Clock,
        rng: random.Random,
        on_switch: Callable[[Change], None],
        on_problem: Callable[[], None],
        prepare: Callable[[], None] = lambda: None,
        on_issued: Callable[[float], None] = lambda _: None,
    ) -> None:
        """``prepare`` is called as soon as a verified index brings work, before its objects are fetched.

        ``on_issued`` is told when a verified index was made, in seconds since the epoch.
        """
        self._cluster = cluster
        self._node = node
        self._pinned = pinned
        self._desired = desired
        self._fetcher = fetcher
        self._clock = clock
        self._on_switch = on_switch
        self._on_problem = on_problem
        self._prepare = prepare
        self._on_issued = on_issued
        self._retry = Backoff(rng, first=RETRY_FIRST_SECONDS, ceiling=RETRY_CEILING_SECONDS)
        self._payload = b""
        self._news = asyncio.Event()
        self.problem: tuple[str, str] | None = None
        self.failures: Counter[str] = Counter()
        self.newest = 0
        self._waits_since: float | None = None

    @property
    def anchor(self) -> TrustAnchor:
        """The signing key in force: the pinned one, or where the signed chain has led since."""
        stored, pinned = self._desired.anchor, self._pinned
        if stored is None or stored.cluster != pinned.cluster or stored.serial <= pinned.serial:
            return pinned
        return stored

    @property
    def lag(self) -> float:
        """For how many seconds an index that was offered waits to be in force; 0 where none does."""
        return 0.0 if self._waits_since is None else self._clock.monotonic() - self._waits_since

    def offer(self, payload: bytes) -> None:
        """An index came in. An empty payload (a cleared topic) says nothing and changes nothing."""
        if payload:
            if self._waits_since is None:
                self._waits_since = self._clock.monotonic()
            self._payload = payload
            self._retry.reset()
            self._news.set()

    def connected(self) -> None:
        """The broker is back: what failed for lack of it is tried again at once."""
        if self._payload and self.problem is not None:
            self._news.set()

    async def run(self) -> None:
        """Work off what is offered, for ever: always the newest, and each to its end.

        One under way is not given up for a newer one: a hub that publishes without a pause would
        otherwise keep the node from ever getting anywhere.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            delay = await self._attempt(self._payload)
            if delay is not None and not self._news.is_set():
                await self._pause(delay)

    async def _pause(self, delay: float) -> None:
        waiters: list[Awaitable[object]] = [self._clock.sleep(delay), self._news.wait()]
        tasks = [asyncio.ensure_future(waiter) for waiter in waiters]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        self._news.set()

    async def _attempt(self, payload: bytes) -> float | None:
        """Try to put ``payload`` in force; the seconds after which to try again, or None."""
        try:
            await self.accept(payload)
        except TemporaryError as error:
            self._say(error.reason or "SyncFailed", str(error))
            return max(error.delay or 0.0, self._retry.next())
        except EdgeAgentError as error:
            self._say(getattr(error, "reason", "") or "BadIndex", str(error))
            return None
        self._say(None, "")
        if payload == self._payload:
            self._waits_since = None
        return None

    def _say(self, reason: str | None, message: str) -> None:
        problem = (reason, message) if reason is not None else None
        if problem is not None:
            self.failures[problem[0]] += 1
        if problem != self.problem:
            self.problem = problem
            if problem is not None:
                log.warning("the desired state on the broker is not in force: %s: %s", reason, message)
            self._on_problem()

    async def accept(self, payload: bytes) -> None:
        """Verify ``payload``, fetch what it names and switch to it. Raises what keeps it from being in force.

        The index that is in force already, and any older one, is passed over in silence: brokers repeat
        and reorder.
        """
        data = decode_blob(payload, MAX_INDEX_BYTES)
        if isinstance(data, ChunkList):
            data = await self._fetcher.assemble(data, MAX_INDEX_BYTES, "the index")
        envelope = decode_envelope(data, INDEX_TYPE)
        index_digest = digest(envelope.payload)
        if index_digest == self._desired.index_digest:
            # Verified when it was put in force; whoever sent it now changes nothing.
            if not self._desired.confirmed:
                self._desired.confirmed = True
                self._on_switch(Change())
            return
        # Imported only now: an agent whose index stays as it is needs no cryptography in memory.
        from edgeagent.wire.trust import verify

        anchor = verify(envelope, self.anchor)
        index = decode_index(envelope.payload, cluster=self._cluster, node=self._node)
        self._on_issued(issued(index))
        self.newest = max(self.newest, index.generation)
        if index.generation < self._desired.generation:
            return
        if index.generation == self._desired.generation:
            raise PermanentError(
                f"two different indexes are signed as generation {index.generation}", reason="SameGeneration"
            )
        self._prepare()
        bodies = await self._fetcher.fetch(self._desired.missing(index))
        change = self._desired.switch(index, index_digest, bodies, anchor)
        log.info(
            "generation %d is in force: %d added, %d changed, %d removed",
            index.generation, len(change.added), len(change.changed), len(change.removed),
        )  # fmt: skip
        self._on_switch(change)
