"""Static pods at the hub: shown as their nodes report them, and refused where somebody would change them.

https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/ : "the Pods running on a node are visible
on the API server, but cannot be controlled from there".
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.pod import Pod, PodSpec, PodStatus
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.store import Store
from edgeagent.node.static.manifest import Origin, read_objects
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.reports import (
    ANNOTATION_MIRROR,
    ANNOTATION_SHORTENED,
    MAX_MIRROR_BYTES,
    PodReport,
    mirror_of,
)
from tests.support.hubrun import HubDirectory, Peer, pod
from tests.support.waiting import wait_for_async

FILE = "/etc/edgeagent/manifests/web.yaml"


def static_pod(name: str = "web", node: str = "gw-1", **spec: Any) -> Pod:
    """A static pod as its node has it."""
    manifest = pod(name, "", **spec)
    del manifest["spec"]["nodeName"]
    (made,) = read_objects([(1, manifest)], Origin(FILE, node, 0.0))
    assert isinstance(made, Pod)
    return made


def report(one: Pod, phase: str = "Running") -> PodReport:
    status = msgspec.convert({"phase": phase}, PodStatus)
    return PodReport(uid=one.metadata.uid, generation=1, status=status, pod=mirror_of(one))


class World:
    """A hub with two nodes and an operator."""

    def __init__(self, admin: Peer, node: Peer, other: Peer) -> None:
        self.admin = admin
        self.node = node
        self.other = other

    async def names(self, namespace: str = "") -> list[str]:
        """All pods, as ``edgectl get pods`` lists them."""
        return [one["metadata"]["name"] for one in await self.admin.get("Pod", "", namespace)]

    async def until(self, *names: str) -> None:
        """Wait until these pods are listed, and no others."""

        async def listed() -> bool:
            return await self.names() == list(names)

        await wait_for_async(listed, what=f"the pods {names} to be listed")


def run(cluster: HubDirectory, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster.add_node("gw-1")
        cluster.add_node("gw-2")
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(cluster.hub())
            peers = [
                await stack.enter_async_context(cluster.peer(name)) for name in ("user:admin", "gw-1", "gw-2")
            ]
            await scenario(World(*peers))

    asyncio.run(main())


def test_a_static_pod_is_shown_with_its_status_and_goes_with_its_report(cluster: HubDirectory) -> None:
    async def scenario(world: World) -> None:
        one = static_pod()
        await world.node.pod("web-gw-1", report(one))
        await world.until("web-gw-1")
        shown: Any = await world.admin.get("Pod", "web-gw-1", "default")
        assert shown["metadata"]["annotations"][ANNOTATION_MIRROR] == one.metadata.uid
        assert shown["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
        assert shown["spec"]["nodeName"] == "gw-1"
        assert shown["status"] == {"phase": "Running"}
        await world.node.pod("web-gw-1", None)
        await world.until()

    run(cluster, scenario)


def test_it_cannot_be_deleted_or_replaced_and_the_refusal_says_where_its_manifest_is(
    cluster: HubDirectory,
) -> None:
    async def scenario(world: World) -> None:
        await world.node.pod("web-gw-1", report(static_pod()))
        await world.until("web-gw-1")
        key = {"kind": "Pod", "namespace": "default", "name": "web-gw-1"}
        for refused in (
            await world.admin.failure("delete", key),
            await world.admin.failure("delete", {**key, "force": True}),
            await world.admin.failure("apply", {"objects": [pod("web-gw-1", "gw-1")]}),
        ):
            assert refused.reason == "Forbidden"
            assert FILE in str(refused)
            assert "gw-1" in str(refused)
        assert await world.names() == ["web-gw-1"]

    run(cluster, scenario)


def test_an_applied_pod_keeps_its_name_before_a_static_one(cluster: HubDirectory) -> None:
    async def scenario(world: World) -> None:
        await world.admin.apply(pod("web-gw-1", "gw-2"))
        await world.node.pod("web-gw-1", report(static_pod()))
        await world.node.pod("db-gw-1", report(static_pod("db")))
        await world.until("db-gw-1", "web-gw-1")
        shown = await world.admin.get("Pod", "web-gw-1", "default")
        assert shown["spec"]["nodeName"] == "gw-2"
        await world.admin.call(
            "delete", {"kind": "Pod", "namespace": "default", "name": "web-gw-1", "force": True}
        )
        shown = await world.admin.get("Pod", "web-gw-1", "default")
        assert shown["spec"]["nodeName"] == "gw-1"

    run(cluster, scenario)


def test_a_watch_sees_it_come_change_and_go(cluster: HubDirectory) -> None:
    async def scenario(world: World) -> None:
        seen: list[str] = []

        async def follow() -> None:
            async for reply in world.admin.stream("watch", {"kind": "Pod"}):
                event = json.loads(bytes(reply.result))
                if event and event.get("type"):
                    phase = event["object"]["status"].get("phase", "")
                    seen.append(f"{event['type']} {event['object']['metadata']['name']} {phase}")

        following = asyncio.create_task(follow())
        try:
            one = static_pod()
            await world.node.pod("web-gw-1", report(one, "Pending"))
            await wait_for_async(lambda: seen == ["ADDED web-gw-1 Pending"], what="it to come")
            await world.node.pod("web-gw-1", report(one))
            await world.node.pod("web-gw-1", None)
            await wait_for_async(
                lambda: seen[1:] == ["MODIFIED web-gw-1 Running", "DELETED web-gw-1 Running"],
                what="it to change and go",
            )
        finally:
            following.cancel()
            await asyncio.wait([following])

    run(cluster, scenario)


@pytest.mark.parametrize("lie", ["node", "name", "uid", "namespace", "spec"])
def test_a_node_shows_no_pod_but_its_own(cluster: HubDirectory, lie: str) -> None:
    async def scenario(world: World) -> None:
        one = static_pod()
        mirror = mirror_of(one)
        match lie:
            case "node":
                mirror = msgspec.structs.replace(
                    mirror, spec=msgspec.structs.replace(mirror.spec, node_name="gw-2")
                )
            case "spec":
                mirror = msgspec.structs.replace(
                    mirror, spec=PodSpec(containers=[Container(name="a", image=" ")], node_name="gw-1")
                )
            case field:
                meta = msgspec.structs.replace(mirror.metadata, **{field: "other"})
                mirror = msgspec.structs.replace(mirror, metadata=meta)
        await world.node.pod("web-gw-1", msgspec.structs.replace(report(one), pod=mirror))
        await world.node.pod("honest-gw-1", report(static_pod("honest")))
        await world.until("honest-gw-1")

    run(cluster, scenario)


@pytest.mark.parametrize("name", ["payroll", "web-gw-2", "gw-1", "xgw-1"])
def test_a_node_takes_no_name_that_its_static_pods_cannot_have(cluster: HubDirectory, name: str) -> None:
    async def scenario(world: World) -> None:
        one = static_pod()
        one = msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, name=name))
        await world.node.pod(name, report(one))
        await world.node.pod("honest-gw-1", report(static_pod("honest")))
        await world.until("honest-gw-1")
        await world.admin.apply(pod(name, "gw-2"))
        await world.until(*sorted([name, "honest-gw-1"]))

    run(cluster, scenario)


def test_nobody_applies_a_pod_that_looks_like_a_mirror(cluster: HubDirectory) -> None:
    async def scenario(world: World) -> None:
        made = pod("a", "gw-1")
        marked = {**made, "metadata": {**made["metadata"], "annotations": {ANNOTATION_MIRROR: "x"}}}
        for _ in range(2):
            refused = await world.admin.failure("apply", {"objects": [marked]})
            assert refused.reason == "Invalid"
            assert ANNOTATION_MIRROR in str(refused)
            await world.admin.apply(made)

    run(cluster, scenario)


def test_two_nodes_that_make_the_same_name_do_not_disturb_each_other(cluster: HubDirectory) -> None:
    """``x`` on node ``gw-2`` and ``x-gw`` on node ``2`` are both ``x-gw-2``."""
    cluster.add_node("2")

    async def scenario(world: World) -> None:
        async with cluster.peer("2") as short:
            await world.other.pod("x-gw-2", report(static_pod("x", "gw-2")))
            await world.until("x-gw-2")
            await short.pod("x-gw-2", report(static_pod("x-gw", "2")))
            await short.pod("y-2", report(static_pod("y", "2")))
            await world.until("x-gw-2", "y-2")
            assert (await world.admin.get("Pod", "x-gw-2", "default"))["spec"]["nodeName"] == "2"
            await short.pod("x-gw-2", None)
            await short.pod("y-2", None)
            await world.until("x-gw-2")
            assert (await world.admin.get("Pod", "x-gw-2", "default"))["spec"]["nodeName"] == "gw-2"

    run(cluster, scenario)


def test_of_nodes_that_make_the_same_name_members_alone_count(tmp_path: Path) -> None:
    """Who is no member any more may have left its reports at the broker."""
    store = Store(tmp_path / "hub.db", create=True)
    observer = Observer(
        store,
        SystemClock(),
        on_change=lambda *_: None,
        on_gone=lambda *_: None,
        on_node=lambda _: None,
    )
    for one in (static_pod("x-gw", "2"), static_pod("x", "gw-2")):
        observer.receive(one.spec.node_name, ["pods", "default", "x-gw-2"], canonical_json(report(one)))
    (found,) = observer.mirrors("default", "x-gw-2", lambda node: node == "gw-2")
    assert found.pod is not None
    assert found.pod.spec.node_name == "gw-2"
    assert observer.mirrors("", "", lambda _: False) == []
    store.close()


def test_a_mirror_outlives_the_hub_and_is_never_sent_back_to_the_node(cluster: HubDirectory) -> None:
    async def main() -> None:
        cluster.add_node("gw-1")
        async with cluster.peer("gw-1") as node:
            async with cluster.hub(), cluster.peer("user:admin") as admin:
                await node.report(node.topics.status("gw-1"), NodeStatus(observed_generation=1))
                await node.pod("web-gw-1", report(static_pod()))
                await World(admin, node, node).until("web-gw-1")
                assert (await node.index()).objects == []
            async with cluster.hub(), cluster.peer("user:admin") as admin:
                assert await World(admin, node, node).names() == ["web-gw-1"]
                assert (await node.index()).objects == []

    asyncio.run(main())


def test_its_logs_are_asked_of_its_node(cluster: HubDirectory) -> None:
    async def scenario(world: World) -> None:
        await world.node.pod("web-gw-1", report(static_pod()))
        await world.until("web-gw-1")
        params = {"namespace": "default", "pod": "web-gw-1"}
        refused = await world.admin.failure("logs", params, target="gw-1")
        assert refused.reason == "NodeOffline"
        assert "gw-1" in str(refused)

    run(cluster, scenario)


def test_of_a_large_pod_names_and_images_are_told() -> None:
    env = [{"name": f"V{number}", "value": "x" * 100} for number in range(1000)]
    one = static_pod(env=env)
    mirror = mirror_of(one)
    assert mirror.spec.node_name == "gw-1"
    assert [(c.name, c.image, c.env) for c in mirror.spec.containers] == [("main", "localhost/busybox:1", [])]
    assert mirror.metadata.annotations[ANNOTATION_SHORTENED] == "true"
    assert mirror.metadata.annotations["io.edgeagent.config.file"] == FILE
    assert len(msgspec.json.encode(mirror)) < MAX_MIRROR_BYTES
