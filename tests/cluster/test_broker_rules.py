"""Who may use which topic, on a real Mosquitto with the very files that ``edgehub init`` wrote."""

import asyncio
import random
import ssl
from contextlib import suppress

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.cluster.ca import Authority
from edgeagent.wire.session import Message, MqttSession, SessionConfig
from edgeagent.wire.tls import client_context
from tests.support.hubrun import HubDirectory, Peer, pod
from tests.support.waiting import wait_for_async


async def _refused(peer: Peer, topic: str) -> bool:
    try:
        await peer.session.publish(topic, b"x", retain=True)
    except PermanentError as error:
        return error.reason == "BrokerRefused"
    return False


def test_a_node_writes_its_own_reports_and_nothing_else(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    cluster.add_node("gw-2")
    topics = cluster.topics

    async def run() -> None:
        async with cluster.peer("gw-1") as node:
            for topic in (
                topics.status("gw-1"), topics.online("gw-1"), topics.pod("gw-1", "default", "web"),
                topics.events("gw-1"), f"{topics.prefix}nodes/gw-1/metrics",
                f"{topics.prefix}nodes/gw-1/logs",
                topics.replies("user:admin", "a1"),
            ):  # fmt: skip
                assert not await _refused(node, topic), topic
            for topic in (
                topics.status("gw-2"), topics.online("gw-2"), topics.pod("gw-2", "default", "web"),
                topics.events("gw-2"), topics.desired("gw-1"), topics.desired("gw-2"),
                topics.object("0" * 64),
                topics.node_rpc("gw-1", "logs"), topics.node_rpc("gw-2", "logs"),
                topics.hub_rpc("user:admin", "apply"), topics.hub_rpc("gw-2", "apply"),
                "edge/v1/other/nodes/gw-1/status", "elsewhere", f"{topics.prefix}nodes/gw-1/pods/web",
            ):  # fmt: skip
                assert await _refused(node, topic), topic

    asyncio.run(run())


def test_an_operator_writes_calls_under_its_own_name_alone(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    topics = cluster.topics

    async def run() -> None:
        async with cluster.peer("user:admin") as admin:
            assert not await _refused(admin, topics.hub_rpc("user:admin", "apply"))
            for topic in (
                topics.hub_rpc("user:other", "apply"), topics.desired("gw-1"), topics.object("0" * 64),
                topics.status("gw-1"), topics.online("gw-1"), topics.node_rpc("gw-1", "logs"),
                topics.desired("user:admin"),
            ):  # fmt: skip
                assert await _refused(admin, topic), topic

    asyncio.run(run())


def test_nobody_reads_what_is_for_another(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    cluster.add_node("gw-2")
    topics = cluster.topics

    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("gw-1") as node,
            cluster.peer("user:admin") as admin,
            cluster.peer("hub") as hub,
        ):
            # Mosquitto takes the subscriptions and passes on what the ACL allows.
            for peer in (node, admin):
                await peer.session.subscribe([f"{topics.prefix}#"])
            await admin.apply(pod("web", "gw-2"))
            await hub.session.publish(topics.node_rpc("gw-2", "logs"), b"for gw-2")
            await hub.session.publish(topics.replies("user:other", "s"), b"for other")
            await hub.session.publish(topics.status("gw-2"), b"status", retain=True)
            await hub.session.publish(topics.node_rpc("gw-1", "logs"), b"for gw-1")
            await wait_for_async(lambda: topics.node_rpc("gw-1", "logs") in node.retained)
            for peer in (node, admin):
                await peer.barrier()
                for topic in peer.retained:
                    levels = topics.levels(topic)
                    assert levels[0] == "objects" or peer.name in levels, topic

    asyncio.run(run())


def test_without_a_certificate_of_this_cluster_there_is_no_connection(cluster: HubDirectory) -> None:
    keys = cluster.keys
    stranger = Authority.create("plant", SystemClock())[0].operator("admin")
    (keys / "crt").write_text(stranger.certificate)
    (keys / "key").write_text(stranger.key)
    bare = ssl.create_default_context(cafile=str(cluster.files.ca_certificate))
    for context in (bare, client_context(cluster.files.ca_certificate, keys / "crt", keys / "key")):
        reasons: list[str] = []

        async def run(context: ssl.SSLContext = context, reasons: list[str] = reasons) -> None:
            session = MqttSession(
                SessionConfig([cluster.address], "stranger", context, reconnect_first=0.01),
                clock=SystemClock(),
                rng=random.Random(1),
                on_message=lambda _: None,
                on_connect=lambda _: pytest.fail("connected"),
                on_disconnect=reasons.append,
            )
            task = asyncio.create_task(session.run())
            await wait_for_async(lambda: reasons)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(run())
        assert "127.0.0.1" in reasons[0]


def test_the_hub_answers_operators_alone_and_only_on_their_own_reply_topic(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    topics = cluster.topics

    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("gw-1") as node,
            cluster.peer("user:admin") as admin,
            cluster.peer("hub") as spy,
        ):
            before = await node.index()
            await spy.session.subscribe([topics.replies("+", "+"), topics.desired("gw-1")])
            request = b'{"kind":"Node"}'
            await node.session.publish(
                topics.hub_rpc("gw-1", "get"), request,
                response_topic=topics.replies("gw-1", "x"), correlation=b"1",
            )  # fmt: skip
            for target in (
                topics.desired("gw-1"), topics.replies("user:other", "x"),
                f"{topics.prefix}replies/user:admin", "elsewhere",
            ):  # fmt: skip
                await admin.session.publish(
                    topics.hub_rpc("user:admin", "get"), request, response_topic=target, correlation=b"2"
                )
            async with cluster.peer("user:admin") as careless:
                # Mosquitto 2.0.21 ends such a session (MQTT 5, section 3.3.2.3.5), 2.0.11 does not.
                with suppress(TemporaryError):
                    await careless.session.publish(
                        topics.hub_rpc("user:admin", "get"), request,
                        response_topic=topics.replies("user:admin", "+"), correlation=b"2",
                    )  # fmt: skip
            assert [one["metadata"]["name"] for one in await admin.get("Node")] == ["gw-1"]
            await spy.barrier()
            answers: list[Message] = [
                m for m in spy.messages if "/replies/" in m.topic and m.correlation in (b"1", b"2")
            ]
            assert answers == []
            assert await node.index() == before

    asyncio.run(run())
