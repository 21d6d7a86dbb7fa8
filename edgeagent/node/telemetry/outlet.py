"""Outlet: one sink or exporter as the core deals with it when it takes, takes in part, or fails."""

import logging
import random
from collections.abc import Callable

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

RETRY_CEILING_SECONDS = 120.0
REFUSED_SECONDS = 300.0
"""How long it is left alone when it says that a person must mend something first."""
TOLD_SECONDS = 60.0
"""How often refused items are told of: what is said becomes a log record, which may be refused too."""


class Shipped(msgspec.Struct):
    """What became of the items offered so far: log records, or a batch's series.

    ``problem``: why none goes at the moment, empty where it does; ``refused``: a person must mend something.
    """

    delivered: int = 0
    rejected: int = 0
    retries: int = 0
    problem: str = ""
    refused: bool = False


class Outlet:
    """``words`` say in the log what it is (``logs for sink a/b``), ``sent`` how it goes.

    ``on_refused`` is called with what the other side said when a person must mend something.
    """

    def __init__(
        self, words: str, *, clock: Clock, rng: random.Random, on_refused: Callable[[str], None]
    ) -> None:
        self.sent = Shipped()
        self._words = words
        self._clock = clock
        self._rng = rng
        self._on_refused = on_refused
        self._retry = Backoff(rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        self._untold = 0
        self._tell_at = 0.0

    def failed(self, error: EdgeAgentError) -> float:
        """Nothing went; the seconds to leave it alone."""
        text, refused = str(error), isinstance(error, PermanentError)
        if text != self.sent.problem:
            log.log(logging.ERROR if refused else logging.WARNING, "%s wait: %s", self._words, text)
            if refused:
                self._on_refused(text)
        self.sent.problem, self.sent.refused = text, refused
        self.sent.retries += 1
        if refused:
            return REFUSED_SECONDS * self._rng.uniform(0.5, 1.0)
        return max(getattr(error, "delay", None) or 0.0, self._retry.next())

    def answered(self, delivery: Delivery, offered: int) -> tuple[list[int], float]:
        """It answered to ``offered`` items: the places of those to send again, and after how many seconds."""
        again = sorted({place for place in delivery.retry if 0 <= place < offered})
        rejected = {place for place in delivery.rejected if 0 <= place < offered}
        self.sent.problem, self.sent.refused = "", False
        self.sent.rejected += len(rejected)
        self.sent.delivered += offered - len(rejected | set(again))
        self._tell(len(rejected), delivery.rejected[min(rejected)] if rejected else "")
        if not again:
            self._retry.reset()
            return [], 0.0
        self.sent.retries += 1
        return again, max(delivery.delay, self._retry.next())

    def _tell(self, rejected: int, why: str) -> None:
        self._untold += rejected
        if rejected and (now := self._clock.monotonic()) >= self._tell_at:
            log.warning("%s: %d are taken never, for: %s", self._words, self._untold, why)
            self._untold, self._tell_at = 0, now + TOLD_SECONDS
