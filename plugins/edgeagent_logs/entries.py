"""Entries of a log file, as CRI writes them: ``<RFC 3339 time> <stdout|stderr> <P|F>[:…] <text>``.

https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md ; Podman's
k8s-file is the same. P is a part of a line, F its end. What is not of this form is a line of unknown time.
"""

import re
from datetime import UTC, datetime, timedelta

ENTRY = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)"
    rb" (stdout|stderr) ([FP])(?::\S*)?(?: (.*))?\n"
    rb"|(.*)\n"
)
"""Groups: seconds, fraction, zone, stream, tag, text; or the whole line."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SCALE: list[int] = [10 ** (9 - digits) for digits in range(10)]


class Times:
    """Turns times of entries to nanoseconds since the epoch; neighbours are mostly of the same second."""

    def __init__(self) -> None:
        self._seconds = b""
        self._zone = b""
        self._base = 0

    def nanoseconds(self, seconds: bytes, fraction: bytes | None, zone: bytes) -> int | None:
        """Of ``2024-05-01T12:00:00``, ``123456789`` and ``Z``; None where there is no such time."""
        if seconds != self._seconds or zone != self._zone:
            try:
                base = _at(seconds.decode(), zone.decode())
            except (ValueError, OverflowError):
                return None
            self._seconds, self._zone, self._base = seconds, zone, base
        if fraction is None:
            return self._base
        return self._base + int(fraction) * _SCALE[len(fraction)]


def _at(seconds: str, zone: str) -> int:
    moment = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return (moment - _EPOCH) // _MICROSECOND * 1000


def last_time(data: bytes, times: Times) -> int | None:
    """The time of the last whole entry in ``data``; None where none has a time."""
    found: int | None = None
    for line in reversed(data.split(b"\n")[:-1]):
        match = ENTRY.fullmatch(line + b"\n")
        if match is not None and match[1]:
            found = times.nanoseconds(match[1], match[2], match[3])
        if found is not None:
            break
    return found
