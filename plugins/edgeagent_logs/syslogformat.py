"""A record as a message of RFC 5424. Pure: no socket."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import get_args

from edgeagent.api.clock import rfc3339_nano
from edgeagent.api.logs import LogOrigin, LogRecord, Severity
from edgeagent_logs.attributes import sane_time, service_name, whole_text
from edgeagent_logs.sinkconfig import Facility

FACILITIES = {name: number for number, name in enumerate(get_args(Facility))}
_SEVERITIES: dict[Severity, int] = {"fatal": 2, "error": 3, "warn": 4, "info": 6, "debug": 7, "trace": 7}
_UNKNOWN_SEVERITY = {"stderr": 4}
_INFORMATIONAL = 6
_UNPRINTABLE = re.compile(r"[^!-~]")
_ESCAPED = re.compile(r'(["\\\]])')
_UNFIT = re.compile(r'[^!-~]|[=\]"]')
_MAX_PARAM = 1024
_MAX_DATA = 4096


def header_field(text: str, limit: int) -> str:
    """``text`` as PRINTUSASCII of at most ``limit`` characters; ``-`` where nothing is left (6.2)."""
    return _UNPRINTABLE.sub("_", text)[:limit] or "-"


def structured_data(sd_id: str, params: Mapping[str, str], room: int) -> str:
    """One SD-ELEMENT (6.3) of at most ``room`` bytes: parameters that have no room are left out."""
    made = [f"[{sd_id}"]
    left = room - len(sd_id) - 2
    for name, value in params.items():
        param = _param(name, value)
        if name and value and (size := len(param.encode())) <= left:
            made.append(param)
            left -= size
    return "".join([*made, "]"])


@lru_cache(maxsize=256)
def _param(name: str, value: str) -> str:
    """Kept for those that come again with every line: all but the id."""
    escaped = _ESCAPED.sub(r"\\\1", value[:_MAX_PARAM])
    return f' {_UNFIT.sub("_", name)[:32]}="{escaped}"'


class SyslogFormat:
    """``limit``: the most bytes of a message. ``node``: its HOSTNAME. ``sd_id`` may be empty for no data."""

    def __init__(self, *, node: str, facility: Facility, sd_id: str, limit: int) -> None:
        self._host = header_field(node, 255)
        self._facility = FACILITIES[facility] * 8
        self._sd_id = sd_id
        self._limit = limit

    def message(self, record: LogRecord, origin: LogOrigin, params: Mapping[str, str]) -> bytes:
        """The message, cut at a character's end where it is too long; then it has ``original_bytes``."""
        severity = _SEVERITIES.get(record.severity, _UNKNOWN_SEVERITY.get(record.stream, _INFORMATIONAL))
        # TIME-SECFRAC has six digits at most.
        time = f"{rfc3339_nano(sane_time(record))[:26]}Z"
        app = header_field(origin.unit or origin.container or service_name(origin), 48)
        process = header_field(origin.pod, 128)
        kind = header_field(record.stream, 32)
        head = f"<{self._facility + severity}>1 {time} {self._host} {app} {process} {kind} "
        body = whole_text(record).encode()
        whole = (head + self._data(params, len(head))).encode()
        if len(whole) + 1 + len(body) <= self._limit:
            return whole + b" " + body if body else whole
        cut = (head + self._data({"original_bytes": str(len(body)), **params}, len(head))).encode()
        kept = body[: max(self._limit - len(cut) - 1, 0)].decode(errors="ignore").encode()
        return cut + b" " + kept if kept else cut

    def _data(self, params: Mapping[str, str], taken: int) -> str:
        if not self._sd_id:
            return "-"
        return structured_data(self._sd_id, params, min(_MAX_DATA, (self._limit - taken) // 2))
