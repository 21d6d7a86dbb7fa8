"""What becomes of a line: JSON, severities, and rules in their order."""

import json
from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.logs import LogOrigin, LogRecord
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.pipeline import ChunkBuilder, Pipeline
from edgeagent_logs.severity import of_text

ORIGIN = LogOrigin(namespace="shop", pod="web-7f", container="app", labels={"app": "web"})


def through(
    *lines: str | bytes, origin: LogOrigin = ORIGIN, stream: str = "stdout", **section: Any
) -> list[LogRecord]:
    """The records that these lines become."""
    chunk = ChunkBuilder()
    pipeline = Pipeline(msgspec.convert(section, LogsConfig), origin, Random(3))
    for line in lines:
        pipeline.line(chunk, 5, stream, line if isinstance(line, bytes) else line.encode())
    return chunk.records


def bodies(*lines: str, rules: list[dict[str, Any]], **more: Any) -> list[str]:
    """The bodies that rules leave."""
    return [record.body for record in through(*lines, rules=rules, **more)]


def test_a_json_object_is_taken_apart() -> None:
    line = '{"time":"2024-05-01T12:00:00.5Z","level":"WARNING","msg":"low","disk":{"free":[1,2]},"path":"/x"}'
    (record,) = through(line)
    assert (record.body, record.severity, record.time) == ("low", "warn", 1_714_564_800_500_000_000)
    assert json.loads(record.fields) == {"disk": {"free": [1, 2]}, "path": "/x"}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ('{"ts":1714564800.25,"msg":"x"}', 1_714_564_800_250_000_000),
        ('{"timestamp":1714564800250,"msg":"x"}', 1_714_564_800_250_000_000),
        ('{"t":1714564800250000001,"msg":"x"}', 1_714_564_800_250_000_001),
        ('{"@timestamp":"2024-05-01T14:00:00+02:00","message":"x"}', 1_714_564_800_000_000_000),
        ('{"time":"2024-05-01T14:00:00","msg":"x"}', 5),
        ('{"time":17,"msg":"x"}', 5),
        ('{"time":true,"msg":"x"}', 5),
        ('{"time":{"no":"time"},"msg":"x"}', 5),
    ],
)
def test_times_of_json_objects(text: str, time: int) -> None:
    (record,) = through(text)
    assert (record.time, record.body) == (time, "x")


def test_what_is_no_json_object_stays_as_it_is() -> None:
    for line in ("{not json", "[1, 2]", '"text"', "{}x", '{"a": 1e999}'):
        (record,) = through(line)
        assert (record.body, record.fields) == (line, b"")
    (record,) = through('{"a": 1}')
    assert (record.body, record.fields) == ('{"a": 1}', b'{"a":1}')
    (record,) = through('{"msg": "x"}', parse_json=False)
    assert (record.body, record.fields) == ('{"msg": "x"}', b"")


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("<3>disk on fire", "error"),
        ("W0501 12:00:00.000001       1 main.go:7] careful", "warn"),
        ("I0501 12:00:00.000001       1 main.go:7] fine", "info"),
        ('time="2024-05-01" level=debug msg="x"', "debug"),
        ('lvl="crit" msg=x', "fatal"),
        ("2024-05-01 12:00:00,000 ERROR [main] c.e.Main - failed", "error"),
        ("[WARN] careful", "warn"),
        ("INFO:root:started", "info"),
        ("CRITICAL", "fatal"),
        ("GET /ERROR/page.html 200", ""),
        ("an error is mentioned", ""),
        ("x" * 200 + " ERROR", ""),
        ('{"level":30,"msg":"pino"}', "info"),
        ('{"level":3,"msg":"gelf"}', "error"),
        ('{"severity":"Error","msg":"x"}', "error"),
        ('{"level":"strange","msg":"x"}', ""),
        ('{"msg":"ERROR in words"}', "error"),
    ],
)
def test_severities(line: str, severity: str) -> None:
    (record,) = through(line)
    assert record.severity == severity


