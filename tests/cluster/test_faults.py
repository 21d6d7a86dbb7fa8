"""What goes wrong between hub and broker: refusals, quotas, losses at any moment."""

import asyncio
import random
import signal
import tempfile
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.api import Api
from edgeagent.cluster.audit import AuditLogs
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.publisher import Publisher
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store, StoredNode
from edgeagent.cluster.views import Views
from edgeagent.wire.blob import decode_blob
from edgeagent.wire.canonical import digest
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope
from edgeagent.wire.hubapi import ApplyParams, DeleteParams
from edgeagent.wire.index import MAX_INDEX_BYTES, Index, check_object, decode_index
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.session import Connection, MqttSession
from edgeagent.wire.topics import Topics
from edgeagent.wire.trust import verify
from tests.support.hubrun import HubDirectory, config_map, pod, takes_from
from tests.support.operators import admin_caller
from tests.support.waiting import wait_for_async


def test_what_the_broker_refuses_shows_on_the_node_and_stops_no_other(stopped_cluster: HubDirectory) -> None:
    cluster = stopped_cluster
    rules = cluster.files.mosquitto_acl
    right = rules.read_text()
    prefix = cluster.topics.prefix
    narrow = "".join(
        f"topic {access} {prefix}{topics}/#\n"
        for access, topics in (
            ("readwrite", "nodes"), ("readwrite", "replies"), ("read", "hub"), ("read", "objects"),
        )
    )  # fmt: skip
    assert f"topic readwrite {prefix}#\n" in right
    cluster.start_broker()
    cluster.add_node("gw-1")

    async def prepare() -> None:
        """What every node is told lies on the broker from before."""
        async with cluster.hub():
            pass

    asyncio.run(prepare())
    cluster.broker.terminate()
    rules.write_text(right.replace(f"topic readwrite {prefix}#\n", narrow))
    cluster.start_broker()

    async def run() -> None:
        async with (
            cluster.hub() as hub,
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
        ):
            before = await one.index()
            await admin.apply(pod("web", "gw-1"))

            async def condition() -> Any:
                conditions = (await admin.get("Node", "gw-1"))["status"]["conditions"]
                return [c for c in conditions if c["type"] == "DesiredStatePublished"]

            await wait_for_async(condition)
            (found,) = await condition()
            assert found["status"] == "False"
            assert "the broker refused" in found["message"]
            assert await one.index() == before
            cluster.add_node("gw-2")
            async with cluster.peer("gw-2") as two:
                await two.generation(1)
            rules.write_text(right)
            cluster.broker.send_signal(signal.SIGHUP)

            async def published() -> bool:
                hub.reload()
                return (await one.index()).generation > before.generation

            await wait_for_async(published)
            assert list(await one.objects()) == ["Pod/default/web"]
            await wait_for_async(lambda: hub.settled)
            assert await condition() == []

    asyncio.run(run())


def test_an_object_that_the_connection_dies_of_stops_no_other_node(stopped_cluster: HubDirectory) -> None:
    # Mosquitto answers this with a reason code that PUBACK does not have: the client has to hang up.
    stopped_cluster.configure(message_size_limit="3000")
    stopped_cluster.start_broker()
    for name in ("gw-1", "gw-2"):
        stopped_cluster.add_node(name)
    noise = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6000))

    async def run() -> None:
        async with stopped_cluster.hub() as hub, stopped_cluster.peer("gw-2") as two:
            await two.generation(1)
            manifests = [
                config_map("big", A=noise),
                pod("web", "gw-1", **takes_from(config_maps=["big"])),
                pod("other", "gw-2"),
            ]
            objects = [msgspec.Raw(msgspec.json.encode(m)) for m in manifests]
            hub._api.apply(ApplyParams(objects=objects), admin_caller(hub._store))
            assert [e.name for e in (await two.generation(2)).objects] == ["other"]
            await wait_for_async(lambda: "gw-1" in hub._publisher.failures)
            assert "gw-2" not in hub._publisher.failures

    asyncio.run(run())


