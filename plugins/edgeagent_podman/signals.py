"""Signals by name, as images and pods write them, to the numbers that Podman takes."""

import re
import signal

from edgeagent.api.errors import PermanentError

_FIRST_REAL_TIME = 34
"""The C library keeps the two below for itself; Podman, too, counts ``SIGRTMIN`` from here."""
_LAST = 64

_REAL_TIME = re.compile(r"RT(?:MIN(?:\+(?P<up>\d{1,2}))?|MAX(?:-(?P<down>\d{1,2}))?)", re.ASCII)


def signal_number(name: str) -> int:
    """The number of ``SIGTERM``, ``TERM``, ``SIGRTMIN+3`` or ``15``.

    PermanentError (reason ``CreateContainerConfigError``) where Linux has no such signal.
    """
    short = name.upper().removeprefix("SIG")
    number = 0
    if match := _REAL_TIME.fullmatch(short):
        base = _FIRST_REAL_TIME if short.startswith("RTMIN") else _LAST
        number = base + int(match["up"] or 0) - int(match["down"] or 0)
        number = number if number >= _FIRST_REAL_TIME else 0
    elif short.isascii() and short.isdigit() and len(short) <= len(str(_LAST)):
        number = int(short)
    elif f"SIG{short}" in signal.Signals.__members__:
        number = signal.Signals[f"SIG{short}"].value
    if not 1 <= number <= _LAST:
        raise PermanentError(f"{name[:40]!r} is no signal of Linux", reason="CreateContainerConfigError")
    return number
