"""A message of RFC 5424, for any record: read back by the RFC's own grammar."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.logs import LogBatch
from edgeagent_logs.sinkconfig import Facility
from edgeagent_logs.syslogformat import FACILITIES, SyslogFormat, structured_data
from tests.plugins.logs.sinkkit import POD, record
from tests.plugins.logs.strategies import TEXT, batches

_PARAM = rb' [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*"'
MESSAGE = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (?P<host>[!-~]{1,255})"
    rb" (?P<app>[!-~]{1,48}) (?P<procid>[!-~]{1,128}) (?P<msgid>[!-~]{1,32})"
    rb" (?P<data>-|\[[!#-<>-\\^-~]{1,32}(?:" + _PARAM + rb")*\])(?: (?P<text>.*))?",
    re.DOTALL,
)
"""RFC 5424, section 6."""


@given(batches(), TEXT, st.integers(480, 3000), st.sampled_from(get_args(Facility)), TEXT)
def test_any_record(given: LogBatch, node: str, limit: int, facility: Facility, param: str) -> None:
    form = SyslogFormat(node=node, facility=facility, sd_id="edgeagent@32473", limit=limit)
    for one in given.records:
        message = form.message(one, given.origins[one.origin], {"id": "x-1", param: param})
        assert len(message) <= limit
        match = MESSAGE.fullmatch(message)
        assert match, message
        assert match["data"] == b"-" or match["data"].decode()
        assert int(match["pri"]) // 8 == FACILITIES[facility]
        text = (match["text"] or b"").decode()
        if b'original_bytes="' not in match["data"] and not one.fields:
            assert text == one.body


@pytest.mark.parametrize(
    ("severity", "stream", "number"),
    [
        ("fatal", "stdout", 2), ("error", "stdout", 3), ("warn", "stdout", 4), ("info", "stderr", 6),
        ("debug", "stderr", 7), ("trace", "stdout", 7), ("", "stdout", 6), ("", "stderr", 4),
        ("", "journal", 6),
    ],
)  # fmt: skip
def test_severities(severity: str, stream: str, number: int) -> None:
    form = SyslogFormat(node="n", facility="daemon", sd_id="", limit=1000)
    one = record("x", severity=severity, stream=stream)  # type: ignore[arg-type]
    assert form.message(one, POD, {}).startswith(b"<%d>1 " % (24 + number))


def test_facilities_have_the_numbers_of_the_rfc() -> None:
    assert (FACILITIES["kern"], FACILITIES["user"], FACILITIES["cron"], FACILITIES["local0"]) == (0, 1, 9, 16)
    assert FACILITIES["local7"] == 23


@given(st.dictionaries(TEXT, TEXT, max_size=6), st.integers(40, 400))
def test_structured_data_keeps_to_its_room(params: dict[str, str], room: int) -> None:
    element = structured_data("edgeagent@32473", params, room)
    assert len(element.encode()) <= room
    assert re.fullmatch(rb"\[edgeagent@32473(?:" + _PARAM + rb")*\]", element.encode(), re.DOTALL)
