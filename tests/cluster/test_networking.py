"""What all nodes are told of the network, through the broker: services, endpoints, policies, each other."""

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.network import NodeNetwork, PodAddress
from edgeagent.api.objects.node import NodeAddress, NodeStatus
from edgeagent.api.objects.pod import Pod, PodIP, PodSpec, PodStatus
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.endpointindex import EndpointIndex
from edgeagent.cluster.networking import GONE_SECONDS, UNCONFIRMED_SECONDS
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.reports import ANNOTATION_MIRROR, PodReport
from tests.support.broker import MOSQUITTO
from tests.support.hubrun import HubDirectory, Peer, config_map, pod
from tests.support.waiting import wait_for_async

NETWORK = ClusterNetwork(pod_cidrs=["10.42.0.0/16"])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HubDirectory]:
    """One whose hub gives addresses, with the members ``gw-1`` and ``gw-2``."""
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")
    with HubDirectory(tmp_path, network=NETWORK) as directory:
        directory.add_node("gw-1")
        directory.add_node("gw-2")
        yield directory


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Service that selects ``app=web``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


def web(name: str, node: str) -> dict[str, Any]:
    """A pod that it selects."""
    found = pod(name, node)
    found["metadata"]["labels"] = {"app": "web"}
    return found


def policy() -> dict[str, Any]:
    """A NetworkPolicy that denies everything."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "default"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


async def report(node: Peer, admin: Peer, name: str, ip: str, *, ready: bool = True) -> None:
    """The pod runs, as its node says."""
    found = await admin.get("Pod", name, "default")
    said = Condition(type="Ready", status="True" if ready else "False")
    status = PodStatus(phase="Running", conditions=[said], pod_ip=ip, pod_ips=[PodIP(ip=ip)])
    await node.pod(name, PodReport(uid=found["metadata"]["uid"], generation=1, status=status))


def slices(objects: Mapping[str, KubernetesObject]) -> dict[str, bool | None]:
    """Readiness by address, over all slices."""
    return {
        endpoint.addresses[0]: endpoint.conditions.ready
        for one in objects.values()
        if isinstance(one, EndpointSlice)
        for endpoint in one.endpoints
    }


async def until_told(node: Peer, expected: Mapping[str, bool]) -> dict[str, KubernetesObject]:
    """What the node is told, once the endpoints are these."""
    found: dict[str, KubernetesObject] = {}

    async def told() -> bool:
        found.clear()
        found.update(await node.objects())
        return slices(found) == expected

    await wait_for_async(told, what=f"the endpoints {expected}")
    return found


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
            await admin.call("delete", {"kind": "Service", "namespace": "default", "name": "web"})
            await wait_for_async(lambda: _without(two, "Service/default/web"), what="the service to be gone")

    asyncio.run(run())


async def _without(node: Peer, key: str) -> bool:
    return key not in await node.objects()


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
            await wait_for_async(lambda: _with(one, "Namespace//shop", "HostFirewall//fence"), what="both")
            await admin.call("delete", {"kind": "Namespace", "namespace": "", "name": "shop"})
            await wait_for_async(lambda: _without(one, "Namespace//shop"), what="the namespace to be gone")

    asyncio.run(run())


async def _with(node: Peer, *keys: str) -> bool:
    return set(keys) <= (await node.objects()).keys()


@pytest.mark.parametrize("ip", ["not-an-ip", "fe80::1%eth0", "10.42.1.9", "8.8.8.8"])
def test_an_address_that_a_pod_cannot_have_keeps_nobody_from_anything(cluster: HubDirectory, ip: str) -> None:
    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            await one.online()
            await admin.apply(service(), policy(), web("a", "gw-1"), web("b", "gw-1"))
            await report(one, admin, "a", ip)
            await report(one, admin, "b", "10.42.0.2")
            # Peer.objects() takes an object only as a node does.
            found = await until_told(two, {"10.42.0.2": True})
            assert "PodAddress/default/a" not in found

    asyncio.run(run())


@pytest.mark.parametrize(("address", "key"), [("zzz; evil", ""), ("192.0.2.1", "junk"), ("fe80::1%eth0", "")])
def test_a_node_that_says_nonsense_of_itself_keeps_its_range(
    cluster: HubDirectory, address: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            said = [NodeAddress(type="InternalIP", address=address)]
            await one.report(one.topics.status("gw-1"), NodeStatus(addresses=said, public_key=key))
            await wait_for_async(lambda: "NodeNetwork /gw-1" in caplog.text, what="the warning")
            await admin.apply(service("later"))
            await wait_for_async(lambda: _with(two, "Service/default/later"), what="the service")
            found = (await two.objects())["NodeNetwork//gw-1"]
            assert isinstance(found, NodeNetwork)
            assert (found.spec.pod_cidrs, found.spec.address) == (["10.42.0.0/24"], "")
        assert caplog.text.count("NodeNetwork /gw-1") == 1

    asyncio.run(run())


def test_a_node_for_which_no_range_is_left_is_the_only_one_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")

    async def run() -> None:
        async with small.hub(), small.peer("user:admin") as admin, small.peer("gw-2") as two:
            await admin.apply(service(), pod("a", "gw-2"))
            await wait_for_async(lambda: _with(two, "Service/default/web", "Pod/default/a"), what="both")
            found = await two.objects()
            assert "NodeNetwork//gw-1" in found
            assert "NodeNetwork//gw-2" not in found
        assert caplog.text.count("no pod range is left") == 1

    with HubDirectory(tmp_path, network=ClusterNetwork(pod_cidrs=["10.42.0.0/24"])) as small:
        small.add_node("gw-1")
        small.add_node("gw-2")
        asyncio.run(run())


def test_an_operator_sees_the_overlay_and_the_ranges_that_nodes_are_told(tmp_path: Path) -> None:
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")

    async def run() -> None:
        async with other.hub(), other.peer("user:admin") as admin, other.peer("gw-1") as one:
            await wait_for_async(lambda: _with(one, "NodeNetwork//gw-1"), what="the range")
            told = (await one.objects())["NodeNetwork//gw-1"]
            assert isinstance(told, NodeNetwork)
            assert (told.spec.overlay, told.spec.service_cidrs) == ("wireguard", ["10.99.0.0/16"])
            shown = (await admin.get("NodeNetwork", "gw-1"))["spec"]
            assert (shown["overlay"], shown["serviceCidrs"]) == ("wireguard", ["10.99.0.0/16"])

    network = ClusterNetwork(service_cidrs=["10.99.0.0/16"], overlay="wireguard")
    with HubDirectory(tmp_path, network=network) as other:
        other.add_node("gw-1")
        asyncio.run(run())


def test_a_pod_that_is_applied_with_a_policy_is_never_published_without(cluster: HubDirectory) -> None:
    async def run() -> None:
        clock = ManualClock(SystemClock().now())  # stands still: nothing settles
        async with (
            cluster.hub(clock=clock),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
        ):
            await admin.apply(policy())
            await admin.apply(pod("a", "gw-1"))
            await wait_for_async(lambda: _with(one, "Pod/default/a"), what="the pod")
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
            await one.report(one.topics.status("gw-1"), NodeStatus(addresses=said, public_key=key))

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


async def address_of(node: Peer, name: str) -> tuple[list[str], dict[str, str]] | None:
    """Where another node's pod is, and its labels, as ``node`` is told; None where it is not."""
    found = (await node.objects()).get(f"PodAddress/default/{name}")
    return (found.spec.ips, found.metadata.labels) if isinstance(found, PodAddress) else None


