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
MAX_REQUESTS = 256
"""Of one turn; what is left then waits for the next."""
MAX_SEARCH = 64
"""Where a request is refused for a record in it, at most so many are made to find which one it is."""
MIN_REQUEST_BYTES = 4096


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


class SizeLimit:
    """The most bytes of a request, about: what the configuration says until the other side takes less."""

    def __init__(self, size: int) -> None:
        self.size = size

    def less_than(self, size: int) -> None:
        """A request of ``size`` was too large."""
        self.size = min(self.size, max(size // 2, MIN_REQUEST_BYTES))


class Shipment:
    """``weights`` are the bytes of each record, about; a request has ``limit`` of them at most, or
    is one record.

    ``run`` has ``send`` send records by their places in the batch. What ``send`` does not ``retry`` or
    ``reject`` has arrived when it returns. It may raise TooLargeError or RefusedError: then smaller parts are
    tried, down to the single record, which is rejected.
    """

    def __init__(
        self, weights: Sequence[int], limit: SizeLimit, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._weights = weights
        self._limit = limit
        self._monotonic = monotonic
        self._waiting = deque(self._parts(range(len(weights))))
        self._arrived = False
        self._retry: dict[int, str] = {}
        self._rejected: dict[int, str] = {}
        self._delay = 0.0
        self._changed = 0

    def retry(self, place: int, why: str) -> None:
        """That record may be taken later."""
        self._retry[place] = why

    def reject(self, place: int, why: str) -> None:
        """That record will never be taken."""
        self._rejected[place] = why

    def again(self, places: Sequence[int]) -> None:
        """Send these next, in another request: the sink changes what it makes of them."""
        self._waiting.appendleft(places)
        self._changed += len(places)

    def run(self, send: Callable[[Sequence[int]], None]) -> Delivery:
        """Send all; raises TemporaryError or PermanentError of ``send`` where nothing was taken before."""
        begun, requests = self._monotonic(), 0
        while self._waiting:
            part = self._waiting.popleft()
            if requests >= MAX_REQUESTS or (requests and self._monotonic() - begun > SHIP_SECONDS):
                self._postpone(part, "it took too many requests, or too long, for one turn")
                break
            requests += 1
            known = self._not_arrived()
            try:
                send(part)
            except TooLargeError as error:
                self._shrink(part, str(error))
            except RefusedError as error:
                self._divide(part, str(error), further=requests < MAX_SEARCH)
            except EdgeAgentError as error:
                if not self._arrived and not self._rejected:
                    raise
                self._delay = getattr(error, "delay", None) or 0.0
                self._postpone(part, str(error))
                break
            else:
                self._arrived |= self._not_arrived() - known < len(part)
        if self._retry and not self._arrived and not self._rejected:
            why = next(iter(self._retry.values()))
            raise TemporaryError(f"nothing is taken at the moment: {why}", reason="Unavailable")
        retry = sorted(self._retry.keys() - self._rejected.keys())
        return Delivery(retry=retry, rejected=self._rejected, delay=self._delay)

    def _not_arrived(self) -> int:
        return len(self._retry) + len(self._rejected) + self._changed

    def _shrink(self, part: Sequence[int], why: str) -> None:
        if len(part) == 1:
            self.reject(part[0], why)
            return
        self._limit.less_than(sum(self._weights[place] for place in part))
        smaller = self._parts(part)
        if len(smaller) == 1:
            middle = len(part) // 2
            smaller = [part[:middle], part[middle:]]
        rest = [piece for waiting in self._waiting for piece in self._parts(waiting)]
        self._waiting = deque([*smaller, *rest])

    def _divide(self, part: Sequence[int], why: str, *, further: bool) -> None:
        if len(part) == 1 or not further:
            for place in part:
                self.reject(place, why)
            return
        middle = len(part) // 2
        self._waiting.extendleft((part[middle:], part[:middle]))

    def _postpone(self, part: Sequence[int], why: str) -> None:
        for one in (part, *self._waiting):
            for place in one:
                if place not in self._rejected:
                    self.retry(place, why)
        self._waiting.clear()

    def _parts(self, places: Sequence[int]) -> list[Sequence[int]]:
        parts: list[Sequence[int]] = []
        begin, weight = 0, 0
        for at, place in enumerate(places):
            if at > begin and weight + self._weights[place] > self._limit.size:
                parts.append(places[begin:at])
                begin, weight = at, 0
            weight += self._weights[place]
        return [*parts, places[begin:]] if places else []
