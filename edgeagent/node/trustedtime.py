"""What time it is as far as this node can know, whatever its clock says.

A board without a battery starts in 1970, another ten years ahead. Three things are known besides: a time that
has passed for good (``floor``: the hub signed it, or this program is of that day), what the hub signs when it
is asked, and how much time has gone by since. May not ask the hub: it is told.
"""

import logging

import edgeagent
from edgeagent.api.clock import Clock, parse_rfc3339, rfc3339
from edgeagent.api.errors import EdgeAgentError
from edgeagent.node.status import Conditions
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta, set_meta
from edgeagent.wire.signedtime import LATEST

log = logging.getLogger(__name__)

RELEASED = parse_rfc3339(edgeagent.__released__)
WRITE_SECONDS = 3_600.0
"""The floor is written when it has risen by so much, and not more often: it only has to be about right."""
CLOSE_SECONDS = 5.0
"""Two times that differ by no more than this are the same."""
IN_SYNC_SECONDS = 10.0
"""A clock that is off by more is told of: what is signed lives for half a minute."""

_FLOOR = "time_floor"


class TrustedTime:
    """A Clock whose ``now`` does not follow the machine's clock to where it cannot be.

    Until the hub has been heard, ``now`` is the machine's clock, or the floor where that says less. From then
    on it is what the hub said and what has passed since, however the clock is set.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept = _read_floor(database)
        self._floor = max(self._kept, RELEASED)
        self._floor_at = clock.monotonic()
        self._written_at: float | None = None
        self._base: tuple[float, float] | None = None
        self._signed = False

    def now(self) -> float:
        """Seconds since the epoch."""
        if self._base is None:
            return min(max(self._clock.now(), self._risen_floor()), LATEST)
        time, at = self._base
        return time + self._clock.monotonic() - at

    def monotonic(self) -> float:
        """As the machine's clock."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As the machine's clock."""
        await self._clock.sleep(seconds)

    @property
    def is_signed(self) -> bool:
        """Whether the hub has signed what time it is, when this run of the agent asked."""
        return self._signed

    def floor(self) -> float:
        """A time that has passed for good, in seconds since the epoch, whatever the machine's clock says."""
        return self.now() if self._signed else self._risen_floor()

    def _risen_floor(self) -> float:
        return self._floor + self._clock.monotonic() - self._floor_at

    @property
    def offset(self) -> float | None:
        """By how many seconds the machine's clock is ahead of ``now``; None where nobody can tell."""
        ahead = self._clock.now() - self.now()
        return ahead if self._base is not None or ahead < 0 else None

    @property
    def condition(self) -> tuple[bool, str, str] | None:
        """Of the condition ``ClockInSync``: whether it is good, reason and message; None: not known yet."""
        offset = self.offset
        if offset is None:
            return None
        if abs(offset) <= IN_SYNC_SECONDS:
            return True, "InSync", ""
        where = "ahead" if offset > 0 else "behind"
        least = "" if self._base is not None else " or more"
        return (
            False,
            "ClockAhead" if offset > 0 else "ClockBehind",
            f"the clock of this node is {in_words(abs(offset))}{least} {where}. Pods go on as they are, and"
            " certificates are judged by what the hub says. Set the clock: `timedatectl set-ntp true` where"
            " there is a time server, else `timedatectl set-time`, and see whether its battery is empty",
        )

    def at_least(self, time: float) -> None:
        """The hub has signed that this was the time, at some moment that lies in the past by now."""
        if self._base is not None and time > self.now():
            self._base = time, self._clock.monotonic()
        self._set_floor(max(time, self.floor()))

    def agreed(self) -> None:
        """Somebody says the same as ``now``, whoever that is: nothing is believed of what he says.

        From here on the machine's clock is not followed any more.
        """
        if self._base is None:
            self._base = self.now(), self._clock.monotonic()

    def told(self, time: float, within: float = 0.0) -> None:
        """The hub has signed, just now, that this is the time; it may be off by ``within`` seconds.

        What was believed before counts for nothing, the floor included: it may be of a day on which the hub's
        own clock was wrong.
        """
        if time < RELEASED:
            log.warning("the hub says that it is %s: its clock is wrong", rfc3339(time))
            return
        if self._base is None or abs(time - self.now()) > CLOSE_SECONDS + within:
            self._base = time, self._clock.monotonic()
        self._signed = True
        self._set_floor(self.now())

    def close(self) -> None:
        """The agent ends: what has passed while it ran is kept, if it is worth it."""
        self._written_at = None
        self._set_floor(self.floor())

    def _set_floor(self, time: float) -> None:
        falls = time < self._risen_floor() - CLOSE_SECONDS
        self._floor, self._floor_at = time, self._clock.monotonic()
        now = self._clock.monotonic()
        rested = self._written_at is None or now - self._written_at >= WRITE_SECONDS
        if not (falls or (rested and time - self._kept >= WRITE_SECONDS)):
            return
        self._written_at, self._kept = now, time
        try:
            set_meta(self._database, [(_FLOOR, str(int(time)))])
        except EdgeAgentError as error:
            log.warning("the last known time could not be kept: %s", error)


def tell_clock(conditions: Conditions, time: TrustedTime, now: float) -> None:
    """Set the condition ``ClockInSync``, where it is known."""
    if (condition := time.condition) is not None:
        conditions.set("ClockInSync", *condition, now)


def in_words(seconds: float) -> str:
    """How long that is, roughly: what a person is told does not change from one second to the next."""
    for size, name in ((365.25 * 86_400, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"about {round(seconds / size)} {name}s"
    return f"about {round(seconds / 5) * 5} seconds"


def _read_floor(database: Database) -> float:
    text = get_meta(database, _FLOOR)
    return float(text) if text.isascii() and text.isdecimal() and float(text) < LATEST else 0.0
