"""Amounts and durations as a configuration file writes them: ``10%``, ``100Mi``, ``5%, 100Mi``, ``1h30m``."""

import re

import msgspec

from edgeagent.api.quantity import parse_quantity

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([\d.]+)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Amount(msgspec.Struct, frozen=True):
    """A quantity, a share of the capacity, or the smaller of both. ``text`` is how it was written.

    ``quantity`` is in base units (bytes, inodes, processes), ``fraction`` from 0 to 1; None where not given.
    """

    text: str
    quantity: float | None = None
    fraction: float | None = None

    def of(self, capacity: float) -> float:
        """The amount in base units where there are ``capacity`` in all."""
        both = (self.quantity, None if self.fraction is None else self.fraction * capacity)
        return min((amount for amount in both if amount is not None), default=0.0)


NOTHING = Amount("0", quantity=0.0)


def parse_amount(text: str) -> Amount:
    """``100Mi``, ``10%``, or both with a comma, which means the smaller. ValueError says what is wrong."""
    quantity: float | None = None
    fraction: float | None = None
    for part in text.split(","):
        if match := _PERCENT.fullmatch(part.strip()):
            if fraction is not None or float(match[1]) > 100:
                raise ValueError(f"{text[:40]!r} must have one percentage, from 0% to 100%")
            fraction = float(match[1]) / 100
        else:
            if quantity is not None:
                raise ValueError(f"{text[:40]!r} must have one quantity")
            quantity = parse_quantity(part.strip())
    return Amount(text, quantity, fraction)


def parse_duration(text: str) -> float:
    """Seconds, from Kubernetes' (that is Go's) notation: ``90s``, ``1h30m``, ``0``. ValueError if it is none.

    https://pkg.go.dev/time#ParseDuration
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a duration (such as 90s, 5m or 1h30m)")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
