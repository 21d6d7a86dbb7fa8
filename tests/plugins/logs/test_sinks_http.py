"""Sinks over HTTP, against servers that fail in every way a network and a server have."""

import time

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_logs.httpendpoint import HttpAnswer
from edgeagent_logs.httpverdict import retry_after
from tests.plugins.logs.httpkinds import KINDS, arrived
from tests.plugins.logs.sinkkit import MakeSink, batch, deliver, lines
from tests.support import httpreceiver as faults
from tests.support.httpreceiver import Fault, HttpReceiver
from tests.support.proc import free_port

PASSING: dict[str, Fault] = {
    "429": faults.says(429, b"slow down"),
    "429 with Retry-After": faults.says(429, b"", Retry_After="17"),
    "503": faults.says(503, b"down"),
    "502": faults.says(502, b"<html>bad gateway</html>", Content_Type="text/html"),
    "504": faults.says(504),
    "408": faults.says(408),
    "reset in the request": faults.resets_mid_request,
    "reset in the answer": faults.resets_mid_answer,
    "reset before the answer": faults.resets_before_answer,
    "cut answer": faults.cuts_the_answer,
    "cut chunk": faults.cuts_a_chunk,
    "no HTTP": faults.speaks_no_http,
    "slow reader": faults.reads_slowly,
    "hangs up later": faults.hangs_up_later,
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_costs_no_line_and_doubles_none(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, name: str
) -> None:
    sinks = sink_of({"type": kind, "url": receiver.url, "timeout": 5})
    deliver(sinks, lines(3))
    receiver.faults.extend([PASSING[name], None, PASSING[name]])
    for start in (3, 6, 9):
        deliver(sinks, batch(f"line {number}" for number in range(start, start + 3)), first=start)
    wanted = [f"line {number}" for number in range(12)]
    if kind == "otlp":  # which has no way to say that a record came twice, but for its log.record.uid
        assert sorted(set(arrived(receiver)), key=wanted.index) == wanted
    else:
        assert sorted(arrived(receiver), key=wanted.index) == wanted


@pytest.mark.parametrize("fault", [faults.hangs_up_later, faults.resets_mid_request])
def test_a_kept_connection_that_has_ended_is_no_failure(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, fault: Fault
) -> None:
    """A server may close an idle connection whenever it likes, also while a request is on its way."""
    sinks = sink_of({"type": kind, "url": receiver.url})
    receiver.faults.extend([None, fault])
    for number in range(3):
        assert deliver(sinks, batch([f"line {number}"]), first=number).failures == []
    assert arrived(receiver) == ["line 0", "line 1", "line 2"]
    assert receiver.connections == 2


@pytest.mark.parametrize("fault", [faults.cuts_the_answer, faults.cuts_a_chunk])
def test_an_answer_that_breaks_off_is_none(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, fault: Fault
) -> None:
    receiver.faults.append(fault)
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), lines(1))
    assert [error.reason for error in outcome.failures] == ["AnswerUnreadable"]
    assert "broke off" in str(outcome.failures[0]) or "IncompleteRead" in str(outcome.failures[0])


@pytest.mark.parametrize(
    ("header", "delay"), [("17", 17.0), ("", None), ("soon", None), ("999999999", 3600.0)]
)
def test_retry_after_is_heeded(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, header: str, delay: float | None
) -> None:
    receiver.faults.append(faults.says(429, b"", **({"Retry_After": header} if header else {})))
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), lines(1))
    assert [error.delay for error in outcome.failures] == [delay]
    assert outcome.failures[0].reason == "TooManyRequests"


def test_retry_after_may_be_a_date() -> None:
    answer = HttpAnswer(503, {"retry-after": "Tue, 24 Nov 2026 12:00:00 GMT"}, b"")
    moment = 1_795_521_600.0
    assert retry_after(answer, lambda: moment - 90) == 90
    assert retry_after(answer, lambda: moment + 90) == 0
    assert retry_after(HttpAnswer(503, {"retry-after": "Tue, 99 Nov"}, b"")) is None


def test_too_large_a_request_is_divided(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    receiver.faults.extend([faults.says(413), faults.says(413)])
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), lines(8))
    assert outcome.rejected == {}
    assert arrived(receiver) == [f"line {number}" for number in range(8)]


