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
_WITHIN = ("_", "/", ".", "-")
"""What a word that is no severity of its own may come after, as in a path."""
_KLOG: Mapping[str, Severity] = {"I": "info", "W": "warn", "E": "error", "F": "fatal"}

_KLOG_HEAD = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")
_LOGFMT = re.compile(r"\b(?:level|lvl|severity)=\"?([A-Za-z]{1,13})\b")
_WORD = re.compile(
    r"(TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|SEVERE|CRITICAL|CRIT|FATAL|PANIC|ALERT|EMERG)(?![\w/.-])"
)


def of_text(body: str) -> Severity:
    """By a line's beginning: sd-daemon(3)'s ``<4>``, klog's ``W0501``, logfmt's ``level=warn``, ``WARN``.

    Every line comes here: what is looked for is so written that most are done with in a microsecond.
    """
    head = body[:_LOOK]
    first = head[:1]
    if first == "<" and head[2:3] == ">" and head[1] in "01234567":
        return _SYSLOG[int(head[1])]
    if first in _KLOG and _KLOG_HEAD.match(head):
        return _KLOG[first]
    if ("level=" in head or "lvl=" in head or "severity=" in head) and (match := _LOGFMT.search(head)):
        return _NAMES.get(match[1].lower(), "")
    for match in _WORD.finditer(head) if _has_word(head) else ():
        before = head[match.start() - 1 : match.start()] if match.start() else ""
        if not (before.isalnum() or before in _WITHIN):
            return _NAMES[match[1].lower()]
    return ""


def _has_word(head: str) -> bool:
    """Plain searches, one after the other: quicker than any expression, and than a loop over them."""
    return (
        "INFO" in head
        or "WARN" in head
        or "ERROR" in head
        or "DEBUG" in head
        or "TRACE" in head
        or "FATAL" in head
        or "NOTICE" in head
        or "CRIT" in head
        or "SEVERE" in head
        or "PANIC" in head
        or "ALERT" in head
        or "EMERG" in head
    )


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
