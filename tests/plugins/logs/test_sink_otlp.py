"""The sink for OTLP/HTTP: every request is read by OpenTelemetry's own schema."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch
from tests.plugins.logs.sinkkit import NOW, POD, STREAM, MakeSink, batch, deliver, lines, made_sink, record
from tests.plugins.logs.strategies import batches
from tests.support import httpreceiver as faults
from tests.support.httpreceiver import HttpReceiver
from tests.support.otlpreceiver import OtlpReceiver, plain, text_of


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """A receiver."""
    with OtlpReceiver() as running:
        yield running


def section(receiver: HttpReceiver, **more: object) -> dict[str, object]:
    """The sink's section."""
    return {"type": "otlp", "url": receiver.url, **more}


def test_what_a_record_is(receiver: OtlpReceiver, sink_of: MakeSink) -> None:
    given = batch(
        [
            record(
                "a",
                severity="warn",
                fields=b'{"status":200,"big":99999999999999999999,"user":{"ids":[1,null]}}',
            ),
            record("Accepted", origin=1, stream="journal"),
            record("b", time=NOW + 1),
        ]
    )
    resource = {"deployment.environment.name": "prod", "host.name": "gw.example.com"}
    sinks = sink_of(section(receiver, resource=resource, pod_labels=["app.kubernetes.io/name"]))
    assert sinks.ship("central", STREAM, 7, given).rejected == {}
    (pod, first), (_, third), (unit, second) = receiver.records
    assert {one.key: plain(one.value) for one in pod.attributes} == {
        "deployment.environment.name": "prod",
        "service.name": "web-frontend",
        "host.name": "gw.example.com",
        "k8s.cluster.name": "plant",
        "k8s.node.name": "gateway-7",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-5d9f",
        "k8s.pod.uid": POD.pod_uid,
        "k8s.container.name": "nginx",
        "container.id": POD.container_id,
        "container.image.name": POD.image,
        "k8s.pod.label.app.kubernetes.io/name": "web-frontend",
    }
    assert text_of(unit.attributes, "systemd.unit") == "ssh.service"
    assert {one.key: plain(one.value) for one in first.attributes} == {
        "status": 200,
        "big": "99999999999999999999",
        "user": {"ids": [1, None]},
        "log.iostream": "stdout",
        "log.record.uid": f"{STREAM}-7",
    }
    assert (first.time_unix_nano, first.severity_number, first.severity_text) == (NOW, 13, "warn")
    assert (third.time_unix_nano, third.severity_number, third.severity_text) == (NOW + 1, 0, "")
    assert [one.body.string_value for one in (first, second, third)] == ["a", "Accepted", "b"]
    assert text_of(second.attributes, "log.record.uid") == f"{STREAM}-8"


def test_a_url_that_names_the_path_already(receiver: OtlpReceiver, sink_of: MakeSink) -> None:
    deliver(sink_of({"type": "otlp", "url": f"{receiver.url}/v1/logs"}), lines(1))
    assert receiver.bodies() == ["line 0"]


@pytest.mark.parametrize(
    ("partial", "rejected"),
    [
        ({"rejectedLogRecords": "2", "errorMessage": "too old"}, 2),
        ({"rejectedLogRecords": 5, "errorMessage": ""}, 5),
        ({"rejectedLogRecords": "99"}, 5),
        ({"rejectedLogRecords": -3}, 0),
        ({"rejectedLogRecords": "many"}, 0),
        ({"errorMessage": "a warning"}, 0),
        ({}, 0),
    ],
)
def test_a_partial_success_is_never_sent_again(
    receiver: OtlpReceiver, sink_of: MakeSink, partial: dict[str, object], rejected: int
) -> None:
    receiver.partial = partial
    outcome = deliver(sink_of(section(receiver)), lines(5))
    assert len(outcome.rejected) == rejected
    assert len(receiver.requests) == 1
    if "too old" in partial.values():
        assert outcome.rejected[0] == "2 of a request rejected: too old"


@pytest.mark.parametrize(
    "body",
    [b"", b"no JSON", b"[]", b'{"partialSuccess":5}', b"\x0a\x02\x08\x01", b"[" * 50_000],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_that_cannot_be_read_is_a_success(
    receiver: OtlpReceiver, sink_of: MakeSink, body: bytes
) -> None:
    receiver.faults.append(faults.says(200, body))
    assert deliver(sink_of(section(receiver)), lines(2)).rejected == {}
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_sent_again(receiver: OtlpReceiver, sink_of: MakeSink, status: int) -> None:
    receiver.faults.append(faults.says(status, b"", Retry_After="3"))
    assert [error.delay for error in deliver(sink_of(section(receiver)), lines(2)).failures] == [3.0]


@pytest.mark.parametrize("status", [500, 501, 505])
def test_what_may_not_be_sent_again_waits_for_a_person(
    receiver: OtlpReceiver, sink_of: MakeSink, status: int
) -> None:
    receiver.faults.append(faults.says(status, b"bug"))
    with pytest.raises(PermanentError, match=f"{status}: bug"):
        sink_of(section(receiver)).ship("central", STREAM, 0, lines(2))


def test_a_record_that_is_refused_costs_no_other(receiver: OtlpReceiver, sink_of: MakeSink) -> None:
    outcome = deliver(sink_of(section(receiver)), batch(["a", "b", "poison", "c", "d"]))
    assert outcome.rejected == {2: '400: {"code": 3, "message": "poison"}'}
    assert receiver.bodies() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "fields", [b"[1]", b"{", b'{"a":' * 5000, b"\xff", b'{"":1}'], ids=lambda raw: repr(raw[:9])
)
def test_fields_that_are_no_object(receiver: OtlpReceiver, sink_of: MakeSink, fields: bytes) -> None:
    deliver(sink_of(section(receiver)), batch([record("a", fields=fields)]))
    assert receiver.bodies() == ["a"]


def test_fields_nested_deeply(receiver: OtlpReceiver, sink_of: MakeSink) -> None:
    deep = b'{"a":' * 60 + b"1" + b"}" * 60
    deliver(sink_of(section(receiver)), batch([record("a", fields=deep)]))
    ((_, one),) = receiver.records
    value = plain(one.attributes[0].value)
    depth = 0
    while isinstance(value, dict):
        value, depth = value["a"], depth + 1
    assert depth == 16
    assert isinstance(value, str)
    assert json.loads(value) == json.loads(deep[(depth + 1) * 5 : len(deep) - depth - 1])


@settings(max_examples=40, deadline=None)
@given(batches())
def test_any_record_is_by_the_schema(given: LogBatch) -> None:
    with OtlpReceiver() as receiver:
        sinks = made_sink(section(receiver))
        try:
            rejected = deliver(sinks, given).rejected
        finally:
            sinks.close()
        assert rejected == {}
        by_uid = {text_of(one.attributes, "log.record.uid"): one for _, one in receiver.records}
        for place, one in enumerate(given.records):
            got = by_uid[f"{STREAM}-{place}"]
            assert got.body.string_value == one.body
            if one.fields:
                shown = {pair.key: plain(pair.value) for pair in got.attributes}
                for name, value in json.loads(one.fields).items():
                    if isinstance(value, str | bool) or value is None:
                        assert shown[name] == value