def test_what_is_too_large_is_remembered(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    taken = receiver.serve
    refused: list[int] = []

    def serve(request: faults.Request) -> faults.Answer:
        if len(request.body) > 20_000:
            refused.append(len(request.body))
            return faults.Answer(413, b"too large")
        return taken(request)

    receiver.serve = serve  # type: ignore[method-assign]
    sinks = sink_of({"type": kind, "url": receiver.url})
    for first in range(0, 60, 20):
        deliver(sinks, batch(f"{first + number} {'x' * 4000}" for number in range(20)), first=first)
        assert 0 < len(refused) < 5
    assert len(arrived(receiver)) == 60


def test_a_record_that_is_too_large_by_itself_is_given_up_alone(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver
) -> None:
    taken = receiver.serve

    def serve(request: faults.Request) -> faults.Answer:
        return faults.Answer(413, b"too large") if b"whale" in request.body else taken(request)

    receiver.serve = serve  # type: ignore[method-assign]
    given = batch([f"line {number}" for number in range(5)] + ["whale"] + ["line 6"])
    outcome = deliver(sink_of({"type": kind, "url": receiver.url}), given)
    assert list(outcome.rejected) == [5]
    assert "413" in outcome.rejected[5]
    assert sorted(arrived(receiver)) == [f"line {number}" for number in (0, 1, 2, 3, 4, 6)]


def test_requests_are_held_to_their_size(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    sinks = sink_of({"type": kind, "url": receiver.url, "max_request_bytes": 20_000})
    deliver(sinks, batch(f"{number} {'x' * 3000}" for number in range(40)))
    assert len(arrived(receiver)) == 40
    assert max(len(one.body) for one in receiver.requests) < 24_000
    assert receiver.connections == 1


def test_a_connection_is_kept_and_packed(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    sinks = sink_of({"type": kind, "url": receiver.url})
    for number in range(5):
        deliver(sinks, batch(["a line with much in common with others " * 20]), first=number)
    assert receiver.connections == 1
    assert all(one.headers["content-encoding"] == "gzip" for one in receiver.requests)
    assert all(one.packed < len(one.body) / 2 for one in receiver.requests)


def test_without_compression(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    deliver(sink_of({"type": kind, "url": receiver.url, "compression": "none"}), lines(1))
    assert "content-encoding" not in receiver.requests[0].headers
    assert arrived(receiver) == ["line 0"]


@pytest.mark.parametrize("fault", [faults.trickles, faults.never_reads], ids=["trickles", "never reads"])
def test_nobody_is_waited_for_longer_than_the_time_out(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, fault: Fault
) -> None:
    receiver.faults.append(fault)
    sinks = sink_of({"type": kind, "url": receiver.url, "timeout": 1, "compression": "none"})
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"no answer within 1 s"):
        sinks.ship("central", "s", 0, batch(["x" * 200_000] * 50))
    assert time.monotonic() - begun < 10
    deliver(sinks, lines(1), first=50)
    assert "line 0" in arrived(receiver)


def test_a_redirect_is_not_followed(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    with KINDS[kind]() as elsewhere:
        receiver.faults.append(faults.says(307, b"", Location=f"{elsewhere.url}/steal"))
        with pytest.raises(PermanentError, match=r"307: redirected to http://127.0.0.1:.*not followed"):
            sink_of({"type": kind, "url": receiver.url}).ship("central", "s", 0, lines(1))
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 405, 415])
def test_what_a_person_must_mend_loses_nothing(
    sink_of: MakeSink, kind: str, receiver: HttpReceiver, status: int
) -> None:
    receiver.faults.append(faults.says(status, b"no\x1b[2J\r\nway"))
    sinks = sink_of({"type": kind, "url": receiver.url})
    with pytest.raises(PermanentError, match=rf"{status}: no \[2J way"):
        sinks.ship("central", "s", 0, lines(2))
    deliver(sinks, lines(2))
    assert arrived(receiver) == ["line 0", "line 1"]


def test_an_answer_is_read_to_a_bound(sink_of: MakeSink, kind: str, receiver: HttpReceiver) -> None:
    receiver.faults.append(faults.is_huge)
    sinks = sink_of({"type": kind, "url": receiver.url})
    outcome = deliver(sinks, lines(2))
    assert set(arrived(receiver)) == {"line 0", "line 1"}
    assert outcome.rejected == {}


def test_an_unreachable_server_is_waited_for(sink_of: MakeSink, kind: str) -> None:
    port = free_port()
    sinks = sink_of({"type": kind, "url": f"http://127.0.0.1:{port}"})
    assert sinks.names() == ["central"]
    with pytest.raises(TemporaryError, match=rf"http://127.0.0.1:{port}/.*: Connection refused"):
        sinks.ship("central", "s", 0, lines(1))


def test_a_name_that_is_none(sink_of: MakeSink, kind: str) -> None:
    sinks = sink_of({"type": kind, "url": "http://logs.invalid", "timeout": 10})
    with pytest.raises(TemporaryError, match=r"logs.invalid cannot be resolved"):
        sinks.ship("central", "s", 0, lines(1))
