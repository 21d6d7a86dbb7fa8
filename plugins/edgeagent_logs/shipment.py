"""Shipment: one batch on its way to a sink, in as many requests as it takes."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.logs import LogBatch

SHIP_SECONDS = 40.0
"""No further request is begun after so long: with the longest time-out that is within the core's deadline."""
MAX_REQUESTS = 64
"""Where a request is refused for a record in it, at most so many are made to find which one it is."""


class TooLargeError(Exception):
    """The other side takes no request of this size. ``str()`` says what it said."""


class RefusedError(Exception):
    """The other side will never take this request, for something that is in it. ``str()`` says what."""


class LogSinkClient(Protocol):
    """One place that logs are shipped to."""

    def ship(self, stream: str, first: int, batch: LogBatch) -> Delivery:
        """As ``edgeagent.api.logs.LogSinks.ship``."""

    def close(self) -> None:
        """Let go of the connection that is kept. The next batch makes another."""


class Shipment:
    """``weights`` are the bytes of each record, about; a request has at most ``limit`` of
    them, or one record.

    ``run`` has ``send`` send records by their places in the batch. What ``send`` does not ``retry`` or
    ``reject`` has arrived when it returns. It may raise TooLargeError or RefusedError: then halves are tried,
    down to the single record, which is rejected.
    """

    def __init__(
        self, weights: Sequence[int], limit: int, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._waiting = deque(_parts(weights, limit))
        self._monotonic = monotonic
        self._arrived = False
        self._retry: set[int] = set()
        self._rejected: dict[int, str] = {}
        self._delay = 0.0

    def retry(self, place: int, delay: float = 0.0) -> None:
        """That record may be taken later."""
        self._retry.add(place)
        self._delay = max(self._delay, delay)

    def reject(self, place: int, why: str) -> None:
        """That record will never be taken."""
        self._rejected[place] = why

    def run(self, send: Callable[[Sequence[int]], None]) -> Delivery:
        """Send all; raises TemporaryError or PermanentError of ``send`` where nothing was taken before."""
        begun, requests = self._monotonic(), 0
        while self._waiting:
            part = self._waiting.popleft()
            if requests and self._monotonic() - begun > SHIP_SECONDS:
                self._postpone(part)
                break
            requests += 1
            known = len(self._retry) + len(self._rejected)
            try:
                send(part)
            except (TooLargeError, RefusedError) as error:
                self._divide(part, str(error), further=requests < MAX_REQUESTS)
            except EdgeAgentError as error:
                if not self._arrived and not self._rejected:
                    raise
                self._postpone(part, getattr(error, "delay", None) or 0.0)
                break
            else:
                self._arrived |= len(self._retry) + len(self._rejected) - known < len(part)
        if self._retry and not self._arrived and not self._rejected:
            raise TemporaryError("nothing was taken at the moment", delay=self._delay or None)
        return Delivery(
            retry=sorted(self._retry - self._rejected.keys()), rejected=self._rejected, delay=self._delay
        )

    def _divide(self, part: Sequence[int], why: str, *, further: bool) -> None:
        if len(part) == 1 or not further:
            for place in part:
                self.reject(place, why)
            return
        middle = len(part) // 2
        self._waiting.extendleft((part[middle:], part[:middle]))

    def _postpone(self, part: Sequence[int], delay: float = 0.0) -> None:
        for one in (part, *self._waiting):
            for place in set(one) - self._rejected.keys():
                self.retry(place, delay)
        self._waiting.clear()


def _parts(weights: Sequence[int], limit: int) -> list[Sequence[int]]:
    parts: list[Sequence[int]] = []
    begin, weight = 0, 0
    for place, one in enumerate(weights):
        if place > begin and weight + one > limit:
            parts.append(range(begin, place))
            begin, weight = place, 0
        weight += one
    return [*parts, range(begin, len(weights))] if weights else []
