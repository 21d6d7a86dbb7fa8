"""The wire's properties, where the hub is the one to keep them: on the broker that ``init`` configured."""

import asyncio
import random

import msgspec
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import ConfigMap, SealedSecret
from edgeagent.api.objects.pod import Pod
from edgeagent.cluster.nodes import rotate_keys
from edgeagent.cluster.store import Store
from edgeagent.wire.canonical import digest
from edgeagent.wire.hubapi import ApplyParams
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.sealing import unseal_secret
from tests.support.hubrun import CLUSTER, Counter, HubDirectory, config_map, pod, secret, takes_from
from tests.support.operators import admin_caller
from tests.support.waiting import wait_for_async


def test_an_applied_pod_reaches_its_node_with_all_that_it_refers_to(cluster: HubDirectory) -> None:
    join = cluster.add_node("gw-1")
    cluster.add_node("gw-2")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as node, cluster.peer("user:admin") as admin:
            first = (await node.index()).generation
            actions = await admin.apply(
                config_map("settings", COLOUR="green"),
                config_map("unused"),
                secret("login", TOKEN="hunter2"),
                pod("web", "gw-1", **takes_from(config_maps=["settings", "absent"], secrets_=["login"])),
            )
            assert actions == ["created"] * 4
            await node.generation(first + 1)
            found = await node.objects()
            assert sorted(found) == [
                "ConfigMap/default/settings", "Pod/default/web", "SealedSecret/default/login",
            ]  # fmt: skip
            config, web, sealed = (found[key] for key in sorted(found))
            assert isinstance(config, ConfigMap)
            assert config.data == {"COLOUR": "green"}
            assert isinstance(web, Pod)
            assert web.metadata.generation == 1
            assert web.metadata.uid
            assert isinstance(sealed, SealedSecret)
            opened = unseal_secret(sealed, SealingKey(join.sealing_key), cluster=CLUSTER, node="gw-1")
            assert opened.data == {"TOKEN": b"hunter2"}
            other = SealingKey(cluster.joins["gw-2"].sealing_key)
            with pytest.raises(PermanentError):
                unseal_secret(sealed, other, cluster=CLUSTER, node="gw-1")
        async with cluster.peer("gw-2") as other_node:
            assert (await other_node.index()).objects == []

    asyncio.run(run())


