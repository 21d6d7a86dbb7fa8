"""The sink for Elasticsearch and OpenSearch."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from tests.plugins.logs.sinkkit import (
    NOW,
    POD,
    STREAM,
    UNIT,
    MakeSink,
    batch,
    deliver,
    lines,
    made_sink,
    record,
)
from tests.plugins.logs.strategies import batches
from tests.support import httpreceiver as faults
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import HttpReceiver, Wire

STREAM_NAME = "logs-edgeagent-default"


@pytest.fixture
def receiver() -> Iterator[ElasticsearchReceiver]:
    """A receiver with the default data stream."""
    with ElasticsearchReceiver() as running:
        yield running


def section(receiver: HttpReceiver, **more: object) -> dict[str, object]:
    """The sink's section."""
    return {"type": "elasticsearch", "url": receiver.url, **more}


def test_what_a_document_is(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    sinks = sink_of(section(receiver))
    given = batch(
        [
            record("GET / 200", stream="stderr", severity="warn", fields=b'{"status":200,"user":{"id":7}}'),
            record("Accepted publickey", origin=1, stream="journal", time=NOW + 5),
        ]
    )
    assert sinks.ship("central", STREAM, 41, given).rejected == {}
    assert receiver.documents == {
        STREAM_NAME: {
            f"{STREAM}-41": {
                "@timestamp": "2025-11-24T16:00:00.123456789Z",
                "message": "GET / 200",
                "log": {"iostream": "stderr", "level": "warn"},
                "attributes": {"status": 200, "user": {"id": 7}},
                "service": {"name": "web-frontend"},
                "host": {"name": "gateway-7"},
                "k8s": {
                    "cluster": {"name": "plant"},
                    "node": {"name": "gateway-7"},
                    "namespace": {"name": "shop"},
                    "pod": {
                        "name": "web-5d9f",
                        "uid": POD.pod_uid,
                        "label": {"app": "web", "app_kubernetes_io/name": "web-frontend", "tier": "front"},
                    },
                    "container": {"name": "nginx"},
                },
                "container": {"id": POD.container_id, "image": {"name": POD.image}},
            },
            f"{STREAM}-42": {
                "@timestamp": "2025-11-24T16:00:00.123456794Z",
                "message": "Accepted publickey",
                "log": {"iostream": "journal"},
                "service": {"name": "ssh.service"},
                "host": {"name": "gateway-7"},
                "k8s": {"cluster": {"name": "plant"}, "node": {"name": "gateway-7"}},
                "systemd": {"unit": "ssh.service"},
            },
        }
    }


def test_chosen_labels_alone(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    deliver(sink_of(section(receiver, pod_labels=["tier", "absent"])), lines(1))
    (document,) = receiver.documents[STREAM_NAME].values()
    assert document["k8s"]["pod"]["label"] == {"tier": "front"}


def test_an_index_for_each_day_of_the_records(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    day = 86_400 * 10**9
    given = batch([record("a", time=NOW), record("b", time=NOW + day), record("c", time=0)])
    deliver(sink_of(section(receiver, index="edge-%Y.%m.%d-%H", data_stream=False)), given)
    assert list(receiver.documents) == ["edge-2025.11.24-16", "edge-2025.11.25-16", "edge-1970.01.01-00"]


def test_a_base_path_and_a_pipeline(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    given = {"type": "elasticsearch", "url": f"{receiver.url}/_bulk", "pipeline": "edge-logs"}
    deliver(sink_of(given), lines(1))
    assert receiver.pipelines == ["edge-logs"]


@pytest.mark.parametrize("op", ["create", "index"])
@pytest.mark.parametrize("data_stream", [True, False])
def test_what_comes_again_is_there_once(
    receiver: ElasticsearchReceiver, sink_of: MakeSink, op: str, data_stream: bool
) -> None:
    if data_stream and op == "index":
        op = "create"
    receiver.data_streams = frozenset({STREAM_NAME} if data_stream else ())
    sinks = sink_of(section(receiver, op=op, data_stream=data_stream))
    for _ in range(3):
        assert deliver(sinks, lines(10)).rejected == {}
    assert receiver.writes == 30
    assert receiver.messages() == [f"line {number}" for number in range(10)]


def too_many(receiver: HttpReceiver, wire: Wire) -> bool:
    """A request of more than ten records is too large."""
    answer = receiver.take(wire)
    count = receiver.requests[-1].body.count(b"\n") // 2
    receiver.answer(wire, faults.Answer(413) if count > 10 else answer)
    return True


def test_no_line_is_lost_and_none_there_twice_whatever_happens(
    receiver: ElasticsearchReceiver, sink_of: MakeSink
) -> None:
    """A thousand lines, while most requests fail in one way or another, before or after they were taken."""
    chance = random.Random(7)
    passing: list[faults.Fault | None] = [
        faults.says(429), faults.says(503, b"", Retry_After="1"), too_many, faults.resets_mid_request,
        faults.resets_mid_answer, faults.resets_before_answer, faults.cuts_the_answer, faults.cuts_a_chunk,
        faults.speaks_no_http, faults.hangs_up_later, None, None,
    ]  # fmt: skip

    def item_fault(uid: str, document: dict[str, Any]) -> tuple[int, str] | None:
        del uid, document
        return (429, "es_rejected_execution_exception") if chance.random() < 0.05 else None

    receiver.item_fault = item_fault
    sinks = sink_of(section(receiver, max_request_bytes=16_384, timeout=5))
    for first in range(0, 1000, 50):
        receiver.faults.extend(chance.choices(passing, k=4))
        given = batch(f"line {number}" for number in range(first, first + 50))
        assert deliver(sinks, given, first=first, tries=300).rejected == {}
    assert sorted(receiver.messages(), key=lambda text: int(text[5:])) == [f"line {n}" for n in range(1000)]
    assert receiver.writes > 1000


def test_each_record_has_its_own_fate(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    fate = {
        f"{STREAM}-1": (429, "es_rejected_execution_exception"),
        f"{STREAM}-2": (400, "document_parsing_exception"),
        f"{STREAM}-3": (503, "unavailable_shards_exception"),
        f"{STREAM}-4": (403, "cluster_block_exception"),
    }
    receiver.item_fault = lambda uid, _: fate.get(uid)
    sinks = sink_of(section(receiver))
    delivery = sinks.ship("central", STREAM, 0, lines(6))
    assert delivery.retry == [1, 3, 4]
    assert delivery.rejected == {2: f"400: document_parsing_exception: for [{STREAM}-2]"}
    receiver.item_fault = None
    assert deliver(sinks, lines(6)).rejected == {}
    assert sorted(receiver.messages()) == [f"line {number}" for number in range(6)]


def test_nothing_taken_of_all(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    sinks = sink_of(section(receiver))
    receiver.item_fault = lambda *_: (429, "es_rejected_execution_exception")
    with pytest.raises(TemporaryError, match="429: es_rejected_execution_exception"):
        sinks.ship("central", STREAM, 0, lines(3))
    receiver.item_fault = lambda *_: (404, "index_not_found_exception")
    with pytest.raises(PermanentError, match="404: index_not_found_exception"):
        sinks.ship("central", STREAM, 0, lines(3))


def test_fields_that_the_index_does_not_take_cost_no_line(
    receiver: ElasticsearchReceiver, sink_of: MakeSink
) -> None:
    """``status`` is a number in one container's lines and an object in another's."""
    sinks = sink_of(section(receiver))
    given = batch(
        [
            record("a", fields=b'{"status":200}'),
            record("b", fields=b'{"status":{"code":200}}'),
            record("c", fields=b'{"status":404}'),
        ]
    )
    for _ in range(2):
        assert deliver(sinks, given).rejected == {}
    documents = receiver.documents[STREAM_NAME]
    assert [one["message"] for one in documents.values()] == ["a", "c", "b"]
    refused = documents[f"{STREAM}-1"]
    assert refused["event"] == {"original": '{"status":{"code":200}}'}
    assert refused["tags"] == ["fields_refused"]
    assert "attributes" not in refused


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"{}", b'{"errors":1}', b"not JSON", b'{"errors":true,"items":[]}', b"\xff", b"",
        b'{"errors":true,"items":[{"create":{"status":201},"index":{"status":201}},{}]}',
        b'{"errors":true,"items":[{"create":{"status":"x"}},{"create":{"status":201}}]}',
        b"[" * 100_000, b'{"errors":true,"x":' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:60]),
)  # fmt: skip
def test_an_answer_that_makes_no_sense(
    receiver: ElasticsearchReceiver, sink_of: MakeSink, body: bytes
) -> None:
    def nonsense(one: HttpReceiver, wire: Wire) -> bool:
        one.take(wire)
        one.answer(wire, faults.Answer(200, body))
        return True

    receiver.faults.append(nonsense)
    outcome = deliver(sink_of(section(receiver)), lines(2))
    assert len(outcome.failures) == 1
    assert receiver.messages() == ["line 0", "line 1"]


def test_a_bulk_that_is_refused_whole_is_kept(receiver: ElasticsearchReceiver, sink_of: MakeSink) -> None:
    receiver.faults.append(faults.says(400, json.dumps({"error": {"type": "illegal_argument"}}).encode()))
    sinks = sink_of(section(receiver))
    with pytest.raises(PermanentError, match=r"400: .*illegal_argument"):
        sinks.ship("central", STREAM, 0, lines(2))
    deliver(sinks, lines(2))


@settings(max_examples=40, deadline=None)
@given(batches())
def test_any_record_is_a_document(given: LogBatch) -> None:
    with ElasticsearchReceiver() as receiver:
        sinks = made_sink(section(receiver))
        try:
            assert deliver(sinks, given).rejected == {}
        finally:
            sinks.close()
        documents = receiver.documents.get(STREAM_NAME, {})
        for place, one in enumerate(given.records):
            document = documents[f"{STREAM}-{place}"]
            assert document["message"] == one.body
            if one.fields and "tags" not in document:
                assert document["attributes"] == json.loads(one.fields)


def test_labels_that_are_objects_and_texts_at_once(
    receiver: ElasticsearchReceiver, sink_of: MakeSink
) -> None:
    """As in every cluster: ``app`` beside ``app.kubernetes.io/name``."""
    origins = [
        LogOrigin(pod="a", labels={"app": "x"}),
        LogOrigin(pod="b", labels={"app.kubernetes.io/name": "y"}),
    ]
    given = batch([LogRecord(NOW, 0, "stdout", "a"), LogRecord(NOW, 1, "stdout", "b")], origins=origins)
    assert deliver(sink_of(section(receiver)), given).rejected == {}
    assert UNIT.labels == {}