def test_a_broker_that_dies_while_a_thousand_objects_are_published(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    names = [f"c-{number}" for number in range(1000)]

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("user:admin") as admin, cluster.peer("hub") as spy:
            await admin.apply(*(config_map(name) for name in names))
            await spy.session.subscribe([spy.topics.object("+")])
            await admin.apply(pod("web", "gw-1", **takes_from(config_maps=names)))
            await wait_for_async(lambda: len(spy.messages) > 100)
            cluster.lose_retained()
            await wait_for_async(lambda: not hub.ready.is_set())
            await wait_for_async(lambda: hub.settled, timeout=20)
        async with cluster.peer("gw-1") as node:
            assert len(await node.objects()) == 1001

    asyncio.run(run())


# The publisher against a broker that fails in every way, as no real one can be made to on demand.

Fault = Literal["busy", "refused", "lost"]
CLUSTER = "plant"


class _FaultyBroker:
    """Retained messages, and a plan of what happens to the next publications."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.plan: list[Fault | None] = []
        self.generations: list[int] = []
        self.connection: Connection | None = Connection(BrokerAddress(host="x"), 5, False, 4000)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, **_: object) -> None:
        fault = self.plan.pop(0) if self.plan else None
        await asyncio.sleep(0)
        if fault == "busy":
            raise TemporaryError("over quota", reason="BrokerBusy")
        if fault == "refused":
            raise PermanentError("no", reason="BrokerRefused")
        if payload:
            self.retained[topic] = payload
        else:
            self.retained.pop(topic, None)
        if fault == "lost":  # taken, but the acknowledgement never came
            raise TemporaryError("connection lost", reason="Disconnected")


class _FastClock(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


_STEP = st.one_of(
    st.tuples(st.just("map"), st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("pod"), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("reconnect"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("forget"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("settle"), st.just(0), st.just(0)),
)
_PLAN = st.lists(st.sampled_from(["busy", "refused", "lost", None, None, None]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_STEP, _PLAN), max_size=12))
def test_whatever_fails_the_node_can_always_fetch_the_whole_of_a_newer_index(steps: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_faulty_run(Path(folder), steps))


async def _faulty_run(folder: Path, steps: Any) -> None:
    clock, topics, broker = _FastClock(), Topics(CLUSTER), _FaultyBroker()
    store = Store(folder / "hub.db", create=True)
    store._db.execute("PRAGMA synchronous = OFF")
    signing = Signing.create(CLUSTER)
    with store.transaction():
        store.put_node(StoredNode("n", "u", "", SealingKey.generate().public, "1", 0))
    publisher = Publisher(
        store, cast(MqttSession, broker), lambda: signing, topics,
        clock=clock, rng=random.Random(1), grace=0.0, on_published=lambda _: None, on_failed=lambda _: None,
    )  # fmt: skip
    observer = Observer(
        store, clock, on_change=lambda *_: None, on_gone=lambda *_: None, on_node=lambda _: None
    )
    audit = AuditLogs(store, clock)
    caller = admin_caller(store)
    api = Api(
        store, Views(store, observer, publisher, audit), observer, lambda: signing, audit,
        network=ClusterNetwork(), clock=clock, wake=publisher.wake, on_change=lambda *_: None,
    )  # fmt: skip
    seen: list[Index] = []

    def apply(manifest: object) -> None:
        api.apply(ApplyParams(objects=[msgspec.Raw(msgspec.json.encode(manifest))]), caller)

    def check() -> None:
        """The index on the broker is authentic, never older than one before, and all of it can be fetched."""
        payload = broker.retained.get(topics.desired("n"))
        if payload is None:
            return
        body = decode_blob(payload, MAX_INDEX_BYTES)
        assert isinstance(body, bytes)
        envelope = decode_envelope(body, INDEX_TYPE)
        verify(envelope, signing.anchor)
        index = decode_index(envelope.payload, cluster=CLUSTER, node="n")
        if seen and index != seen[-1]:
            assert index.generation > seen[-1].generation
        seen.append(index)

    def complete() -> None:
        for entry in seen[-1].objects:
            data = decode_blob(broker.retained[topics.object(entry.digest)], entry.size)
            assert isinstance(data, bytes)
            check_object(entry, data)

    async def settle() -> None:
        for _ in range(2000):
            if publisher.idle and not publisher.failures:
                break
            if publisher.idle:
                publisher.wake_all()
            await asyncio.sleep(0)
        assert publisher.idle
        check()
        complete()

    def connect() -> None:
        publisher.begin()
        for topic, payload in broker.retained.items():
            if topic == topics.desired("n"):
                publisher.found_desired("n", payload)
        for topic, payload in broker.retained.items():
            if "/objects/" in topic:
                publisher.found_object(topic.rsplit("/", 1)[1], payload)
        publisher.known()

    connect()
    task = asyncio.create_task(publisher.run())
    try:
        for (what, number, value), plan in steps:
            broker.plan = list(plan)
            match what:
                case "map":
                    apply(config_map(f"c-{number}", VALUE=str(value)))
                case "pod":
                    names = [f"c-{one}" for one in range(value + 1)]
                    apply(pod(f"p-{number}", "n", **takes_from(config_maps=names)))
                case "delete":
                    if store.find("ConfigMap", "default", f"c-{number}"):
                        api.delete(
                            DeleteParams(kind="ConfigMap", namespace="default", name=f"c-{number}"), caller
                        )
                case "forget":
                    for topic in list(broker.retained)[number:]:
                        del broker.retained[topic]
                case "settle":
                    await settle()
            if what in ("reconnect", "forget"):
                task.cancel()
                await asyncio.wait([task])
                connect()
                task = asyncio.create_task(publisher.run())
            for _ in range(number):
                await asyncio.sleep(0)
            check()
        broker.plan = []
        await settle()
        # And with time, nothing lies on the broker that no index uses.
        for _ in range(50):
            await asyncio.sleep(0)
        held = {topic.rsplit("/", 1)[1] for topic in broker.retained if "/objects/" in topic}
        assert {entry.digest for entry in seen[-1].objects} <= held
        assert all(
            digest(cast(bytes, decode_blob(broker.retained[topics.object(d)], 10**6))) == d for d in held
        )
    finally:
        task.cancel()
        await asyncio.wait([task])
        store.close()
