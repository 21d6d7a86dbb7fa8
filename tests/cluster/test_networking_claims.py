"""Where nodes and pods are, as nodes say it: what is believed, kept, and refused."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.network import NodeNetwork, PodAddress
from edgeagent.api.objects.node import NodeAddress, NodeStatus
from edgeagent.api.objects.pod import Pod, PodIP, PodSpec, PodStatus
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.certificates import record_certificate
from edgeagent.cluster.networking import UNCONFIRMED_SECONDS
from edgeagent.cluster.store import Store
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.networkkey import NetworkKey, encode_network_key
from edgeagent.wire.reports import ANNOTATION_MIRROR, PodReport
from tests.cluster.networkkit import (
    has,
    policy,
    report,
    service,
    two_nodes,
    until_told,
    web,
)
from tests.support.broker import MOSQUITTO
from tests.support.hubrun import HubDirectory, Peer, pod
from tests.support.waiting import wait_for_async


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HubDirectory]:
    """A hub with addresses to give, and two members."""
    yield from two_nodes(tmp_path)


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
            await wait_for_async(lambda: has(two, "Service/default/later"), what="the service")
            found = (await two.objects())["NodeNetwork//gw-1"]
            assert isinstance(found, NodeNetwork)
            assert (found.spec.pod_cidrs, found.spec.address) == (["10.42.0.0/24"], "")
        assert caplog.text.count("NodeNetwork /gw-1") == 1

    asyncio.run(run())


def test_a_node_for_which_no_range_is_left_is_the_only_onelacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")

    async def run() -> None:
        async with small.hub(), small.peer("user:admin") as admin, small.peer("gw-2") as two:
            await admin.apply(service(), pod("a", "gw-2"))
            await wait_for_async(lambda: has(two, "Service/default/web", "Pod/default/a"), what="both")
            found = await two.objects()
            assert "NodeNetwork//gw-1" in found
            assert "NodeNetwork//gw-2" not in found
        assert caplog.text.count("no pod range is left") == 1

    with HubDirectory(tmp_path, network=ClusterNetwork(pod_cidrs=["10.42.0.0/24"])) as small:
        small.add_node("gw-1")
        small.add_node("gw-2")
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


async def says(node: Peer, address: str, key: str = "", proof: bytes | None = None) -> None:
    """Where the node says that it is; the key with its own proof unless there is another."""
    said = [NodeAddress(type="InternalIP", address=address)] if address else []
    if proof is None:
        proof = node.network_key(key) if key else b""
    status = NodeStatus(addresses=said, public_key=key, public_key_proof=proof)
    await node.report(node.topics.status(node.name), status)


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


def test_whoever_owns_the_broker_puts_no_key_in_the_place_of_a_nodes(
    cluster: HubDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    mine, forged = "a" * 42 + "Y=", "b" * 42 + "Y="

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            for first, proof in (("192.0.2.1", b""), ("192.0.2.2", one.network_key(mine))):
                await says(one, first, forged, proof)
                await until_place(two, "gw-1", first, "")
            assert "proof of the public key of node gw-1: nodes are not told the key bbb" in caplog.text
            await says(one, "192.0.2.3", mine)
            await until_place(two, "gw-1", "192.0.2.3", mine)
            # What another member signs counts for that one alone.
            for now, proof in (
                ("192.0.2.4", b""),
                ("192.0.2.5", one.network_key(mine)),
                ("192.0.2.6", two.network_key(forged)),
                ("192.0.2.7", b"junk"),
            ):
                await says(one, now, forged, proof)
                await until_place(two, "gw-1", now, mine)
            await says(one, "192.0.2.8", forged)
            await until_place(two, "gw-1", "192.0.2.8", forged)

    asyncio.run(run())


def test_the_key_of_a_certificate_just_given_signs_too(cluster: HubDirectory) -> None:
    key, tls = "a" * 42 + "Y=", PrivateKey.generate()
    store = Store(cluster.files.database)
    try:
        authorities = load_authorities(cluster.files, SystemClock())
        signed = authorities.sign(tls.request("gw-1"), "gw-1", 30)
        with store.transaction():
            record_certificate(store, "gw-1", signed.certificate, now=SystemClock().now(), state="pending")
    finally:
        store.close()

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1") as one, cluster.peer("gw-2") as two:
            said = NetworkKey(cluster="plant", node="gw-1", public_key=key)
            await says(one, "192.0.2.1", key, encode_network_key(said, tls))
            await until_place(two, "gw-1", "192.0.2.1", key)

    asyncio.run(run())
