"""What all nodes are told of the network, through the broker: services, endpoints, policies, each other."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.base import Condition
from edgeagent.api.objects.network import NodeNetwork, PodAddress
from edgeagent.api.objects.node import NodeAddress, NodeStatus
from edgeagent.api.objects.pod import PodIP, PodStatus
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.endpointindex import EndpointIndex
from edgeagent.cluster.networking import GONE_SECONDS
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.reports import PodReport
from tests.cluster.networkkit import (
    has,
    lacks,
    policy,
    report,
    service,
    two_nodes,
    until_told,
    web,
)
from tests.support.broker import MOSQUITTO
from tests.support.hubrun import HubDirectory, Peer, config_map, pod
from tests.support.waiting import wait_for_async


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HubDirectory]:
    """A hub with addresses to give, and two members."""
    yield from two_nodes(tmp_path)


def test_every_node_is_told_of_services_and_of_the_endpoints_that_others_have(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            await one.online()
            await admin.apply(service(), web("a", "gw-1"))
            await report(one, admin, "a", "10.42.0.2")
            found = await until_told(two, {"10.42.0.2": True})
            told = found["Service/default/web"]
            assert isinstance(told, Service)
            assert told.spec.cluster_ip.startswith("10.43.")
            assert not any(key.startswith("Pod/") for key in found)
            await report(one, admin, "a", "10.42.0.2", ready=False)
            await until_told(two, {"10.42.0.2": False})
            # An operator sees the slices that nobody applied, too.
            [shown] = await admin.get("EndpointSlice", "", "default")
            assert shown["metadata"]["labels"] == {"kubernetes.io/service-name": "web"}
            assert [one["addresses"] for one in shown["endpoints"]] == [["10.42.0.2"]]
            assert await admin.get("EndpointSlice", shown["metadata"]["name"], "default") == shown
            assert await admin.get("EndpointSlice", "", "elsewhere") == []
            await admin.call("delete", {"kind": "Service", "namespace": "default", "name": "web"})
            await wait_for_async(lambda: lacks(two, "Service/default/web"), what="the service to be gone")

    asyncio.run(run())


def test_the_endpoints_of_a_node_that_is_gone_drop_out(cluster: HubDirectory) -> None:
    async def run() -> None:
        clock = ManualClock(SystemClock().now())
        running = asyncio.Event()

        async def pass_time() -> None:
            """The clock goes on as the real one does, until told otherwise."""
            while not running.is_set():
                await clock.advance(0.05)
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(pass_time())
        try:
            async with (
                cluster.hub(clock=clock),
                cluster.peer("user:admin") as admin,
                cluster.peer("gw-1") as one,
                cluster.peer("gw-2") as two,
            ):
                await one.online()
                await admin.apply(service(), web("a", "gw-1"))
                await report(one, admin, "a", "10.42.0.2")
                await until_told(two, {"10.42.0.2": True})
                await one.online(online=False)
                await admin.get("Node", "gw-1")  # the hub has heard of it by now
                await clock.advance(GONE_SECONDS + 1)
                await until_told(two, {"10.42.0.2": False})
                await one.online(2)
                await until_told(two, {"10.42.0.2": True})
        finally:
            running.set()
            await ticking

    asyncio.run(run())


def test_pods_of_other_nodes_travel_where_there_are_policies(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            await admin.apply(web("a", "gw-1"), config_map("c"))
            await report(one, admin, "a", "10.42.0.2")
            assert "PodAddress/default/a" not in await two.objects()
            await admin.apply(policy())

            async def told() -> PodAddress | None:
                found = (await two.objects()).get("PodAddress/default/a")
                return found if isinstance(found, PodAddress) else None

            address = await wait_for_async(told, what="the address of the pod")
            assert address is not None
            assert (address.spec.ips, address.metadata.labels) == (["10.42.0.2"], {"app": "web"})
            objects = await one.objects()
            assert "PodAddress/default/a" not in objects
            assert "NetworkPolicy/default/deny" in objects

    asyncio.run(run())


def test_each_node_has_a_range_of_its_own_and_all_are_told_where_it_is(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            address = NodeAddress(type="InternalIP", address="192.0.2.1")
            await one.report(one.topics.status("gw-1"), NodeStatus(addresses=[address]))

            async def told() -> NodeNetwork | None:
                found = (await two.objects())["NodeNetwork//gw-1"]
                assert isinstance(found, NodeNetwork)
                return found if found.spec.address else None

            found = await wait_for_async(told, what="the address of the node")
            assert found is not None
            assert (found.spec.pod_cidrs, found.spec.address) == (["10.42.0.0/24"], "192.0.2.1")
            other = (await one.objects())["NodeNetwork//gw-2"]
            assert isinstance(other, NodeNetwork)
            assert (other.spec.pod_cidrs, other.spec.service_cidrs) == (["10.42.1.0/24"], ["10.43.0.0/16"])
        # The ranges are kept: a hub that starts anew gives the same.
        async with cluster.hub(), cluster.peer("gw-1") as one:
            again = (await one.objects())["NodeNetwork//gw-2"]
            assert isinstance(again, NodeNetwork)
            assert again.spec.pod_cidrs == ["10.42.1.0/24"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (service("b", clusterIP="10.99.0.1"), "spec.clusterIPs[0]: 10.99.0.1 is not in the services' range"),
        (service("b", clusterIP="10.43.0.10"), "10.43.0.10 is that of Service default/taken"),
        (
            service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
            "30080 is that of Service default/taken",
        ),
        (service("b", type="LoadBalancer"), "spec.type: LoadBalancer is not supported"),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "namespace": "default"}},
            "a Namespace is in no namespace",
        ),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(
    cluster: HubDirectory, manifest: dict[str, Any], words: str
) -> None:
    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin:
            taken = service(
                "taken", type="NodePort", clusterIP="10.43.0.10", ports=[{"port": 80, "nodePort": 30080}]
            )
            await admin.apply(taken)
            assert words in str(await admin.failure("apply", {"objects": [manifest]}))
            assert await admin.apply(taken) == ["unchanged"]

    asyncio.run(run())


def test_kinds_without_a_namespace(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("gw-1") as one:
            shop = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "shop", "labels": {"a": "b"}},
            }
            fence = {
                "apiVersion": "edgeagent/v1",
                "kind": "HostFirewall",
                "metadata": {"name": "fence"},
                "spec": {"allow": [{"name": "ssh", "ports": [22]}]},
            }
            assert await admin.apply(shop, fence) == ["created", "created"]
            await wait_for_async(lambda: has(one, "Namespace//shop", "HostFirewall//fence"), what="both")
            await admin.call("delete", {"kind": "Namespace", "namespace": "", "name": "shop"})
            await wait_for_async(lambda: lacks(one, "Namespace//shop"), what="the namespace to be gone")

    asyncio.run(run())


def test_an_operator_sees_the_overlay_and_the_ranges_that_nodes_are_told(tmp_path: Path) -> None:
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")

    async def run() -> None:
        async with other.hub(), other.peer("user:admin") as admin, other.peer("gw-1") as one:
            await wait_for_async(lambda: has(one, "NodeNetwork//gw-1"), what="the range")
            told = (await one.objects())["NodeNetwork//gw-1"]
            assert isinstance(told, NodeNetwork)
            assert (told.spec.overlay, told.spec.service_cidrs) == ("wireguard", ["10.99.0.0/16"])
            shown = (await admin.get("NodeNetwork", "gw-1"))["spec"]
            assert (shown["overlay"], shown["serviceCidrs"]) == ("wireguard", ["10.99.0.0/16"])

    network = ClusterNetwork(service_cidrs=["10.99.0.0/16"], overlay="wireguard")
    with HubDirectory(tmp_path, network=network) as other:
        other.add_node("gw-1")
        asyncio.run(run())


def test_a_pod_that_is_applied_with_a_policy_is_never_publishedlacks(cluster: HubDirectory) -> None:
    async def run() -> None:
        clock = ManualClock(SystemClock().now())  # stands still: nothing settles
        async with (
            cluster.hub(clock=clock),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
        ):
            await admin.apply(policy())
            await admin.apply(pod("a", "gw-1"))
            await wait_for_async(lambda: has(one, "Pod/default/a"), what="the pod")
            assert "NetworkPolicy/default/deny" in await one.objects()

    asyncio.run(run())


def test_a_report_that_says_nothing_of_the_network_has_nothing_looked_at(
    cluster: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[EndpointIndex] = []
    derive = EndpointIndex.derive

    def counted(index: EndpointIndex) -> dict[tuple[str, str], list[EndpointSlice]]:
        looks.append(index)
        return derive(index)

    monkeypatch.setattr(EndpointIndex, "derive", counted)

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("gw-1") as one:
            await one.online()
            await admin.apply(service(), web("a", "gw-1"))
            await report(one, admin, "a", "10.42.0.2")
            await until_told(one, {"10.42.0.2": True})
            before = len(looks)
            uid = (await admin.get("Pod", "a", "default"))["metadata"]["uid"]
            for number in range(3):
                said = PodStatus(
                    phase="Running",
                    conditions=[Condition(type="Ready", status="True")],
                    pod_ips=[PodIP(ip="10.42.0.2")],
                    message=f"{number}",
                )
                await one.pod("a", PodReport(uid=uid, generation=1, status=said))
                await one.report(one.topics.status("gw-1"), NodeStatus(capacity={"cpu": f"{number}"}))

                async def heard(number: int = number) -> bool:
                    status = (await admin.get("Pod", "a", "default"))["status"]
                    return bool(status["message"] == f"{number}")

                await wait_for_async(heard, what="the report")
            # The hub looks again for this one, and would have for those before it by then.
            await report(one, admin, "a", "10.42.0.2", ready=False)
            await until_told(one, {"10.42.0.2": False})
            assert len(looks) == before + 1

    asyncio.run(run())


def test_what_a_node_said_last_stands_until_it_says_another(cluster: HubDirectory) -> None:
    key = "a" * 43 + "="

    async def told(node: Peer) -> tuple[str, str]:
        found = (await node.objects())["NodeNetwork//gw-1"]
        assert isinstance(found, NodeNetwork)
        return found.spec.address, found.spec.public_key

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            said = [NodeAddress(type="InternalIP", address="192.0.2.1")]
            status = NodeStatus(addresses=said, public_key=key, public_key_proof=one.network_key(key))
            await one.report(one.topics.status("gw-1"), status)

            async def expected() -> bool:
                return await told(two) == ("192.0.2.1", key)

            await wait_for_async(expected, what="the node's address")
        # A broker that lost everything, and a hub that has not heard of the node yet.
        cluster.lose_retained()
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            assert await told(two) == ("192.0.2.1", key)
            said = [NodeAddress(type="InternalIP", address="192.0.2.7")]
            await one.report(one.topics.status("gw-1"), NodeStatus(addresses=said))

            async def moved() -> bool:
                return await told(two) == ("192.0.2.7", key)

            await wait_for_async(moved, what="the node's new address")

    asyncio.run(run())


def test_a_node_that_is_added_has_its_place_at_once(cluster: HubDirectory) -> None:
    async def run() -> None:
        clock = ManualClock(SystemClock().now())  # stands still: nothing settles
        async with cluster.hub(clock=clock) as hub, cluster.peer("gw-1") as one:
            cluster.add_node("gw-3")
            hub.reload()
            await wait_for_async(lambda: has(one, "NodeNetwork//gw-3"), what="the place of the new node")
            async with cluster.peer("gw-3") as three:
                await wait_for_async(lambda: has(three, "NodeNetwork//gw-3"), what="its own place")
                assert (await three.index()).generation == 1

    asyncio.run(run())