async def until_address(node: Peer, name: str, expected: tuple[list[str], dict[str, str]] | None) -> None:
    """Until this is told of that pod."""

    async def told() -> bool:
        return await address_of(node, name) == expected

    await wait_for_async(told, what=f"the address of {name}: {expected}")


def static_pod(node: str, labels: dict[str, str]) -> Pod:
    """What a node says of a static pod of its own."""
    meta = ObjectMeta(
        name=f"s-{node}",
        namespace="default",
        uid="static",
        labels=labels,
        annotations={ANNOTATION_MIRROR: "static"},
    )
    spec = PodSpec(containers=[Container(name="main", image="localhost/busybox:1")], node_name=node)
    return Pod(api_version="v1", metadata=meta, spec=spec)


def test_addresses_and_endpoints_outlive_a_broker_that_lost_its_memory(cluster: HubDirectory) -> None:
    running = PodStatus(
        phase="Running",
        conditions=[Condition(type="Ready", status="True")],
        pod_ips=[PodIP(ip="10.42.0.3")],
    )
    said = PodReport(uid="static", generation=1, status=running, pod=static_pod("gw-1", {"app": "web"}))

    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            await one.online()
            await admin.apply(service(), policy(), web("a", "gw-1"), web("b", "gw-1"))
            await report(one, admin, "a", "10.42.0.2")
            await one.pod("s-gw-1", said)
            await until_told(two, {"10.42.0.2": True, "10.42.0.3": True})
            await until_address(two, "a", (["10.42.0.2"], {"app": "web"}))
        cluster.lose_retained()
        # Nobody has spoken, and the hub is another process.
        clock = ManualClock(SystemClock().now())
        async with (
            cluster.hub(clock=clock),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            await until_told(two, {"10.42.0.2": True, "10.42.0.3": True})
            await until_address(two, "a", (["10.42.0.2"], {"app": "web"}))
            await until_address(two, "s-gw-1", (["10.42.0.3"], {"app": "web"}))
            assert await address_of(two, "b") is None
            # The node speaks of itself, and of one of its pods; the static one is there no more.
            await one.online()
            await one.report(one.topics.status("gw-1"), NodeStatus())
            await report(one, admin, "a", "10.42.0.7")
            await admin.get("Node", "gw-1")  # the hub has heard of it by now
            await clock.advance(1)
            await until_address(two, "a", (["10.42.0.7"], {"app": "web"}))
            assert await address_of(two, "s-gw-1") is not None
            # What is deleted is gone, spoken of or not.
            gone = {"kind": "Pod", "namespace": "default", "name": "a", "force": True}
            await admin.call("delete", gone)
            await clock.advance(1)
            await until_address(two, "a", None)
            await clock.advance(UNCONFIRMED_SECONDS + 1)
            await clock.advance(1)
            await until_address(two, "s-gw-1", None)

    asyncio.run(run())


def test_a_pod_that_was_made_anew_elsewhere_is_where_it_is_now(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with (
            cluster.hub(),
            cluster.peer("user:admin") as admin,
            cluster.peer("gw-1") as one,
            cluster.peer("gw-2") as two,
        ):
            await one.online()
            await two.online()
            await admin.apply(policy(), web("a", "gw-1"))
            await report(one, admin, "a", "10.42.0.2")
            await until_address(two, "a", (["10.42.0.2"], {"app": "web"}))
            first = (await two.objects())["PodAddress/default/a"].metadata.uid
            changed = web("a", "gw-1")
            changed["metadata"]["labels"] = {"app": "db"}
            await admin.apply(changed)
            await until_address(two, "a", (["10.42.0.2"], {"app": "db"}))
            assert (await two.objects())["PodAddress/default/a"].metadata.uid == first
            await admin.call("delete", {"kind": "Pod", "namespace": "default", "name": "a", "force": True})
            await admin.apply(web("a", "gw-1"))
            # The one before was not this one: nothing is known of it yet.
            await until_address(two, "a", None)
            await report(one, admin, "a", "10.42.0.2")
            await until_address(two, "a", (["10.42.0.2"], {"app": "web"}))
            assert (await two.objects())["PodAddress/default/a"].metadata.uid != first
            await admin.call("delete", {"kind": "Pod", "namespace": "default", "name": "a", "force": True})
            await admin.apply(web("a", "gw-2"))
            await report(two, admin, "a", "10.42.1.2")
            await until_address(one, "a", (["10.42.1.2"], {"app": "web"}))
            await until_address(two, "a", None)

    asyncio.run(run())


async def place(node: Peer, of: str) -> tuple[str, str]:
    """The address and the key of a node, as ``node`` is told."""
    found = (await node.objects())[f"NodeNetwork//{of}"]
    assert isinstance(found, NodeNetwork)
    return found.spec.address, found.spec.public_key


async def says(node: Peer, address: str, key: str = "") -> None:
    """Where the node says that it is."""
    said = [NodeAddress(type="InternalIP", address=address)] if address else []
    await node.report(node.topics.status(node.name), NodeStatus(addresses=said, public_key=key))


async def until_place(node: Peer, of: str, address: str, key: str = "") -> None:
    """Until that is told of a node."""

    async def told() -> bool:
        return await place(node, of) == (address, key)

    await wait_for_async(told, what=f"{of} at {address}")


def test_a_node_cannot_claim_what_another_has(
    cluster: HubDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = "a" * 42 + "Y=", "a" * 42 + "Z="  # one key, written in two ways

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            await says(one, "192.0.2.1", mine)
            await until_place(two, "gw-1", "192.0.2.1", mine)
            await says(two, "::ffff:192.0.2.1", other)
            await wait_for_async(
                lambda: (
                    "address of node gw-2: it says that this is ::ffff:192.0.2.1, which is that of node gw-1"
                    in caplog.text
                ),
                what="the warning",
            )
            assert "public key of node gw-2: it says" in caplog.text
            assert await place(one, "gw-2") == ("", "")
            assert await place(two, "gw-1") == ("192.0.2.1", mine)
        # The first claim stands although that node is not heard of.
        cluster.lose_retained()
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            await says(two, "192.0.2.1", "b" * 42 + "Y=")
            await until_place(one, "gw-2", "", "b" * 42 + "Y=")
            # It gives the address up, and whoever waits for it gets it.
            await says(one, "192.0.2.2", mine)
            await until_place(two, "gw-1", "192.0.2.2", mine)
            await until_place(one, "gw-2", "192.0.2.1", "b" * 42 + "Y=")

    asyncio.run(run())


@pytest.mark.parametrize("address", ["10.42.1.1", "10.43.0.10"])
def test_a_node_cannot_claim_an_address_of_pods_or_services(
    cluster: HubDirectory, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            await says(one, address)
            await wait_for_async(lambda: f"{address} is in the" in caplog.text, what="the warning")
            assert "NodeNetwork /gw-1" in caplog.text
            assert await place(two, "gw-1") == ("", "")

    asyncio.run(run())


def test_a_node_that_is_added_has_its_place_at_once(cluster: HubDirectory) -> None:
    async def run() -> None:
        clock = ManualClock(SystemClock().now())  # stands still: nothing settles
        async with cluster.hub(clock=clock) as hub, cluster.peer("gw-1") as one:
            cluster.add_node("gw-3")
            hub.reload()
            await wait_for_async(lambda: _with(one, "NodeNetwork//gw-3"), what="the place of the new node")
            async with cluster.peer("gw-3") as three:
                await wait_for_async(lambda: _with(three, "NodeNetwork//gw-3"), what="its own place")
                assert (await three.index()).generation == 1

    asyncio.run(run())
