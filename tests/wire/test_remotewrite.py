"""remote_write: every byte by Google's protobuf, every kind of refusal, and Debian's own Prometheus."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.metrics import STALE, FamilyHead, SampleBatch, Series
from edgeagent.wire.remotewrite import TimeSeries, time_series
from edgeagent.wire.remotewriteclient import (
    RemoteWriteClient,
    RemoteWriteTarget,
    basic_authorization,
    bearer_authorization,
    check_url,
)
from tests.support.broker import tls_material
from tests.support.httpreceiver import (
    Fault,
    HttpReceiver,
    Wire,
    cuts_the_answer,
    hangs_up_later,
    is_huge,
    never_reads,
    resets_before_answer,
    resets_mid_answer,
    resets_mid_request,
    says,
    speaks_no_http,
    trickles,
)
from tests.support.prometheus import Prometheus
from tests.support.remotewritereceiver import RemoteWriteReceiver


def client_of(receiver: RemoteWriteReceiver, *, timeout: float = 5.0, **options: Any) -> RemoteWriteClient:
    target = RemoteWriteTarget(f"{receiver.url}/api/v1/write", timeout=timeout, **options)
    return RemoteWriteClient(target, agent="edgeagent/test")


def one(name: str, times: list[int], **labels: str) -> TimeSeries:
    return TimeSeries({"__name__": name, **labels}, times, [float(at) for at in times])


@pytest.fixture
def receiver() -> Iterator[RemoteWriteReceiver]:
    with RemoteWriteReceiver() as receiver:
        yield receiver


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_labels = st.dictionaries(_text.filter(lambda name: name != "__name__"), _text.filter(bool), max_size=4)
_times = st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=4, unique=True).map(sorted)


@given(
    st.lists(
        st.tuples(_labels, _times, st.lists(st.floats(allow_nan=False), min_size=4, max_size=4)),
        min_size=1,
        max_size=5,
        unique_by=lambda drawn: str(sorted(drawn[0].items())),
    )
)
def test_google_reads_what_is_written(drawn: list[tuple[dict[str, str], list[int], list[float]]]) -> None:
    with RemoteWriteReceiver() as receiver:
        client = client_of(receiver)
        series = [
            TimeSeries({"__name__": "m", **labels}, times, values[: len(times)])
            for labels, times, values in drawn
        ]
        assert client.send(series) == {}
        client.close()
        assert sorted(map(sorted, (found.items() for found in receiver.series.values()))) == sorted(
            sorted(zip(sent.times, sent.values, strict=True)) for sent in series
        )


def test_a_batch_has_names_and_the_labels_from_outside() -> None:
    batch = SampleBatch(
        families=[FamilyHead("up", "gauge", "h"), FamilyHead("d_seconds", "histogram", "h")],
        series=[
            Series(0, {"job": "own"}, [1], [1.0]),
            Series(1, {"le": "+Inf"}, [1], [STALE], "_bucket"),
        ],
    )
    first, second = time_series(batch, {"job": "edge", "instance": "n1"})
    assert first.labels == {"__name__": "up", "job": "own", "instance": "n1"}
    assert second.labels == {"__name__": "d_seconds_bucket", "job": "edge", "instance": "n1", "le": "+Inf"}


def test_what_is_large_goes_in_several_requests_over_one_connection(receiver: RemoteWriteReceiver) -> None:
    client = client_of(receiver)
    assert client.send([one("m", [1, 2, 3], n=str(n)) for n in range(4000)]) == {}
    assert client.send([one("m", [4], n="0")]) == {}
    client.close()
    assert len(receiver.series) == 4000
    assert len(receiver.requests) == 4
    assert receiver.connections == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_receiver_says_how_long_it_wants_to_be_left_alone(
    receiver: RemoteWriteReceiver, status: int
) -> None:
    client = client_of(receiver)
    date = {"Date": "Tue, 24 Nov 2026 12:00:00 GMT"}
    cases: list[tuple[dict[str, str], float | None]] = [
        ({}, None),
        ({"Retry_After": "17"}, 17.0),
        ({"Retry_After": "Tue, 24 Nov 2026 12:01:30 GMT", **date}, None),
        ({"Retry_After": "999999999999999"}, 3600.0),
        ({"Retry_After": "soon"}, None),
    ]
    for headers, delay in cases:
        receiver.faults.append(says(status, b"too much\n", **headers))
        with pytest.raises(TemporaryError, match=f"{status}: too much") as caught:
            client.send([one("m", [1])])
        if "GMT" in headers.get("Retry_After", ""):
            assert caught.value.delay is not None  # the receiver's own Date comes first in the answer
        else:
            assert caught.value.delay == delay
    assert client.send([one("m", [1])]) == {}
    client.close()


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405])
def test_what_a_person_must_mend(receiver: RemoteWriteReceiver, status: int) -> None:
    client = client_of(receiver)
    receiver.faults.append(says(status))
    with pytest.raises(PermanentError, match=str(status)):
        client.send([one("m", [1])])
    client.close()


@pytest.mark.parametrize(
    "fault",
    [resets_mid_request, resets_mid_answer, resets_before_answer, speaks_no_http],
)
def test_a_connection_that_breaks_is_made_anew(receiver: RemoteWriteReceiver, fault: Fault) -> None:
    client = client_of(receiver)
    receiver.faults.append(fault)
    with pytest.raises(TemporaryError, match="cannot be reached"):
        client.send([one("m", [1])])
    assert client.send([one("m", [1])]) == {}
    client.close()
    assert len(receiver.series) == 1


def test_a_yes_is_a_yes_without_the_rest_of_the_answer(receiver: RemoteWriteReceiver) -> None:
    client = client_of(receiver)
    receiver.faults.append(cuts_the_answer)
    assert client.send([one("m", [1])]) == {}
    assert client.send([one("m", [2])]) == {}
    client.close()


def test_a_kept_connection_that_ended_is_no_failure(receiver: RemoteWriteReceiver) -> None:
    client = client_of(receiver)
    receiver.faults.append(hangs_up_later)
    assert client.send([one("m", [1])]) == {}
    assert client.send([one("m", [2])]) == {}
    client.close()
    assert receiver.connections == 2


@pytest.mark.parametrize("fault", [trickles, never_reads])
def test_a_receiver_that_takes_for_ever_is_given_up(receiver: RemoteWriteReceiver, fault: Fault) -> None:
    client = client_of(receiver, timeout=0.5)
    receiver.faults.append(fault)
    began = time.monotonic()
    with contextlib.suppress(TemporaryError):  # the receiver may have said that it has it
        client.send([one("m", [1])])
    assert time.monotonic() - began < 5
    assert client.send([one("m", [2])]) == {}
    client.close()


def test_no_more_of_an_answer_is_read_than_is_shown(receiver: RemoteWriteReceiver) -> None:
    client = client_of(receiver)
    receiver.faults.append(is_huge)
    assert client.send([one("m", [1])]) == {}
    assert client.send([one("m", [2])]) == {}
    client.close()


def test_of_a_refused_request_all_arrives_that_is_not_refused_itself() -> None:
    with RemoteWriteReceiver(strict=True) as receiver:
        client = client_of(receiver)
        assert client.send([one("m", [1, 2, 3], n=str(n)) for n in range(50)]) == {}
        receiver.never.add("bad")
        series = [
            *(one("m", list(range(1, 11)), n=str(n)) for n in range(50)),
            one("bad", [20]),
            one("new", [5]),
        ]
        rejected = client.send(series)
        client.close()
        assert receiver.repeats == 0
        for n in range(50):
            key = f'{{"__name__": "m", "n": "{n}"}}'
            assert sorted(receiver.series[key]) == list(range(1, 11))
        assert '{"__name__": "new"}' in receiver.series
        assert 50 in rejected
        assert "out of bounds" in rejected[50]
        assert 51 not in rejected


def test_a_receiver_that_takes_nothing_is_not_asked_for_each_sample() -> None:
    with RemoteWriteReceiver(strict=True) as receiver:
        receiver.never.add("bad")
        client = client_of(receiver)
        series = [one("bad", list(range(100)), n=str(n)) for n in range(50)]
        assert client.send(series).keys() == set(range(50))
        asked = len(receiver.requests)
        assert asked <= 200
        assert client.send(series).keys() == set(range(50))
        assert len(receiver.requests) - asked <= 20
        client.close()


def test_tls_and_credentials_from_files(tmp_path: Path) -> None:
    tls = tls_material(tmp_path / "tls", ["node"])
    token, password = tmp_path / "token", tmp_path / "password"
    token.write_text("s3cret\n")
    password.write_text("hunter2")
    with RemoteWriteReceiver(tls=tls, client_certificates=True) as receiver:
        receiver.credential = "Bearer s3cret"
        files: dict[str, Any] = {
            "ca_file": str(tls.ca.cert),
            "certificate_file": str(tls.clients["node"].cert),
            "key_file": str(tls.clients["node"].key),
        }
        client = client_of(receiver, authorization=lambda: bearer_authorization(str(token)), **files)
        assert client.send([one("m", [1])]) == {}
        token.write_text("other")
        with pytest.raises(PermanentError, match="401"):
            client.send([one("m", [2])])
        receiver.credential = "Basic dXNlcjpodW50ZXIy"
        other = client_of(receiver, authorization=lambda: basic_authorization("user", str(password)), **files)
        assert other.send([one("m", [2])]) == {}
        token.unlink()
        with pytest.raises(PermanentError, match="credentials"):
            client.send([one("m", [3])])
        with pytest.raises(TemporaryError, match="cannot be reached"):
            client_of(receiver).send([one("m", [3])])
        with pytest.raises(PermanentError, match=r"TLS files .*missing"):
            client_of(receiver, ca_file=str(tmp_path / "missing")).send([one("m", [3])])
        client.close()
        other.close()


def repeats(line: bytes) -> Fault:
    """It sends ``line`` in place of an answer."""

    def fault(receiver: HttpReceiver, wire: Wire) -> bool:
        receiver.take(wire)
        wire.wfile.write(line + b"\r\n\r\n")
        wire.close_connection = True
        return True

    return fault


@pytest.mark.parametrize(
    "said",
    ["hunter2", "two  words", "p\u00e4ss", "dXNlcjpodW50ZXIy"],
)
def test_a_receiver_that_repeats_credentials_has_them_in_no_message(
    receiver: RemoteWriteReceiver, tmp_path: Path, said: str
) -> None:
    """Neither the password nor what is sent of it, wherever an answer is shown."""
    password = tmp_path / "password"
    password.write_text("hunter2" if said == "dXNlcjpodW50ZXIy" else said)
    basic = client_of(receiver, authorization=lambda: basic_authorization("user", str(password)))
    echo = f"no access with {said}{'!' * 300}".encode()
    for status in (401, 503):
        receiver.faults.append(says(status, echo))
        with pytest.raises((PermanentError, TemporaryError)) as caught:
            basic.send([one("m", [1])])
        assert "no access with ***!" in str(caught.value)
        assert said.split()[0] not in str(caught.value)
    receiver.faults.extend([says(422, echo)] * 10)
    assert basic.send([one("m", [1])])[0].startswith("HTTP 422: no access with ***!")
    receiver.faults.clear()
    basic.close()


def test_credentials_are_in_no_message_about_what_is_no_answer(
    receiver: RemoteWriteReceiver, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    client = client_of(receiver, authorization=lambda: bearer_authorization(str(token)))
    receiver.faults.append(repeats(b"who is s3cret" + b"?" * 1000))
    with pytest.raises(TemporaryError, match=r"cannot be reached: who is \*\*\*\?") as caught:
        client.send([one("m", [1])])
    assert len(str(caught.value)) < 400
    client.close()
    given = client_of(receiver, headers={"authorization": "Token s3cret"})
    receiver.faults.append(says(403, b"not s3cret"))
    with pytest.raises(PermanentError, match=r"403: not \*\*\*"):
        given.send([one("m", [1])])
    given.close()


@pytest.mark.parametrize(
    "url", ["", "prometheus:9090", "ftp://x/", "http://", "http://u:p@x/", "http://x:99999/"]
)
def test_no_url(url: str) -> None:
    with pytest.raises(InvalidObjectError):
        check_url(url)


def test_a_day_into_prometheus_again_and_again(tmp_path: Path) -> None:
    """What comes twice, in other pieces and out of order, is there once; a series ends where it ended."""
    now = int(time.time()) // 300 * 300
    times = [at * 1000 for at in range(now - 86_400, now + 1, 300)]
    with Prometheus(tmp_path / "prometheus", out_of_order="2d") as prometheus:
        prometheus.wait_ready()
        target = RemoteWriteTarget(prometheus.write_url)
        client = RemoteWriteClient(target, agent="edgeagent/test")
        assert client.send([one("live", [now * 1000])]) == {}
        half = len(times) // 2
        pieces = [times[:half], times, times[half - 10 : half + 10]]
        for piece in pieces:
            values = [at / 1000 for at in piece]
            assert client.send([TimeSeries({"__name__": "old", "n": "1"}, piece, values)]) == {}
        ended = [*times[:5], times[5]]
        assert client.send([TimeSeries({"__name__": "ended"}, ended, [1.0] * 5 + [STALE])]) == {}
        client.close()
        found = prometheus.query_range("old", now - 86_400, now, 300)
        (values_by_time,) = found.values()
        assert values_by_time == {at / 1000: at / 1000 for at in times}
        (raw,) = prometheus.samples("old", now, 86_401).values()
        assert [at for at, _ in raw] == [at / 1000 for at in times]
        (short,) = prometheus.query_range("ended", now - 86_400, now, 300).values()
        assert list(short) == [at / 1000 for at in times[:5]]


def test_prometheus_that_wants_order_loses_nothing_that_it_can_take(tmp_path: Path) -> None:
    now = int(time.time())
    times = [(now - 600 + n * 10) * 1000 for n in range(60)]
    with Prometheus(tmp_path / "prometheus") as prometheus:
        prometheus.wait_ready()
        client = RemoteWriteClient(RemoteWriteTarget(prometheus.write_url), agent="edgeagent/test")
        series = [one("m", times[:20], n=str(n)) for n in range(30)]
        assert client.send(series) == {}
        again = [one("m", times, n=str(n)) for n in range(30)]
        assert set(client.send(again)) == set(range(30))  # of each, what was there before
        client.close()
        raw = prometheus.samples("m", now, 1000)
        assert len(raw) == 30
        for samples in raw.values():
            assert [round(at * 1000) for at, _ in samples] == times
