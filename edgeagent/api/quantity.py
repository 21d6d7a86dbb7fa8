"""Kubernetes quantities: ``250m``, ``64Mi``, ``1.5G``, ``1e3``.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([numkMGTPE]i?|Ki)?)", re.ASCII)
_SUFFIX = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip

_LARGEST = 2.0**63


def parse_quantity(text: str | int | float) -> float:
    """The number that ``text`` stands for; raises ValueError where it is none or is negative."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None or (match[3] and match[3] not in _SUFFIX):
        raise ValueError(f"{str(text)[:40]!r} is not a quantity (such as 250m, 64Mi or 2)")
    value = float(match[1] + (match[2] or "")) * _SUFFIX.get(match[3] or "", 1.0)
    if value < 0:
        raise ValueError("must not be negative")
    if value > _LARGEST:
        raise ValueError(f"{str(text)[:40]!r} is too large")
    return value