def test_no_byte_on_the_broker_holds_a_secret(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    value = "correct-horse-battery-staple"

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("hub") as everything:
            await everything.session.subscribe(
                [f"{everything.topics.prefix}nodes/#", "edge/v1/plant/objects/#"]
            )
            await admin.apply(
                secret("login", TOKEN=value), pod("web", "gw-1", **takes_from(secrets_=["login"]))
            )
            # Beside the two what every node is told: the admin's binding, and the CAs.
            await wait_for_async(lambda: sum("objects/" in m.topic for m in everything.messages) == 4)
            for message in everything.messages:
                assert value.encode() not in message.payload
        cluster.broker.terminate()
        kept = b"".join(path.read_bytes() for path in cluster.files.mosquitto_data.iterdir())
        assert kept
        assert value.encode() not in kept

    asyncio.run(run())


def test_changing_one_object_of_a_thousand_moves_that_object_and_the_index(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    cluster.add_node("gw-2")
    names = [f"part-{number}" for number in range(1000)]

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("user:admin") as admin, cluster.peer("hub") as spy:
            await admin.apply(*(config_map(name, SIZE="1") for name in names))
            await admin.apply(pod("web", "gw-1", **takes_from(config_maps=names)))
            await wait_for_async(lambda: hub.settled)
            counter = Counter(spy)
            await counter.start()
            assert await admin.apply(config_map("part-500", SIZE="2")) == ["configured"]
            await wait_for_async(lambda: hub.settled)
            await wait_for_async(lambda: any(m.topic.endswith("desired") for m in spy.messages[-5:]))
            moved = await counter.topics()
            assert [topic.split("/")[3] for topic in moved] == ["objects", "nodes"]
            # Nothing changes: nothing moves.
            assert await admin.apply(config_map("part-500", SIZE="2")) == ["unchanged"]
            await wait_for_async(lambda: hub.settled)
            assert await counter.topics() == moved

    asyncio.run(run())


def test_a_hub_that_restarts_publishes_nothing_when_nothing_changed(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("gw-1") as node:
            await admin.apply(secret("login", A="b"), pod("web", "gw-1", **takes_from(secrets_=["login"])))
            before = await node.generation(2)
        async with cluster.peer("hub") as spy, cluster.peer("gw-1") as node:
            counter = Counter(spy)
            await counter.start()
            async with cluster.hub():
                assert await counter.topics() == []
                assert await node.index() == before

    asyncio.run(run())


def test_generations_go_on_rising_when_the_database_is_lost(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("gw-1") as node:
            for number in range(5):
                await admin.apply(pod(f"web-{number}", "gw-1"))
                await node.generation(number + 2)
            before = await node.index()
        for path in cluster.files.root.glob("hub.db*"):
            path.unlink()
        Store(cluster.files.database, create=True).close()
        async with cluster.hub(), cluster.peer("hub") as spy:
            # Silence removes nothing: a node that the hub does not know keeps what it has.
            payload = await spy.read(spy.topics.desired("gw-1"))
            assert await spy.index("gw-1") == before
            cluster.add_node("gw-1")
        async with cluster.hub(), cluster.peer("gw-1") as node:
            after = await node.index()
            assert after.generation == before.generation + 1
            assert after.objects == []
            assert payload

    asyncio.run(run())


def test_generations_go_on_rising_when_the_broker_has_lost_its_retained_messages(
    cluster: HubDirectory,
) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("user:admin") as admin, cluster.peer("gw-1") as node:
            await admin.apply(
                secret("login", A="b"), config_map("c", D="e"),
                pod("web", "gw-1", **takes_from(secrets_=["login"], config_maps=["c"])),
            )  # fmt: skip
            before = await node.generation(2)
            objects = await node.objects()
            cluster.lose_retained()
            await wait_for_async(lambda: not hub.ready.is_set())
            await wait_for_async(lambda: hub.settled, timeout=20)
            await wait_for_async(lambda: node.session.connection is not None)
            after = await node.generation(before.generation + 1)
            assert after.objects == before.objects
            assert await node.objects() == objects

    asyncio.run(run())


def test_objects_that_no_index_uses_leave_the_broker_after_a_grace(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with (
            cluster.hub(clear_after=0.2),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as node,
        ):
            await admin.apply(config_map("c", A="1"), pod("web", "gw-1", **takes_from(config_maps=["c"])))
            await node.generation(2)
            old = {e.name: e.digest for e in (await node.index()).objects}
            await admin.apply(config_map("c", A="2"))
            new = {e.name: e.digest for e in (await node.generation(3)).objects}
            assert old["web"] == new["web"]

            async def gone() -> bool:
                return not await node.read(node.topics.object(old["c"]), absent=True)

            await wait_for_async(gone)
            assert await node.objects()
            # What was cleared comes back when it is wanted again: the very bytes of before.
            await admin.call("delete", {"kind": "ConfigMap", "namespace": "default", "name": "c"})
            await node.generation(4)
            assert list(await node.objects()) == ["Pod/default/web"]

    asyncio.run(run())


def test_what_a_stopped_hub_left_behind_is_cleared_by_the_next(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.peer("hub") as spy:
            useless = spy.topics.object(digest(b"x"))
            await spy.session.publish(useless, b"\x00x", retain=True)
            async with cluster.hub(clear_after=0.1):

                async def gone() -> bool:
                    return not await spy.read(useless, absent=True)

                await wait_for_async(gone)

    asyncio.run(run())


def test_large_objects_and_indexes_travel_in_chunks(stopped_cluster: HubDirectory) -> None:
    cluster = stopped_cluster
    cluster.configure(max_packet_size="20000")
    cluster.start_broker()
    cluster.add_node("gw-1")
    # Random text does not compress.
    noise = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=50_000))
    names = [f"c-{number}" for number in range(400)]

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("gw-1") as node:
            # The request itself would not fit in one packet of this broker.
            api = hub._api
            manifests = [config_map(name) for name in names]
            manifests += [
                config_map("noise", TEXT=noise),
                pod("web", "gw-1", **takes_from(config_maps=["noise", *names])),
            ]
            objects = [msgspec.Raw(msgspec.json.encode(m)) for m in manifests]
            api.apply(ApplyParams(objects=objects), admin_caller(hub._store))
            await wait_for_async(lambda: hub.settled)
            payload = await node.read(node.topics.desired("gw-1"))
            assert payload[:1] == b"\x02"
            index = await node.index()
            assert len(index.objects) == 402
            found = await node.objects()
            config = found["ConfigMap/default/noise"]
            assert isinstance(config, ConfigMap)
            assert config.data == {"TEXT": noise}
            generation = index.generation
        async with cluster.peer("hub") as spy:
            counter = Counter(spy)
            await counter.start()
            async with cluster.hub(clear_after=0.1), cluster.peer("gw-1") as node:
                assert (await node.index()).generation == generation
                assert await counter.topics() == []

    asyncio.run(run())


def test_a_rotated_key_signs_everything_anew_and_every_node_follows(cluster: HubDirectory) -> None:
    cluster.add_node("old")

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("old") as node:
            before = await node.index()
            serial, _ = rotate_keys(cluster.files)
            assert serial == 2
            cluster.add_node("new")
            hub.reload()
            await wait_for_async(lambda: hub.settled)
            after = await node.generation(before.generation + 1)
            assert after.objects == before.objects
            assert cluster.joins["new"].trust.serial == 2
            assert cluster.joins["old"].trust.serial == 1
        async with cluster.peer("new") as node:
            assert (await node.generation(1)).generation == 1

    asyncio.run(run())


def test_an_index_that_the_hub_did_not_sign_does_not_count(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as node:
            before = await node.index()
        async with cluster.peer("hub") as spy:
            await spy.session.publish(spy.topics.desired("gw-1"), b"\x00forged", retain=True)
        async with cluster.hub(), cluster.peer("gw-1") as node:
            assert (await node.index()).generation == before.generation + 1

    asyncio.run(run())


def test_a_node_added_while_the_hub_runs_gets_its_first_index_when_it_comes(
    cluster: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It could not be told: the two run as different users, say.
    monkeypatch.setattr("edgeagent.cluster.nodes.notify_hub", lambda _: False)

    async def run() -> None:
        async with cluster.hub():
            cluster.add_node("late")
            async with cluster.peer("late") as node:
                await node.online()
                index = await node.generation(1)
                assert index.generation == 1
                assert index.objects == []

    asyncio.run(run())
