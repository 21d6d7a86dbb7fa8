"""Time as a parameter: whoever needs the time of day, a duration or a pause is handed a Clock."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The time of day, a monotonic count of seconds, and a pause."""

    def now(self) -> float:
        """Seconds since the epoch, by the wall clock (may jump)."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of monotonic time."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment, often the boot."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task."""
        await asyncio.sleep(seconds)


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as Kubernetes writes a ``metav1.Time``: UTC, whole seconds, ``Z``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_nano(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as Go's ``RFC3339Nano`` with all nine digits: UTC, ``Z``."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_rfc3339(text: str) -> float:
    """The inverse of ``rfc3339``; also reads fractions and offsets (RFC 3339). Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
