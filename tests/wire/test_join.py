"""Join files, broker addresses, TLS files, topics, answers to calls, and the back-off of a whole fleet."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.join import BrokerAddress, check_join, parse_broker
from edgeagent.wire.rpc import RpcError, decode_reply, encode_failure, encode_reply
from edgeagent.wire.session import RECONNECT_CEILING_SECONDS, RECONNECT_FIRST_SECONDS
from edgeagent.wire.tls import client_context
from edgeagent.wire.topics import Topics
from tests.support.broker import tls_material


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("broker", "broker", 8883),
        ("broker.example:1883", "broker.example", 1883),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]:8884", "::1", 8884),
        ("[::1]", "::1", 8883),
        ("::1", "::1", 8883),
        ("fe80::1%eth0", "fe80::1%eth0", 8883),
    ],
)
def test_broker_addresses(text: str, host: str, port: int) -> None:
    assert parse_broker(text) == BrokerAddress(host=host, port=port, tls=True)
    assert parse_broker(text, tls=False).tls is False


@pytest.mark.parametrize(
    "text",
    ["", ":", ":8883", "host:", "host:0", "host:65536", "host:x", "host:-1", "host:٣", "host:" + "9" * 5000,
     "mqtt://host:8883", "a b", "[::1", "::1]", "[]:1", "a" * 300],
)  # fmt: skip
def test_what_is_no_broker_address(text: str) -> None:
    with pytest.raises(InvalidObjectError, match="is no broker address") as error:
        parse_broker(text)
    assert len(str(error.value)) < 400


@given(text=st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_broker(text)
    except InvalidObjectError:
        return
    assert found.host
    assert 0 < found.port < 65536


def join(**changes: Any) -> dict[str, Any]:
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    return {
        "cluster": "c",
        "node": "n",
        "brokers": [{"host": "h", "port": 1}],
        "ca": "",
        "certificate": "",
        "privateKey": "",
        "trust": {"cluster": "c", "serial": 1, "key": key},
        "sealingKey": key,
    } | changes


def test_a_join_file() -> None:
    assert check_join(join()).brokers == [BrokerAddress(host="h", port=1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": "C"}, "cluster: 'C' must be"),
        ({"node": "a/b"}, "node: 'a/b' must be"),
        ({"node": ""}, "node: required"),
        ({"brokers": []}, "brokers: at least one"),
        ({"brokers": [{"host": "h"}, {"host": ""}]}, "brokers[1].host: must be"),
        ({"brokers": [{"host": "h", "port": 70000}]}, "brokers[0].port: must be"),
        ({"brokers": [{"host": "h", "port": "1"}]}, "brokers[0].port: expected int"),
        ({"sealingKey": "AAAA"}, "sealingKey: must have 32 bytes, not 3"),
        ({"sealingKey": "?"}, "sealingKey: invalid base64"),
        ({"trust": {"cluster": "c", "serial": 1, "key": ""}}, "trust.key: must have 32 bytes"),
        ({"trust": {"cluster": "d", "serial": 1, "key": ""}}, "trust.cluster: must be 'c'"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_a_join_file_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        check_join(join(**changes))
    assert str(error.value).startswith(message)


def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Each is named; and a key with a passphrase is refused, not asked about on the terminal."""
    tls = tls_material(tmp_path, ["a", "b"])
    ca, mine, other = tls.ca.cert, tls.clients["a"], tls.clients["b"]
    client_context(ca, mine.cert, mine.key)
    noise, absent, locked = tmp_path / "noise", tmp_path / "absent", tmp_path / "locked"
    noise.write_text("no certificate")
    key = serialization.load_pem_private_key(mine.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for files, named in (
        ((absent, mine.cert, mine.key), absent),
        ((noise, mine.cert, mine.key), noise),
        ((ca, absent, mine.key), absent),
        ((ca, noise, mine.key), noise),
        ((ca, mine.cert, absent), absent),
        ((ca, mine.cert, other.key), other.key),
        ((ca, mine.cert, locked), locked),
    ):
        with pytest.raises(PermanentError, match=str(named)):
            client_context(*files)


def test_topics_come_apart_as_they_were_put_together() -> None:
    topics = Topics("c")
    assert topics.levels(topics.pod("n", "x", "a.b")) == ["nodes", "n", "pods", "x", "a.b"]
    assert topics.levels(topics.object("ab")) == ["objects", "ab"]
    assert topics.levels(topics.replies("u", "s")) == ["replies", "u", "s"]
    assert topics.levels("edge/v1/cc/nodes/n/desired") == []
    assert topics.levels("edge/v1/c") == []


def test_answers() -> None:
    assert bytes(decode_reply(encode_reply({"a": 1}, sequence=2, last=False)).result) == b'{"a":1}'
    for error, reason in (
        (InvalidObjectError("spec", "bad"), "Invalid"),
        (RpcError("NotFound", "gone"), "NotFound"),
        (TemporaryError("later"), "InternalError"),
        (ValueError("inner secret"), "InternalError"),
    ):
        with pytest.raises(RpcError) as caught:
            decode_reply(encode_failure(error))
        assert caught.value.reason == reason
        assert "secret" not in str(caught.value)
    for payload in (b"", b"{}x", b'{"more":1}', b"[" * 5000):
        with pytest.raises(InvalidObjectError):
            decode_reply(payload)
    assert msgspec.json.decode(encode_reply(None))["last"] is True


@given(
    seed=st.integers(), first=st.floats(0.01, 10), ceiling=st.floats(0.01, 500), failures=st.integers(0, 2000)
)
def test_delays_keep_within_a_window_that_doubles_to_a_ceiling(
    seed: int, first: float, ceiling: float, failures: int
) -> None:
    backoff = Backoff(random.Random(seed), first=first, ceiling=ceiling)
    backoff.failures = failures
    assert 0 <= backoff.next() <= min(ceiling, first * 2.0 ** min(failures, 900))
    backoff.reset()
    assert 0 <= backoff.next() <= min(first, ceiling)


def test_delays_are_spread_over_the_whole_window() -> None:
    backoff = Backoff(random.Random(1), first=100, ceiling=100)
    delays = [backoff.next() for _ in range(10_000)]
    for decile in range(10):
        assert 850 < sum(decile * 10 <= delay < decile * 10 + 10 for delay in delays) < 1150


def attempts_per_second(outage: float, nodes: int = 10_000, seconds: int = 300) -> list[int]:
    """When a fleet tries to connect: all lose the broker at 0, and come back at their first success."""
    counts = [0] * seconds
    for node in range(nodes):
        backoff = Backoff(
            random.Random(node), first=RECONNECT_FIRST_SECONDS, ceiling=RECONNECT_CEILING_SECONDS
        )
        now = backoff.next()
        while now < seconds:
            counts[int(now)] += 1
            if now >= outage:
                break
            now += backoff.next()
    return counts


def test_a_broker_that_was_away_for_a_minute_is_not_stormed() -> None:
    """10,000 nodes, an outage of 60 s: under 500 connections a second, and all are back in 2.5 minutes."""
    counts = attempts_per_second(60)
    after = counts[60:]
    assert max(after) < 500
    assert sum(after) == 10_000
    assert sum(after[150:]) == 0


@pytest.mark.parametrize("outage", [0.5, 5, 20])
def test_a_broker_that_restarts_at_once_is_not_stormed(outage: float) -> None:
    """The first window is wide, for most restarts are short: about a twentieth of the fleet a second."""
    assert max(attempts_per_second(outage)) < 1_000