def test_rules_are_applied_in_their_order() -> None:
    rules: list[dict[str, Any]] = [
        {"action": "set-severity", "body": "slow query", "to": "warn"},
        {"action": "drop", "severity": ["", "debug"]},
        {"action": "redact", "pattern": "query", "replacement": "Q"},
        {"action": "drop", "body": "query"},
    ]
    assert bodies("slow query 1", "plain", "level=debug x", "ERROR query", rules=rules) == [
        "slow Q 1",
        "ERROR Q",
    ]


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({"namespace": "shop"}, True),
        ({"namespace": "sh?p", "pod": "web-*", "container": "app"}, True),
        ({"namespace": "sho"}, False),
        ({"pod": "db-*"}, False),
        ({"container": "APP"}, False),
        ({"labels": {"app": "w*"}}, True),
        ({"labels": {"app": "w*", "tier": "*"}}, False),
        ({"unit": "*"}, True),
        ({"unit": "ssh.service"}, False),
        ({"stream": "stdout"}, True),
        ({"stream": "stderr"}, False),
        ({"severity": ["error"]}, True),
        ({"severity": ["error"], "body": "nothing"}, False),
        ({"body": "^ERROR"}, True),
        ({"stream": "stdout", "body": "boom$"}, True),
        ({}, True),
    ],
)
def test_conditions(condition: dict[str, Any], matches: bool) -> None:
    assert bodies("ERROR boom", rules=[{"action": "drop", **condition}]) == (
        [] if matches else ["ERROR boom"]
    )


def test_keep_leaves_out_the_rest_of_whom_it_names_alone() -> None:
    rules: list[dict[str, Any]] = [
        {"action": "keep", "pod": "web-*", "stream": "stdout", "severity": ["error"]}
    ]
    assert bodies("ERROR a", "INFO b", rules=rules) == ["ERROR a"]
    assert bodies("INFO b", rules=rules, stream="stderr") == ["INFO b"]
    assert bodies("INFO b", rules=rules, origin=LogOrigin(pod="db")) == ["INFO b"]


def test_sampling_is_by_chance_and_counted() -> None:
    chunk = ChunkBuilder()
    config = msgspec.convert({"rules": [{"action": "sample", "one_in": 10}]}, LogsConfig)
    pipeline = Pipeline(config, ORIGIN, Random(1))
    for _ in range(10_000):
        pipeline.line(chunk, 1, "stdout", b"x")
    assert 850 < len(chunk.records) < 1150
    assert chunk.dropped == Counter(sampling=10_000 - len(chunk.records))


@pytest.mark.parametrize(
    ("name", "text", "redacted"),
    [
        ("credit-card", "paid with 4111 1111 1111 1111.", "paid with [redacted]."),
        ("credit-card", "amex 3782-822463-10005", "amex [redacted]"),
        ("credit-card", "order 1234567890, port 8080", "order 1234567890, port 8080"),
        ("bearer-token", "Authorization: Bearer abc.def-123456", "Authorization: Bearer [redacted]"),
        ("bearer-token", "jwt eyJhbGciOiJI.eyJzdWIiOiIx.sig-_x end", "jwt [redacted] end"),
        ("email", "mail to jane.doe+x@mail.example.org now", "mail to [redacted] now"),
        ("email", "user@host", "user@host"),
        ("password", "login user=x password=geheim, ok", "login user=x password=[redacted], ok"),
    ],
)
def test_built_in_redactions(name: str, text: str, redacted: str) -> None:
    assert bodies(text, rules=[{"action": "redact", "pattern": name}]) == [redacted]


def test_fields_are_redacted_at_any_depth() -> None:
    line = '{"msg":"a@b.example","who":{"mails":["c@d.example",1,null]},"n":2}'
    (record,) = through(line, rules=[{"action": "redact", "pattern": "email", "replacement": "<mail>"}])
    assert record.body == "<mail>"
    assert json.loads(record.fields) == {"who": {"mails": ["<mail>", 1, None]}, "n": 2}


def test_groups_in_a_replacement() -> None:
    rules: list[dict[str, Any]] = [{"action": "redact", "pattern": r"(user)=\w+", "replacement": r"\1=…"}]
    assert bodies("user=jane did", rules=rules) == ["user=… did"]


@given(st.binary(max_size=300))
def test_any_bytes_become_a_record_that_can_be_kept(line: bytes) -> None:
    rules: list[dict[str, Any]] = [{"action": "redact", "pattern": name} for name in ("email", "credit-card")]
    for text in (line, b"{" + line, b'{"msg":"' + line.replace(b'"', b"") + b'"}'):
        records = through(text, rules=rules)
        assert len(records) == 1
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(records), type=list[LogRecord])
        assert again == records


@given(st.text(max_size=200))
def test_any_text_has_a_severity_or_none(text: str) -> None:
    assert of_text(text) in ("", "trace", "debug", "info", "warn", "error", "fatal")
