"""Asking the hub what time it is: once a connection, and not even that where it is known well enough.

May not know how a question reaches the hub, nor hold the time: ``edgeagent.node.trustedtime`` does.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.node.trustedtime import CLOSE_SECONDS, TrustedTime
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.signedtime import NONCE_BYTES, ReceivedTime, encode_question

log = logging.getLogger(__name__)

FRESH_SECONDS = 3_600.0
"""A connection that comes so soon after an answer asks for none."""
DOUBT_SECONDS = 600.0
"""Between questions that something else than a connection has brought about."""


class HubTime:
    """``run`` works until cancelled; the other methods tell it what happened.

    ``ask``: a question's bytes to the hub, its answer's back. ``on_settled``: a connection's question was
    answered, or is not going to be. ``on_change``: whether the machine's clock is right may be known now.
    """

    def __init__(
        self,
        time: TrustedTime,
        *,
        cluster: str,
        clock: Clock,
        anchor: Callable[[], TrustAnchor],
        ask: Callable[[bytes], Awaitable[bytes]],
        on_settled: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._time = time
        self._cluster = cluster
        self._clock = clock
        self._anchor = anchor
        self._ask = ask
        self._on_settled = on_settled
        self._on_change = on_change
        self._news = asyncio.Event()
        self._asked_at: float | None = None
        self._answered: tuple[float, float] | None = None
        """When, by the count of seconds, and what the machine's clock said then."""
        self._lacking = False
        self._making_sure = asyncio.Lock()
        self._sure: float | None = None
        """What the machine's clock was ahead of the count of seconds when the hub's word was verified."""

    def connected(self) -> None:
        """There is a new session."""
        if self._is_fresh():
            self._on_settled()
        else:
            self._news.set()

    def switched(self) -> None:
        """The hub is there, for it has published something: what it did not answer before is asked again."""
        if self._lacking:
            self._news.set()

    def doubt(self) -> None:
        """The hub's time seems to be another than this node's."""
        if self._asked_at is None or self._clock.monotonic() - self._asked_at >= DOUBT_SECONDS:
            self._news.set()

    async def make_sure(self) -> None:
        """Return once the hub has said what time it is, in this run, and since the machine's clock was set.

        Whoever keeps back what has an end would else only have to wait for an agent that starts anew with a
        clock that is behind, and agree with it: that is not verified. Raises as ``ask`` does, and where the
        answer is not the hub's.
        """
        async with self._making_sure:
            if not self._is_sure():
                await self._compare(verified=True)
                self._on_change()
                if not self._is_sure():
                    raise TemporaryError("the hub's clock is wrong", reason="TimeUnknown")

    def _is_sure(self) -> bool:
        return self._sure is not None and abs(self._drift() - self._sure) <= CLOSE_SECONDS

    def _drift(self) -> float:
        return self._clock.now() - self._clock.monotonic()

    def _is_fresh(self) -> bool:
        """Whether the last answer still holds: a machine that slept, or whose clock was set, asks again."""
        if self._answered is None:
            return False
        at, wall = self._answered
        passed = self._clock.monotonic() - at
        return passed < FRESH_SECONDS and abs(self._clock.now() - wall - passed) <= CLOSE_SECONDS

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._lacking = True
            try:
                await self._compare()
                self._lacking = False
            except TemporaryError as error:
                log.info("the hub does not say what time it is: %s", error)
            except EdgeAgentError as error:
                log.warning("what is said about the time is not believed: %s", error)
            self._on_settled()
            self._on_change()

    async def _compare(self, *, verified: bool = False) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._asked_at = began = self._clock.monotonic()
        answer = ReceivedTime(await self._ask(encode_question(nonce)), cluster=self._cluster, nonce=nonce)
        within = (self._clock.monotonic() - began) / 2
        time = answer.claimed + within
        if not verified and abs(time - self._time.now()) <= CLOSE_SECONDS + within:
            self._time.agreed()
        else:
            self._time.told(answer.verify(self._anchor()) + within, within)
            self._sure = self._drift() if self._time.is_signed else None
        self._answered = self._clock.monotonic(), self._clock.now()
