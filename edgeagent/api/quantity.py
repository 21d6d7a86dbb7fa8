"""Kubernetes quantities: ``250m``, ``64Mi``, ``1.5G``, ``1e3``.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re

NANO = 1_000_000_000
LARGEST = 2**63 - 1

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d*)(?:\.(?P<part>\d*))?"
    r"(?:[eE](?P<exponent>[+-]?\d+)|(?P<binary>[KMGTPE]i)|(?P<decimal>[numkMGTPE]?))",
    re.ASCII,
)
_MAX_LENGTH = 256
_BINARY: dict[str, int] = {
    suffix: 1024**power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)
}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def nano_quantity(text: str | int | float) -> int:
    """``text`` in billionths, exactly; ValueError where it is no quantity or is negative.

    As in Kubernetes, what is finer than a billionth is rounded up and what is above 2^63-1 counts as that.
    """
    written = str(text)
    match = _QUANTITY.fullmatch(written) if len(written) <= _MAX_LENGTH else None
    if match is None or not (match["whole"] or match["part"]):
        raise ValueError(f"{written[:40]!r} is not a quantity (such as 250m, 64Mi or 2)")
    part = match["part"] or ""
    digits = int((match["whole"] or "") + part)
    if digits and match["sign"] == "-":
        raise ValueError("must not be negative")
    digits *= _BINARY.get(match["binary"] or "", 1)
    exponent = _DECIMAL[match["decimal"] or ""] + int(match["exponent"] or 0) + 9 - len(part)
    # Beyond these powers of ten the answer is known, and the number too long to work out.
    exponent = max(min(exponent, _MAX_LENGTH), -2 * _MAX_LENGTH)
    scale: int = 10 ** abs(exponent)
    nanos = digits * scale if exponent >= 0 else -(-digits // scale)
    return min(nanos, LARGEST * NANO)


def parse_quantity(text: str | int | float) -> float:
    """The number that ``text`` stands for; as an integer it fits into 63 bits. Errors as above."""
    return min(nano_quantity(text) / NANO, float(LARGEST - 1023))
