"""A clock for what pods wait for: it goes on evenly, over restarts of the agent, however the date is set.

The kernel's count of seconds since the machine began goes on through all of that. What is added to it, so
that times of one boot can be told from those of another, is chosen once a boot and kept.
"""

import logging
import math

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta, set_meta

log = logging.getLogger(__name__)

_STEADY = "steady_clock"


class SteadyClock:
    """A Clock whose ``now`` is never set. It may be years off: only differences of its times count."""

    def __init__(self, clock: Clock, offset: float) -> None:
        self._clock = clock
        self._offset = offset

    def now(self) -> float:
        """Seconds since the epoch, if the date was right when the machine began."""
        return self._clock.monotonic() + self._offset

    def monotonic(self) -> float:
        """As the machine's clock."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As the machine's clock."""
        await self._clock.sleep(seconds)


def steady_clock(database: Database, clock: Clock, *, boot_id: str) -> SteadyClock:
    """The clock of this boot, begun with what ``clock`` says; without a ``boot_id`` each is a new one."""
    kept_boot, _, text = get_meta(database, _STEADY).partition(" ")
    offset = _number(text)
    if not boot_id or kept_boot != boot_id or offset is None:
        offset = clock.now() - clock.monotonic()
        try:
            set_meta(database, [(_STEADY, f"{boot_id} {offset!r}")])
        except EdgeAgentError as error:
            log.warning("how the seconds of this boot are counted could not be kept: %s", error)
    return SteadyClock(clock, offset)


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
