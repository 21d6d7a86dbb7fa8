"""The sink for Loki."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from edgeagent.api.errors import PermanentError
from edgeagent.api.logs import LogBatch, LogOrigin
from tests.plugins.logs.sinkkit import NOW, POD, STREAM, MakeSink, batch, deliver, lines, made_sink, record
from tests.plugins.logs.strategies import batches
from tests.support import httpreceiver as faults
from tests.support.httpreceiver import Answer, HttpReceiver
from tests.support.lokireceiver import LokiReceiver


@pytest.fixture
def receiver() -> Iterator[LokiReceiver]:
    """A receiver."""
    with LokiReceiver() as running:
        yield running


def section(receiver: HttpReceiver, **more: object) -> dict[str, object]:
    """The sink's section."""
    return {"type": "loki", "url": receiver.url, **more}


def test_streams_labels_and_metadata(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    given = batch(
        [
            record("a", severity="warn"),
            record("Accepted", origin=1, stream="journal"),
            record("b", time=NOW + 1, stream="stderr"),
            record("c", time=NOW + 2, fields=b'{"status":200}'),
        ]
    )
    deliver(sink_of(section(receiver, tenant="plant-a")), given)
    common = {"job": "edgeagent", "cluster": "plant", "node": "gateway-7"}
    pod = tuple(sorted((common | {"namespace": "shop", "container": "nginx"}).items()))
    unit = tuple(sorted((common | {"unit": "ssh.service"}).items()))
    assert receiver.streams == {
        pod: [(NOW, "a"), (NOW + 1, "b"), (NOW + 2, '{"message":"c","status":200}')],
        unit: [(NOW, "Accepted")],
    }
    assert receiver.metadata[NOW, "a"] == {
        "pod": "web-5d9f",
        "stream": "stdout",
        "level": "warn",
        "pod_uid": POD.pod_uid,
        "container_id": POD.container_id,
        "image": POD.image,
        "label_app": "web",
        "label_app_kubernetes_io_name": "web-frontend",
        "label_tier": "front",
    }
    assert receiver.metadata[NOW, "Accepted"] == {"stream": "journal"}
    assert receiver.tenants == ["plant-a"]
    assert len(receiver.requests) == 1


def test_labels_are_what_the_configuration_says(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    more: dict[str, object] = {
        "labels": ["namespace", "pod", "level"],
        "pod_labels": {"app": "app.kubernetes.io/name", "zone": "absent"},
        "static_labels": {"env": "prod"},
        "structured_metadata": False,
    }
    deliver(sink_of(section(receiver, **more)), batch([record("a", severity="error"), record("b")]))
    common = {"env": "prod", "namespace": "shop", "pod": "web-5d9f", "app": "web-frontend"}
    assert [dict(labels) for labels in receiver.streams] == [common | {"level": "error"}, common]
    assert receiver.metadata == {}


def test_what_comes_again_is_there_once(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    sinks = sink_of(section(receiver))
    for _ in range(3):
        deliver(sinks, lines(10))
    assert receiver.lines() == [f"line {number}" for number in range(10)]


def test_lines_that_loki_refuses_are_told_from_the_rest(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    old = NOW - 2 * 3600 * 10**9
    given = batch(
        [
            *[record(f"line {number}", time=NOW + number) for number in range(20)],
            record("late", time=old),
            record("poison", time=NOW + 30),
            *[record(f"line {number}", time=NOW + number) for number in range(40, 60)],
        ]
    )
    outcome = deliver(sink_of(section(receiver)), given)
    assert sorted(outcome.rejected) == [20, 21]
    assert "entry too far behind" in outcome.rejected[20]
    assert "invalid structured metadata" in outcome.rejected[21]
    assert len(receiver.lines()) == 40
    assert len(receiver.requests) < 25


def test_a_backlog_that_is_too_old_does_not_block_what_is_new(
    receiver: LokiReceiver, sink_of: MakeSink
) -> None:
    """Every line is refused: it is given up, after a bounded number of requests."""
    sinks = sink_of(section(receiver))
    deliver(sinks, batch([record("now", time=NOW)]))
    old = NOW - 7 * 86_400 * 10**9
    outcome = deliver(
        sinks, batch(record(f"old {number}", time=old + number) for number in range(500)), first=1
    )
    assert len(outcome.rejected) == 500
    assert len(receiver.requests) < 80
    deliver(sinks, batch([record("newer", time=NOW + 1)]), first=501)
    assert receiver.lines() == ["now", "newer"]


def test_grpcs_own_limit_divides(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    text = b"rpc error: code = ResourceExhausted desc = grpc: received message larger than max (9 vs. 4)"
    receiver.faults.extend([faults.says(500, text)])
    assert deliver(sink_of(section(receiver)), lines(4)).failures == []
    assert len(receiver.requests) == 3


def test_a_400_of_a_proxy_costs_no_line(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    page = b"<html><h1>400 The plain HTTP request was sent to HTTPS port</h1></html>"
    receiver.faults.append(faults.says(400, page, Content_Type="text/html"))
    sinks = sink_of(section(receiver))
    with pytest.raises(PermanentError, match=r"not from Loki, it seems: .*plain HTTP request"):
        sinks.ship("central", STREAM, 0, lines(2))
    deliver(sinks, lines(2))
    assert len(receiver.lines()) == 2


def test_vast_labels_are_cut(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    labels = {f"example.com/label-{number}": "ä" * 5000 for number in range(300)}
    given = batch(["a"], origins=[LogOrigin(namespace="n", pod="p", container="c", labels=labels)])
    deliver(sink_of(section(receiver, pod_labels={"one": "example.com/label-1"})), given)
    assert receiver.lines() == ["a"]


def test_an_answer_of_200_is_as_good(receiver: LokiReceiver, sink_of: MakeSink) -> None:
    """As others give it that have Loki's API."""

    def takes(one: HttpReceiver, wire: faults.Wire) -> bool:
        one.take(wire)
        one.answer(wire, Answer(200, b"ok"))
        return True

    receiver.faults.append(takes)
    assert deliver(sink_of(section(receiver)), lines(1)).failures == []


@settings(max_examples=40, deadline=None)
@given(batches())
def test_any_record_is_an_entry(given: LogBatch) -> None:
    with LokiReceiver() as receiver:
        receiver.max_line = 2**30
        sinks = made_sink(section(receiver))
        try:
            rejected = deliver(sinks, given).rejected
        finally:
            sinks.close()
        assert all("too far behind" in why for why in rejected.values())
        taken = receiver.lines()
        for place, one in enumerate(given.records):
            if place not in rejected and not one.fields:
                assert one.body in taken
            elif place not in rejected and not one.body.startswith("{"):
                whole = {"message": one.body, **json.loads(one.fields)}
                assert whole in [json.loads(text) for text in taken if text.startswith("{")]
