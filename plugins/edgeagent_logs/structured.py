"""A line that is a JSON object: its message, time and severity by the usual keys, and the rest as fields."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from edgeagent.api.logs import Severity
from edgeagent_logs.severity import of_value

MESSAGE_KEYS = ("message", "msg", "log", "event", "MESSAGE")
TIME_KEYS = ("time", "timestamp", "@timestamp", "ts", "t", "datetime")
SEVERITY_KEYS = ("level", "severity", "lvl", "levelname", "loglevel", "log.level")

_decoder = msgspec.json.Decoder(dict[str, Any])
_YEAR_2000, _YEAR_2200 = 946_684_800, 7_258_118_400


MAX_DEPTH = 64


class Structured(NamedTuple):
    """``body``, ``time`` and ``severity`` are None where no key says them; what says them is in no field."""

    body: str | None
    time: int | None
    severity: Severity | None
    fields: dict[str, Any]


def parse(text: bytes) -> Structured | None:
    """The object that ``text`` is; None where it is none."""
    try:
        fields = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if _is_deep(fields, MAX_DEPTH):
        return None
    body = time = severity = None
    for key in MESSAGE_KEYS:
        if isinstance(fields.get(key), str):
            body = fields.pop(key)
            break
    for key in TIME_KEYS:
        if key in fields and (time := _time(fields[key])) is not None:
            del fields[key]
            break
    for key in SEVERITY_KEYS:
        if key in fields and (severity := of_value(fields[key])) is not None:
            del fields[key]
            break
    return Structured(body, time, severity, fields)


def _is_deep(value: object, depth: int) -> bool:
    """Whether something in it is nested more than ``depth`` times: whoever walks through it has to stop."""
    if isinstance(value, dict):
        return depth == 0 or any(_is_deep(one, depth - 1) for one in value.values())
    if isinstance(value, list):
        return depth == 0 or any(_is_deep(one, depth - 1) for one in value)
    return False


def _time(value: object) -> int | None:
    """Nanoseconds since the epoch, of RFC 3339, or of a number of seconds, milliseconds and so on."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None  # which zone it means is anybody's guess
        nanoseconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6) * 1000
        return nanoseconds if _YEAR_2000 * 10**9 <= nanoseconds < _YEAR_2200 * 10**9 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for scale in (1, 1000, 10**6, 10**9):
        if _YEAR_2000 * scale <= value < _YEAR_2200 * scale:
            return value * (10**9 // scale) if isinstance(value, int) else int(value * 1e6 / scale) * 1000
    return None
