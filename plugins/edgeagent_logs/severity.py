"""How grave a line is, by what programs write in front of it, or in the fields of a JSON object."""

import re
from collections.abc import Mapping

from edgeagent.api.logs import Severity

_NAMES: Mapping[str, Severity] = {
    **dict.fromkeys(("trace", "finest", "finer", "verbose", "silly", "t"), "trace"),
    **dict.fromkeys(("debug", "dbg", "fine", "d"), "debug"),
    **dict.fromkeys(("info", "information", "informational", "notice", "config", "log", "i"), "info"),
    **dict.fromkeys(("warn", "warning", "w"), "warn"),
    **dict.fromkeys(("error", "err", "severe", "e"), "error"),
    **dict.fromkeys(
        ("fatal", "critical", "crit", "panic", "dpanic", "emergency", "emerg", "alert", "f"), "fatal"
    ),
}
_SYSLOG: tuple[Severity, ...] = ("fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug")
"""RFC 5424, section 6.2.1, from 0 (emergency) to 7 (debug)."""
_BUNYAN: tuple[Severity, ...] = ("trace", "debug", "info", "warn", "error", "fatal")
"""10 to 60, as bunyan and pino number them."""
_LOOK = 160
"""In how much of a line's beginning a severity is looked for."""
_KLOG: Mapping[str, Severity] = {"I": "info", "W": "warn", "E": "error", "F": "fatal"}

_PREFIX = re.compile(
    r"^<(?P<syslog>[0-7])>"
    r"|^(?P<klog>[IWEF])\d{4} \d\d:\d\d:\d\d"
    r"|\b(?:level|lvl|severity)=\"?(?P<logfmt>[A-Za-z]{1,13})\b"
    r"|(?<![\w/.-])(?P<word>TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|SEVERE|CRIT(?:ICAL)?|FATAL|PANIC|ALERT|EMERG)"
    r"(?![\w/.-])"
)


def of_text(body: str) -> Severity:
    """By a line's beginning: sd-daemon(3)'s ``<4>``, klog's ``W0501``, logfmt's ``level=warn``, ``WARN``."""
    match = _PREFIX.search(body, 0, _LOOK)
    if match is None:
        return ""
    kind, text = match.lastgroup, match[match.lastgroup or 0]
    if kind == "syslog":
        return _SYSLOG[int(text)]
    if kind == "klog":
        return _KLOG[text]
    return _NAMES.get(text.lower(), "")


def of_value(value: object) -> Severity | None:
    """By the value of a field ``level`` and the like; None where it says none."""
    if isinstance(value, str):
        if value.isdecimal() and len(value) <= 2:
            return of_value(int(value))
        return _NAMES.get(value.lower())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if 0 <= value <= 7:
        return _SYSLOG[int(value)]
    if 10 <= value < 70:
        return _BUNYAN[int(value) // 10 - 1]
    return None


def of_priority(value: str) -> Severity:
    """Of the journal's PRIORITY."""
    return _SYSLOG[int(value)] if value in ("0", "1", "2", "3", "4", "5", "6", "7") else ""
