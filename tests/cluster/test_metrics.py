"""Nodes' metrics at the hub: shown as they are newest, and passed on by remote_write, each once."""

import asyncio
import contextlib
import functools
import gzip
import http.client
import json
import random
import sqlite3
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.metrics import STALE, FamilyHead, SampleBatch, Series
from edgeagent.cluster.metricsconfig import load_metrics_config
from edgeagent.cluster.metricsnewest import NewestMetrics
from edgeagent.cluster.metricspage import render
from edgeagent.cluster.metricsqueue import MetricsQueue, Progress
from edgeagent.wire.metricblock import MetricBlock, Moment, encode_block
from edgeagent.wire.metricparts import split_series
from tests.support.broker import tls_material
from tests.support.httpreceiver import resets_before_answer, says
from tests.support.hubrun import HubDirectory, Peer
from tests.support.proc import free_port
from tests.support.prometheus import Prometheus
from tests.support.remotewritereceiver import RemoteWriteReceiver
from tests.support.waiting import wait_for_async

STEP = 60_000


def in_loop(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **options: object) -> None:
        asyncio.run(test(*args, **options))

    return run


def block(
    first: int, count: int, *, stream: str = "run", start: int = 1_800_000_000_000, **labels: str
) -> MetricBlock:
    times = [start + (first + n) * STEP for n in range(count)]
    series = [
        Series(0, {"n": str(n), **labels}, times, [float(at // 1000 + n) for at in times]) for n in range(4)
    ]
    return MetricBlock(
        stream=stream,
        first=first,
        count=count,
        moments=[Moment(first + n, at) for n, at in enumerate(times)],
        batch=SampleBatch(families=[FamilyHead("edge_m", "gauge", 'Help "\\ of\nit')], series=series),
    )


def configure(hub: HubDirectory, text: str) -> None:
    (hub.files.root / "metrics.toml").write_text(text)


def scrape(url: str, context: ssl.SSLContext | None = None) -> str:
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
        assert answer.headers["Content-Encoding"] == "gzip"
        return gzip.decompress(answer.read()).decode()


async def send(hub: HubDirectory, node: Peer, name: str, blocks: Iterable[MetricBlock]) -> None:
    for one in blocks:
        await node.session.publish(hub.topics.metrics(name), encode_block(one))


@in_loop
async def test_the_newest_of_all_nodes_with_their_own_times(tmp_path: Path) -> None:
    port = free_port()
    with HubDirectory(tmp_path) as hub:
        configure(hub, f"[listen]\nport = {port}\n")
        for name in ("a", "b"):
            hub.add_node(name)
        url = f"http://127.0.0.1:{port}/metrics"
        async with hub.hub(), hub.peer("a") as a, hub.peer("b") as b:
            await send(hub, a, "a", [block(0, 3), block(3, 1), block(1, 1)])
            await send(hub, b, "b", split_series(block(5, 1, node="liar", quote='x"\n\\'), 2))
            await wait_for_async(
                lambda: asyncio.to_thread(lambda: scrape(url).count('node="b"') == 4), what="both are there"
            )
            page = scrape(url)
            found = {
                (sample.labels["node"], sample.labels["n"]): (sample.value, sample.timestamp)
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if family.name == "edge_m"
            }
            assert found == {
                (node, str(n)): (float(at // 1000 + n), at / 1000)
                for node, at in (("a", 1_800_000_180_000), ("b", 1_800_000_300_000))
                for n in range(4)
            }
            assert 'exported_node="liar"' in page
            assert "edgehub_metrics_nodes 2.0" in page
            assert 'node="b"' not in scrape(f"{url}?node=a")
            with pytest.raises(urllib.error.HTTPError, match="404"):
                scrape(f"http://127.0.0.1:{port}/other")
            await b.session.publish(hub.topics.metrics("b"), b"junk")
            await wait_for_async(
                lambda: asyncio.to_thread(lambda: "refused_messages_total 1.0" in scrape(url)), what="counted"
            )


@in_loop
async def test_from_outside_with_a_certificate_that_has_an_allowed_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls, port = tls_material(tmp_path / "tls", ["prometheus-1", "user:ada", "node-7"]), free_port()
    listen = (
        f'[listen]\naddress = "0.0.0.0"\nport = {port}\ncertificate_file = "{tls.server.cert}"\n'
        f'key_file = "{tls.server.key}"\nclient_ca_file = "{tls.ca.cert}"\n'
    )
    url = f"https://127.0.0.1:{port}/metrics"
    with HubDirectory(tmp_path) as hub:
        for allowed, name in (("", "user:ada"), ('allowed_clients = ["prometheus-*"]\n', "prometheus-1")):
            configure(hub, listen + allowed)
            async with hub.hub():
                page = await asyncio.to_thread(scrape, url, tls.client_context(name))
                assert "edgehub_metrics_nodes 0.0" in page
                strangers = [other for other in tls.clients if other != name]
                for context in (tls.client_context(), *map(tls.client_context, strangers)):
                    with pytest.raises((OSError, http.client.HTTPException)) as caught:
                        await asyncio.to_thread(scrape, url, context)
                    assert not isinstance(caught.value, urllib.error.HTTPError), "it was answered"
    assert "has no name in allowed_clients was turned away" in caplog.text


@in_loop
async def test_all_is_passed_on_once_whatever_happens_on_the_way(tmp_path: Path) -> None:
    with HubDirectory(tmp_path) as hub, RemoteWriteReceiver() as receiver:
        configure(
            hub,
            f'[remote_write]\nurl = "{receiver.url}/api/v1/write"\nexternal_labels = {{ site = "plant" }}\n',
        )
        hub.add_node("a")
        receiver.faults.extend([says(503, Retry_After="0"), resets_before_answer, None, says(500)])
        async with hub.hub(), hub.peer("a") as a:
            await send(hub, a, "a", [block(0, 2), block(0, 2), block(1, 3), block(0, 4)])
            parts = split_series(block(4, 1), 2)
            await send(hub, a, "a", [parts[0], parts[0], parts[1], parts[0], *split_series(block(4, 1), 4)])
            await wait_for_async(
                lambda: sum(map(len, receiver.series.values())) == 20, timeout=30, what="all is there"
            )
        async with hub.hub(), hub.peer("a") as a:
            await send(hub, a, "a", [block(2, 3), block(0, 1, stream="next", start=1_800_000_600_000)])
            await wait_for_async(
                lambda: sum(map(len, receiver.series.values())) == 24, timeout=30, what="the next run's too"
            )
        for text, samples in receiver.series.items():
            labels = json.loads(text)
            assert labels == {
                "__name__": "edge_m", "n": labels["n"], "node": "a", "instance": "a", "job": "edgeagent",
                "site": "plant",
            }  # fmt: skip
            assert sorted(samples) == [1_800_000_000_000 + n * STEP for n in (0, 1, 2, 3, 4, 10)]
        # A request whose answer was lost comes again, as one does that was under way when the hub ended.
        assert receiver.repeats <= 40
        assert "refused" not in json.dumps(list(receiver.series))


@in_loop
async def test_what_the_hub_has_not_passed_on_outlives_it(tmp_path: Path) -> None:
    with HubDirectory(tmp_path) as hub, RemoteWriteReceiver() as receiver:
        configure(hub, f'[remote_write]\nurl = "{receiver.url}/"\n')
        hub.add_node("a")
        receiver.gate.clear()
        async with hub.hub(), hub.peer("a") as a:
            await send(hub, a, "a", [block(n, 1) for n in range(20)])
            await wait_for_async(lambda: receiver.connections, what="it tries")
            receiver.faults.append(says(500))
        async with hub.hub():
            receiver.gate.set()
            await wait_for_async(
                lambda: sum(map(len, receiver.series.values())) == 80, timeout=30, what="all is there"
            )


@in_loop
async def test_a_full_disk_costs_messages_and_not_the_hub(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Triggers say what a full disk says: to be kept, then to be deleted, then there is room again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    with HubDirectory(tmp_path) as hub, RemoteWriteReceiver() as receiver:
        configure(hub, f'[listen]\nport = {port}\n[remote_write]\nurl = "{receiver.url}/"\n')
        hub.add_node("a")

        def disk(statement: str) -> None:
            with contextlib.closing(sqlite3.connect(hub.files.metrics_queue)) as database:
                database.execute(statement)

        full = "ON message BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        async with hub.hub(), hub.peer("a") as a:
            disk(f"CREATE TRIGGER no_insert BEFORE INSERT {full}")
            await send(hub, a, "a", [block(n, 1) for n in range(3)])
            await wait_for_async(
                lambda: asyncio.to_thread(lambda: "dropped_messages_total 3.0" in scrape(url)), what="counted"
            )
            assert caplog.text.count("are lost: ") == 1, "the same trouble is told of once"
            disk("DROP TRIGGER no_insert")
            disk(f"CREATE TRIGGER no_delete BEFORE DELETE {full}")
            await send(hub, a, "a", [block(3, 1)])
            await wait_for_async(lambda: "metrics of nodes wait: " in caplog.text, what="it cannot forget")
            disk("DROP TRIGGER no_delete")
            await send(hub, a, "a", [block(4, 1)])
            await wait_for_async(
                lambda: sum(map(len, receiver.series.values())) == 8, timeout=30, what="the rest is there"
            )
        assert "database or disk is full" in caplog.text


@in_loop
async def test_a_hub_without_use_for_metrics_asks_for_none(tmp_path: Path) -> None:
    with HubDirectory(tmp_path) as hub:
        hub.add_node("a")
        async with hub.hub(), hub.peer("a") as a:
            await send(hub, a, "a", [block(0, 1)])
        assert not (hub.files.root / "metrics.db").exists()


@in_loop
async def test_what_nobody_reads_has_not_arrived(tmp_path: Path) -> None:
    """A broker that lost its memory takes messages before the hub is back, and gives them to nobody."""
    with HubDirectory(tmp_path) as hub, RemoteWriteReceiver() as receiver:
        configure(hub, f'[remote_write]\nurl = "{receiver.url}/"\n')
        hub.add_node("a")
        topic, data = hub.topics.metrics("a"), encode_block(block(0, 1))
        async with hub.hub():
            pass
        hub.lose_retained()
        async with hub.peer("a") as a:
            with pytest.raises(TemporaryError, match="nobody reads"):
                await a.session.publish(topic, data, heard=True)
            async with hub.hub():
                await a.session.publish(topic, data, heard=True)
            # The hub is away, and the broker keeps it for the hub's session.
            await a.session.publish(topic, encode_block(block(1, 1)), heard=True)
        async with hub.hub():
            await wait_for_async(
                lambda: sum(map(len, receiver.series.values())) == 8, timeout=30, what="all is there"
            )


def test_a_day_by_way_of_the_hub_into_prometheus(tmp_path: Path) -> None:
    """What nodes send of a day ago is in Prometheus at its own times; so is what it scrapes of the hub."""
    now = int(time.time()) // 60 * 60
    with HubDirectory(tmp_path) as hub:
        port = free_port()
        prometheus = Prometheus(tmp_path / "prometheus", out_of_order="2d", scrape=f"127.0.0.1:{port}")
        configure(hub, f'[listen]\nport = {port}\n[remote_write]\nurl = "{prometheus.write_url}"\n')
        hub.add_node("a")
        start = (now - 86_400) * 1000

        async def work() -> None:
            async with hub.hub(), hub.peer("a") as a:
                for first in range(0, 1441, 60):
                    await send(hub, a, "a", [block(first, min(60, 1441 - first), start=start)])
                await wait_for_async(
                    lambda: asyncio.to_thread(
                        lambda: len(prometheus.query_range('edge_m{job="edgeagent"}', now, now, 60)) == 4
                    ),
                    timeout=60, what="passed on",
                )  # fmt: skip
                await wait_for_async(
                    lambda: asyncio.to_thread(
                        lambda: len(prometheus.query_range('edge_m{job="edge"}', now, now + 5, 1)) == 4
                    ),
                    timeout=60, what="scraped",
                )  # fmt: skip

        with prometheus:
            prometheus.wait_ready()
            asyncio.run(work())
            found = prometheus.query_range('edge_m{n="1",job="edgeagent"}', now - 86_400, now, 60)
            (values,) = found.values()
            assert values == {float(at): float(at + 1) for at in range(now - 86_400, now + 1, 60)}
            (raw,) = prometheus.samples('edge_m{n="1",job="edge"}', now + 5, 100_000).values()
            assert raw == [(float(now), float(now + 1))]


def test_a_node_cannot_write_lines_of_its_own() -> None:
    evil = 'x{node="other"} 1\nedge_m'
    heads = [FamilyHead(evil, "gauge", "h"), FamilyHead("edge_m", "gauge", "h\nedge_m 1")]
    series = [
        Series(0, {}, [1000], [1.0]),
        Series(1, {evil: "1"}, [1000], [2.0]),
        Series(1, {"__name__": "up"}, [1000], [3.0]),
        Series(1, {}, [1000], [4.0], evil),
        Series(1, {"ok": evil}, [1000], [5.0]),
        Series(1, {"ended": "1"}, [1000], [STALE]),
    ]
    sent = MetricBlock(
        stream="s",
        first=0,
        count=1,
        moments=[Moment(0, 1000)],
        batch=SampleBatch(families=heads, series=series),
    )
    page = render([("a", [sent])]).decode()
    families = list(text_string_to_metric_families(page))
    assert [(s.name, s.labels, s.value) for f in families for s in f.samples] == [
        ("edge_m", {"ok": evil, "node": "a"}, 5.0)
    ]


def test_the_newest_are_bounded() -> None:
    newest = NewestMetrics(limit=len(encode_block(block(0, 1))) * 3)
    for n in range(10):
        newest.add(f"n{n}", encode_block(block(0, 1)))
        newest.add("n0", encode_block(block(n, 1)))
    assert [name for name, _ in newest.blocks()] == ["n0", "n8", "n9"]
    assert [one.first for one in dict(newest.blocks("n0"))["n0"]] == [9]
    newest.forget("n0")
    assert list(newest.blocks("n0")) == []
    with pytest.raises(InvalidObjectError):
        newest.add("n0", b"")


def test_what_one_node_may_have_on_the_page_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    series = [Series(0, {"n": str(n), "long": "x" * 2000}, [1000], [1.0]) for n in range(9_000)]
    batch = SampleBatch(families=[FamilyHead("edge_m", "gauge", "h")], series=series)
    large = MetricBlock(stream="s", first=0, count=1, moments=[Moment(0, 1000)], batch=batch)
    newest = NewestMetrics()
    for part in range(10):
        data = encode_block(msgspec.structs.replace(large, part=part, parts=10))
        assert len(data) < 50_000
        newest.add("greedy", data)
    newest.add("modest", encode_block(block(0, 1)))
    found = dict(newest.blocks())
    assert (len(found["greedy"]), len(found["modest"])) == (2, 1)
    assert "node greedy sends more than" in caplog.text


def test_the_queue_keeps_to_its_limit_and_forgets_the_oldest(tmp_path: Path) -> None:
    queue = MetricsQueue(tmp_path / "metrics.db", 1000)
    for n in range(30):
        queue.add("a", bytes([n]) * 100)
        assert queue.size <= 1000
    assert queue.dropped == 20
    assert [one.body[0] for one in queue.first(10_000)] == list(range(20, 30))
    assert [one.body[0] for one in queue.first(150)] == [20, 21]
    queue.done(queue.first(150), {("a", "run"): Progress(next=7)})
    queue.close()
    again = MetricsQueue(tmp_path / "metrics.db", 1000)
    assert again.size == 800
    assert again.progress("a", "run").next == 7
    for n in range(10):
        again.add("a", b"more")
        again.done(again.first(1), {("a", f"s{n}"): Progress(next=n)})
    assert again.progress("a", "run").next == 0
    assert again.progress("a", "s8").next == 8
    again.forget("a")
    assert again.progress("a", "s8").next == 0
    again.close()
    (tmp_path / "metrics.db").write_bytes(b"no database, but something else" * 100)
    with pytest.raises(PermanentError, match=r"metrics\.db cannot be used"):
        MetricsQueue(tmp_path / "metrics.db", 1000)


_sent = st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from([1, 1, 2, 3]))


@given(st.lists(_sent, max_size=12), st.randoms())
def test_in_whatever_pieces_it_comes_again_nothing_is_passed_on_twice_or_lost(
    sent: list[tuple[int, int, int]], chance: random.Random
) -> None:
    """A node sends in order, and begins again further back after a failure."""
    progress, seen, reached = Progress(), list[tuple[int, str]](), 0
    for first, count, parts in sent:
        start = min(first, reached)
        pieces = split_series(block(start, 1 if parts > 1 else count), parts)
        cut = chance.randrange(len(pieces) + 1)
        for piece in [*pieces[:cut], *pieces]:
            news = progress.news(piece)
            for one in news.batch.series if news is not None else []:
                seen += [((at - 1_800_000_000_000) // STEP, one.labels["n"]) for at in one.times]
        reached = max(reached, start + (1 if parts > 1 else count))
        assert sorted(set(seen)) == [(n, str(s)) for n in range(reached) for s in range(4)]
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[listen]\nport = 0\n", "listen.port"),
        ('[listen]\naddress = "0.0.0.0"\n', "listen.address: 0.0.0.0 can be reached from outside"),
        ('[listen]\ncertificate_file = "/x"\n', "belong together"),
        ("[listen]\nallowed_clients = []\n", "listen.allowed_clients"),
        ('[listen]\nallowed_clients = ["*.example.com"]\n', "listen.allowed_clients"),
        ('[remote_write]\nurl = "x"\n', "remote_write.url"),
        ('[remote_write]\nurl = "http://x/"\nqueue_size = "5"\n', "remote_write.queue_size"),
        ('[remote_write]\nurl = "http://x/"\nqueue_size = "many"\n', "remote_write.queue_size"),
        ('[remote_write]\nurl = "http://x/"\nusername = "x"\n', "username and password_file"),
        ('[remote_write]\nurl = "http://x/"\ncertificate_file = "/x"\n', "belong together"),
        (
            '[remote_write]\nurl = "http://x/"\ntoken_file = "/t"\n',
            "remote_write.token_file: would be sent in clear over http: use https, or set"
            " plain_credentials = true",
        ),
        (
            '[remote_write]\nurl = "http://x/"\nusername = "x"\npassword_file = "/p"\n',
            "remote_write.password_file: would be sent in clear",
        ),
        (
            '[remote_write]\nurl = "http://x/"\nheaders = { authorization = "Bearer x" }\n',
            "remote_write.headers: would be sent in clear",
        ),
        ("[remote_write]\n", "remote_write"),
        ("[nonsense]\n", "nonsense"),
        ("[", "metrics.toml"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "metrics.toml"
    path.write_text(text)
    with pytest.raises(PermanentError) as caught:
        load_metrics_config(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        'url = "https://x/"\ntoken_file = "/t"\n',
        'url = "http://x/"\ntoken_file = "/t"\nplain_credentials = true\n',
        'url = "http://x/"\nusername = "x"\npassword_file = "/p"\nplain_credentials = true\n',
        'url = "http://x/"\nheaders = { X-Scope-OrgID = "plant" }\n',
    ],
)
def test_credentials_go_over_https_or_where_it_is_said_that_they_may_be_read(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "metrics.toml"
    path.write_text(f"[remote_write]\n{text}")
    assert load_metrics_config(path).remote_write is not None
