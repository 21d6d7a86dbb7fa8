"""Logs on the cluster's own broker: what ``nodes/<node>/logs`` carries, for whoever listens there.

Whoever may read the topic at the broker reads the lines: they are not sealed.
"""

import msgspec

from edgeagent.api.clock import rfc3339_nano
from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent.api.objects.base import KubernetesStruct


class Line(KubernetesStruct, frozen=True):
    """One record. ``time`` is RFC 3339 with nanoseconds, ``origin`` a place in the report's ``origins``."""

    time: str
    origin: int
    stream: str
    body: str
    severity: str = ""
    fields: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Origin(KubernetesStruct, frozen=True):
    """Whose lines, as in ``edgeagent.api.logs.LogOrigin``."""

    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    container_id: str = ""
    image: str = ""
    labels: dict[str, str] = {}
    unit: str = ""


class LogReport(KubernetesStruct, frozen=True, omit_defaults=False):
    """Records ``first`` and those that follow it of ``stream``: a number stands for one record for ever."""

    stream: str
    first: int
    origins: list[Origin]
    records: list[Line]


def encode_reports(stream: str, first: int, batch: LogBatch, limit: int) -> list[bytes]:
    """The batch as JSON, in as many reports as keep each within ``limit`` bytes.

    PermanentError (``TooLarge``) where one record alone does not fit.
    """
    origins = [_origin(one) for one in batch.origins]
    waiting = [(0, len(batch.records))]
    done: list[bytes] = []
    while waiting:
        start, end = waiting.pop()
        lines = [_line(one) for one in batch.records[start:end]]
        used = sorted({line.origin for line in lines})
        places = {old: new for new, old in enumerate(used)}
        lines = [msgspec.structs.replace(line, origin=places[line.origin]) for line in lines]
        report = LogReport(
            stream=stream, first=first + start, origins=[origins[one] for one in used], records=lines
        )
        body = msgspec.json.encode(report)
        if len(body) <= limit:
            done.append(body)
        elif end - start > 1:
            middle = (start + end) // 2
            waiting += [(middle, end), (start, middle)]
        else:
            raise PermanentError(f"a log record of {len(body)} bytes does not fit", reason="TooLarge")
    return done


def _origin(one: LogOrigin) -> Origin:
    return Origin(**msgspec.structs.asdict(one))


def _line(one: LogRecord) -> Line:
    return Line(
        time=rfc3339_nano(one.time),
        origin=one.origin,
        stream=one.stream,
        body=one.body,
        severity=one.severity,
        fields=msgspec.Raw(one.fields) if one.fields else msgspec.UNSET,
    )
