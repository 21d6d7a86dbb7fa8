"""Entries of a log file, as CRI writes them: ``<RFC 3339 time> <stdout|stderr> <P|F>[:…] <text>``.

https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md ; Podman's
k8s-file is the same. P is a part of a line, F its end. What is not of this form is a line of unknown time.
"""

import re
from datetime import UTC, datetime, timedelta

ENTRY = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)"
    rb" (stdout|stderr) ([FP])(?::\S*)?(?: (.*))?"
)
"""Groups: second, fraction, zone, stream, tag, text."""
_KINDS = {
    b" %s %s " % (stream, tag): (stream, tag == b"F")
    for stream in (b"stdout", b"stderr")
    for tag in (b"F", b"P")
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


Entry = tuple[int | None, bytes, bool, bytes]
"""Its time in nanoseconds since the epoch, None without one; its stream; whether it ends a line; its text."""


class EntryParser:
    """Parses entries. Neighbours are mostly of the same second and written alike: those are only compared."""

    def __init__(self) -> None:
        self._second = b""
        self._zone = b""
        self._base = 0

    def parse(self, line: bytes) -> Entry:
        """An entry without its line end."""
        if line[:20] == self._second and line[29:35] == self._zone:
            kind = _KINDS.get(line[35:45])
            fraction = line[20:29]
            if kind is not None and fraction.isdigit():
                return (self._base + int(fraction), kind[0], kind[1], line[45:])
        match = ENTRY.fullmatch(line)
        if match is None:
            return (None, b"stdout", True, line)
        second, fraction, zone, stream, tag, text = match.groups()
        try:
            base = _at(second.decode(), zone.decode())
        except (ValueError, OverflowError):
            return (None, stream, tag == b"F", text or b"")
        self._second, self._zone, self._base = second + b".", zone, base
        digits = fraction or b"0"
        return (base + int(digits) * 10 ** (9 - len(digits)), stream, tag == b"F", text or b"")

    def last_time(self, data: bytes) -> int | None:
        """The time of the last whole entry in ``data``; None where none has a time."""
        times = (self.parse(line)[0] for line in reversed(data.split(b"\n")[:-1]))
        return next((time for time in times if time is not None), None)


def _at(seconds: str, zone: str) -> int:
    moment = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return (moment - _EPOCH) // _MICROSECOND * 1000
