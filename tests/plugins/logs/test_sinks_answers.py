"""Whatever a server answers, a sink raises what the contract knows, and ships the next batch."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from tests.plugins.logs.httpkinds import KINDS
from tests.plugins.logs.sinkkit import STREAM, deliver, lines, made_sink
from tests.plugins.logs.strategies import VALUES
from tests.support.httpreceiver import Answer, Fault, HttpReceiver, Wire

_ITEM = st.fixed_dictionaries(
    {},
    optional={
        "status": st.integers(-1, 999) | VALUES,
        "error": VALUES | st.dictionaries(st.just("type"), VALUES),
    },
)
_BULK = st.fixed_dictionaries(
    {"errors": st.booleans() | VALUES},
    optional={"items": st.lists(st.dictionaries(st.sampled_from(["create", "index"]), _ITEM), max_size=4)},
)
_PARTIAL = st.fixed_dictionaries(
    {
        "partialSuccess": VALUES
        | st.dictionaries(st.sampled_from(["rejectedLogRecords", "errorMessage"]), VALUES)
    }
)
BODIES = st.binary(max_size=200) | st.one_of(_BULK, _PARTIAL, VALUES).map(
    lambda value: json.dumps(value).encode()
)
STATUSES = st.sampled_from([200, 201, 204, 206, 301, 304, 400, 401, 404, 409, 413, 418, 429, 500, 503, 599])
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "Location", "Content-Type", "Content-Encoding", "Connection"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    max_size=3,
)


def answers(answer: Answer) -> Fault:
    """Take the request, and say this."""

    def fault(receiver: HttpReceiver, wire: Wire) -> bool:
        receiver.take(wire)
        receiver.answer(wire, answer)
        wire.close_connection = True
        return True

    return fault


def says_bytes(data: bytes) -> Fault:
    """Take the request, and say what may be no HTTP at all."""

    def fault(receiver: HttpReceiver, wire: Wire) -> bool:
        receiver.take(wire)
        wire.wfile.write(data)
        wire.close_connection = True
        return True

    return fault


def try_fault(kind: str, fault: Fault) -> None:
    """A batch meets ``fault`` and another follows."""
    with (
        KINDS[kind]() as receiver,
        contextlib.closing(made_sink({"type": kind, "url": receiver.url})) as sinks,
    ):
        receiver.faults.append(fault)
        with contextlib.suppress(TemporaryError, PermanentError):
            delivery = sinks.ship("central", STREAM, 0, lines(3))
            assert set(delivery.retry) | delivery.rejected.keys() <= {0, 1, 2}
            assert all(delivery.rejected.values())
        receiver.faults.clear()
        assert deliver(sinks, lines(3), first=3).rejected == {}


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=60, deadline=None)
@given(status=STATUSES, headers=HEADERS, body=BODIES)
def test_any_answer(kind: str, status: int, headers: dict[str, str], body: bytes) -> None:
    try_fault(kind, answers(Answer(status, body, headers)))


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=30, deadline=None)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=100).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest)
    | st.binary(max_size=100).map(
        lambda rest: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest
    )
    | st.binary(max_size=9).map(lambda rest: b"HTTP/1.1 200 OK\r\nContent-Length: " + rest + b"\r\n\r\n{}")
)
def test_any_bytes(kind: str, data: bytes) -> None:
    try_fault(kind, says_bytes(data))
