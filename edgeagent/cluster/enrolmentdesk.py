"""The hub's side of the listener that anybody may connect to: requests in, answers out, all of it bounded.

May not decide anything: ``Enrolments`` does. Requests come with QoS 0, so that the broker keeps none for a
hub that is away. What strangers retain there is cleared.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.enrolment import Enrolments, Verdict
from edgeagent.wire.enrolment import MAX_REQUEST_BYTES, Received, decode_request, encode_answer, is_channel
from edgeagent.wire.session import Message, MqttSession
from edgeagent.wire.topics import Topics

log = logging.getLogger(__name__)

REQUESTS_PER_SECOND = 200.0
"""One that is made with no token costs a tenth of a millisecond; strangers must not take others' turns."""
BURST = 400.0
"""So many requests may come at once, when it was quiet before."""
MAX_UNDER_WAY = 64
"""How many answers may be on their way to the broker at a time."""
MAX_WAITING = 1_000
"""How many devices that wait for approval are told of it at once; the others when they next ask."""
MAX_TO_CLEAR = 20_000
"""How many topics with something retained are remembered, to be cleared; others at the next connection."""
LOG_SECONDS = 60.0


@dataclass(slots=True)
class Allowance:
    """How many requests may be looked at: it fills up with time, to ``size``."""

    rate: float
    size: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        """Whether one more is allowed at ``now`` (monotonic seconds)."""
        self.left = min(self.size, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class EnrolmentDesk:
    """Takes the messages under ``enrolment/``. ``on_admitted`` is told the name of each new member,
    and waited for before the member is.

    ``others`` answers requests of other kinds that come in at this door: bytes in, bytes out, None for none.
    """

    def __init__(
        self,
        cluster: str,
        enrolments: Enrolments,
        session: MqttSession,
        clock: Clock,
        *,
        on_admitted: Callable[[str], Awaitable[None]],
        others: Callable[[bytes], bytes | None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self._topics = Topics(cluster)
        self._enrolments = enrolments
        self._session = session
        self._clock = clock
        self._on_admitted = on_admitted
        self._others = others
        self._allowance = Allowance(REQUESTS_PER_SECOND, BURST, BURST, clock.monotonic())
        self._waiting: dict[str, Received] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_clear: dict[str, None] = {}
        self._clearing: asyncio.Task[None] | None = None
        self._passed_over = 0
        self._logged = -LOG_SECONDS

    async def open(self) -> None:
        """Have requests come in. Errors as of ``MqttSession.subscribe``."""
        await self._session.subscribe([self._topics.enrolment_request("+")], qos=0, as_published=True)

    def receive(self, channel: str, message: Message) -> None:
        """A request, of whatever kind, from whomever."""
        if not message.payload:
            return  # what clears a retained one
        if message.retain:
            self._clear(message.topic)
        if not self._allowance.take(self._clock.monotonic()) or len(self._tasks) >= MAX_UNDER_WAY:
            self._pass_over("too many requests")
            return
        if not is_channel(channel) or len(message.payload) > MAX_REQUEST_BYTES:
            self._pass_over("its size or client id")
            return
        try:
            answer = self._others(message.payload)
            if answer is not None:
                self._spawn(self._publish(self._topics.enrolment_answer(channel), answer))
            else:
                self._judge(channel, message.payload)
        except EdgeAgentError as error:
            self._pass_over(str(error))

    def look_again(self) -> None:
        """Something may have been decided: tell the devices that wait for it."""
        for channel, received in list(self._waiting.items()):
            try:
                verdict = self._enrolments.judge(received)
            except EdgeAgentError as error:
                log.warning("devices that wait for approval are not told yet: %s", error)
                return
            if verdict.answer.state != "pending":
                del self._waiting[channel]
                self._spawn(self._answer(channel, verdict))

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._tasks, *([self._clearing] if self._clearing is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _judge(self, channel: str, payload: bytes) -> None:
        received = decode_request(payload, cluster=self._cluster, channel=channel)
        verdict = self._enrolments.judge(received)
        self._waiting.pop(channel, None)
        if verdict.answer.state == "pending":
            if len(self._waiting) >= MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[channel] = received
        if verdict.answer.state == "denied" and verdict.key is not None:
            log.info("a device was not made node %s: %s", received.request.node, verdict.answer.reason)
        self._spawn(self._answer(channel, verdict))

    async def _answer(self, channel: str, verdict: Verdict) -> None:
        if verdict.admitted:
            log.info("node %s has enrolled", verdict.admitted)
            await self._on_admitted(verdict.admitted)
        await self._publish(
            self._topics.enrolment_answer(channel), encode_answer(verdict.answer, verdict.key)
        )

    def _clear(self, topic: str) -> None:
        if len(self._to_clear) < MAX_TO_CLEAR:
            self._to_clear[topic] = None
        if self._clearing is None:
            self._clearing = asyncio.create_task(self._clear_all())

    async def _clear_all(self) -> None:
        try:
            while self._to_clear:
                topic = next(iter(self._to_clear))
                del self._to_clear[topic]
                await self._session.publish(topic, b"", retain=True)
        except EdgeAgentError as error:
            # With the next connection all of it comes again.
            self._to_clear.clear()
            log.info("what strangers retain stays on the broker for now: %s", error)
        finally:
            self._clearing = None

    def _pass_over(self, why: str) -> None:
        """Strangers must not fill the log."""
        self._passed_over += 1
        now = self._clock.monotonic()
        if now - self._logged >= LOG_SECONDS:
            log.warning(
                "%d requests to enrol were passed over, the last because of %r", self._passed_over, why[:200]
            )
            self._passed_over, self._logged = 0, now

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= 2 * MAX_UNDER_WAY:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, topic: str, payload: bytes) -> None:
        try:
            await self._session.publish(topic, payload)
        except EdgeAgentError as error:
            log.info("%s was not published: %s", topic, error)
