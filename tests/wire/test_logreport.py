"""Logs on the cluster's own broker: every record in some message, each within its limit, in order."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent.wire.logreport import encode_reports

ORIGINS = [
    LogOrigin(namespace="default", pod="web", pod_uid="u1", container="main", labels={"app": "web"}),
    LogOrigin(unit="edgeagent.service"),
]
BODIES = st.text(max_size=200)


@given(
    st.lists(st.tuples(BODIES, st.integers(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(2_000, 20_000),
)
def test_every_record_is_told_once_and_in_order(lines: list[tuple[str, int, bool]], limit: int) -> None:
    records = [
        LogRecord(1_800_000_000_000_000_001 + n, origin, "stdout", body, "info" if fields else "",
                  b'{"level":"info"}' if fields else b"")
        for n, (body, origin, fields) in enumerate(lines)
    ]  # fmt: skip
    messages = encode_reports("s", 100, LogBatch(origins=ORIGINS, records=records), limit)
    assert all(len(message) <= limit for message in messages)
    found: list[object] = []
    for message in messages:
        report = json.loads(message)
        assert report["stream"] == "s"
        assert report["first"] == 100 + len(found)
        for line in report["records"]:
            found.append((line["body"], report["origins"][line["origin"]], line.get("fields")))
    wanted = [
        (body, _shown(ORIGINS[origin]), {"level": "info"} if fields else None)
        for body, origin, fields in lines
    ]
    assert found == wanted


def _shown(origin: LogOrigin) -> dict[str, object]:
    names = {"pod_uid": "podUid", "container_id": "containerId"}
    return {names.get(key, key): value for key, value in msgspec.structs.asdict(origin).items() if value}


def test_a_message_as_the_documentation_has_it() -> None:
    batch = LogBatch(
        origins=ORIGINS[1:],
        records=[LogRecord(1_800_000_000_000_000_001, 0, "journal", "it runs", "info", b'{"pid":7}')],
    )
    [message] = encode_reports("0123", 41, batch, 1000)
    assert message == (
        b'{"stream":"0123","first":41,"origins":[{"unit":"edgeagent.service"}],"records":[{"time":'
        b'"2027-01-15T08:00:00.000000001Z","origin":0,"stream":"journal","body":"it runs","severity":"info",'
        b'"fields":{"pid":7}}]}'
    )


def test_one_record_that_does_not_fit_is_refused() -> None:
    batch = LogBatch(origins=ORIGINS, records=[LogRecord(1, 0, "stdout", "x" * 5000)])
    with pytest.raises(PermanentError, match="does not fit"):
        encode_reports("s", 0, batch, 2000)
