"""Streams on a real cluster: logs that are followed and ports that are forwarded, through a real broker."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.hubclient import HubClient
from edgeagent.cli.hubstreams import open_stream
from edgeagent.cli.operatorfile import read_operator_file
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, Channels
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.rpc import RpcError
from edgeagent.wire.session import Message, MqttSession, SessionConfig
from edgeagent.wire.streamapi import FollowParams, LogChannel, PortChannel, PortForwardParams
from edgeagent.wire.tls import client_context
from edgeagent.wire.topics import Topics
from tests.support.cluster import CLUSTER, AgentProcess, Cluster, Link, container, pod
from tests.support.podman import PodmanService
from tests.support.proc import free_port
from tests.support.waiting import wait_for

COUNT = "i=0; while true; do i=$((i+1)); echo line $i; usleep 20000; done"
SERVE = "mkdir /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 127.0.0.1:{port} -h /tmp/www"


@pytest.fixture
def site(podman: PodmanService, tmp_path: Path) -> Iterator[tuple[Cluster, AgentProcess]]:
    """A cluster of one node."""
    with Cluster(tmp_path / "site", podman) as cluster:
        node = cluster.add_node("n1")
        node.start()
        wait_for(lambda: cluster.get("node", "n1"), 30, "the node at the hub")
        yield cluster, node


@contextlib.asynccontextmanager
async def followed(
    cluster: Cluster,
    params: FollowParams,
    config: Path | None = None,
    *,
    on_pause: Callable[[str], None] = lambda _why: None,
    on_resume: Callable[[], None] = lambda: None,
) -> AsyncIterator[Channels]:
    """A stream of logs, of the admin or of who has ``config``."""
    operator = read_operator_file(config or cluster.hub_dir / "operator.json")
    async with (
        HubClient(operator) as hub,
        open_stream(hub, "follow", params, on_pause=on_pause, on_resume=on_resume) as channels,
    ):
        yield channels


async def log_of(channels: Channels) -> tuple[str, Channel]:
    channel = await channels.accept()
    channel.accept()
    return decode_json(channel.value, LogChannel).container, channel


async def rest(channel: Channel) -> bytes:
    text = b""
    while data := await channel.read():
        text += data
    return text


class Counted:
    """Reads the lines of ``COUNT``, each of which must be the next one."""

    def __init__(self, channel: Channel) -> None:
        self.last = 0
        self._channel = channel
        self._held = b""

    async def up_to(self, number: int) -> None:
        """Read until the last line is the one of this number, or a later one."""
        while self.last < number:
            data = await self._channel.read()
            assert data, "the log ended"
            *lines, self._held = (self._held + data).split(b"\n")
            for line in lines:
                assert line == b"line %d" % (self.last + 1)
                self.last += 1


def run(work: Awaitable[None], seconds: float = 90.0) -> None:
    async def within() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(within())


def test_logs_are_followed_to_their_end_and_read_in_parts(site: tuple[Cluster, AgentProcess]) -> None:
    cluster, _ = site
    first = "echo old; sleep 2; echo early; sleep 2; for i in 1 2 3; do echo $i; sleep 1; done"
    cluster.apply(
        pod(
            "count", "n1", [container("a", ["sh", "-c", first]), container("b", ["sh", "-c", "echo hello"])],
            restartPolicy="Never",
        )
    )  # fmt: skip

    async def work() -> None:
        wanted = FollowParams(namespace="default", pod="count", all_containers=True)
        async with followed(cluster, wanted) as channels:
            logs = dict([await log_of(channels), await log_of(channels)])
            assert await rest(logs["b"]) == b"hello\n"
            assert await rest(logs["a"]) == b"old\nearly\n1\n2\n3\n"
            assert (await channels.ended()).reason == ""
        wanted = FollowParams(namespace="default", pod="count", container="a", follow=False, tail_lines=2)
        async with followed(cluster, wanted) as channels:
            assert await rest((await log_of(channels))[1]) == b"2\n3\n"
        wanted = FollowParams(namespace="default", pod="count", container="a", timestamps=True)
        async with followed(cluster, wanted) as channels:
            lines = (await rest((await log_of(channels))[1])).splitlines()
            times = [time.mktime(time.strptime(line[:19].decode(), "%Y-%m-%dT%H:%M:%S")) for line in lines]
            assert times == sorted(times)
        for bad, why in (
            (FollowParams(namespace="default", pod="none"), "not found"),
            (FollowParams(namespace="default", pod="count"), "a container name must be specified"),
            (FollowParams(namespace="default", pod="count", container="x"), "not valid"),
            (FollowParams(namespace="default", pod="count", container="a", previous=True), "previous"),
        ):
            with pytest.raises(RpcError, match=why):
                async with followed(cluster, bad):
                    pass

    cluster.wait_phase("count", "Running")
    run(work())


def test_a_connection_that_is_cut_costs_nothing_but_time(podman: PodmanService, tmp_path: Path) -> None:
    """The node's, and then the broker itself: no line is lost and none comes twice."""
    with Cluster(tmp_path / "site", podman) as cluster:
        node = cluster.add_node("n1")
        link = Link(cluster, node)
        link.mend()
        node.start()
        cluster.apply(pod("count", "n1", [container("main", ["sh", "-c", COUNT])]))
        cluster.wait_phase("count", "Running")
        said: list[str] = []

        async def work() -> None:
            wanted = FollowParams(namespace="default", pod="count")
            async with followed(
                cluster, wanted, on_pause=lambda _: said.append("pause"),
                on_resume=lambda: said.append("resume"),
            ) as channels:  # fmt: skip
                _, channel = await log_of(channels)
                counted = Counted(channel)
                await counted.up_to(30)
                await asyncio.to_thread(link.cut)
                await asyncio.sleep(1.0)  # meanwhile the container goes on
                await asyncio.to_thread(link.mend)
                await counted.up_to(counted.last + 200)
                assert said == [], "this side's connection held"
                await asyncio.to_thread(cluster.broker.kill)
                await asyncio.to_thread(cluster.start_broker)
                await counted.up_to(counted.last + 200)
                assert said == ["pause", "resume"]

        try:
            run(work())
        finally:
            link.process.kill()


def test_a_chatty_container_holds_up_neither_memory_nor_the_nodes_own_messages(
    site: tuple[Cluster, AgentProcess],
) -> None:
    cluster, node = site
    cluster.apply(pod("chatty", "n1", [container("main", ["yes", "x" * 200])]))
    cluster.wait_phase("chatty", "Running")

    async def work() -> None:
        async with followed(cluster, FollowParams(namespace="default", pod="chatty")) as channels:
            _, channel = await log_of(channels)
            amount = 0

            async def read() -> None:
                nonlocal amount
                while True:
                    amount += len(await channel.read())

            reading = asyncio.create_task(read())
            began = time.monotonic()
            await asyncio.to_thread(cluster.apply, pod("other", "n1", [container("main", ["sleep", "1000"])]))
            await asyncio.to_thread(cluster.wait_phase, "other", "Running", 20)
            assert time.monotonic() - began < 20
            await asyncio.sleep(3)
            seconds = time.monotonic() - began
            reading.cancel()
            assert 0.2 * seconds * (1 << 20) < amount < 1.2 * (seconds * (1 << 20) + 400_000), (
                amount / seconds
            )
            # A reader who does not read costs the node a window, however much is printed.
            before = _memory(node)
            await asyncio.sleep(2)
            assert _memory(node) - before < 4_000_000

    run(work())


def _memory(node: AgentProcess) -> int:
    rows = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS")) * 1024


def test_who_owns_the_broker_makes_nothing_up(site: tuple[Cluster, AgentProcess]) -> None:
    """Every packet, both ways, comes three times more, changed and as it was, and rubbish with it."""
    cluster, _ = site
    cluster.apply(pod("count", "n1", [container("main", ["sh", "-c", COUNT])]))
    cluster.wait_phase("count", "Running")

    async def work() -> None:
        wanted = FollowParams(namespace="default", pod="count")
        async with Owner(cluster) as owner, followed(cluster, wanted) as channels:
            _, channel = await log_of(channels)
            counted = Counted(channel)
            await counted.up_to(150)
            assert owner.seen["nodes"] > 3
            assert owner.seen["replies"] > 10
            assert channels.over is None
            await owner.again()
            await counted.up_to(counted.last + 100)
            assert not any(b"line" in payload for payload in owner.said), "and nothing is in clear"

    run(work())


class Owner:
    """Who owns the broker: each packet of a stream comes again as it was, changed, cut, and with rubbish."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: Counter[str] = Counter()
        self._topics = Topics(CLUSTER)
        self._said: dict[bytes, Message] = {}
        self._made: set[bytes] = set()
        self._ready = asyncio.Event()
        self._new: asyncio.Queue[Message] = asyncio.Queue()
        files = [cluster.hub_dir / name for name in ("ca.crt", "hub.crt", "hub.key")]
        self._session = MqttSession(
            SessionConfig(
                addresses=[BrokerAddress(host="127.0.0.1", port=cluster.port, tls=True)],
                client_id="owner",
                tls=client_context(*files),
            ),
            clock=SystemClock(),
            rng=random.Random(1),
            on_message=self._heard,
            on_connect=lambda _: self._ready.set(),
            on_disconnect=lambda _: None,
        )

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._session.run())]
        await self._ready.wait()
        prefix = self._topics.prefix
        await self._session.subscribe([f"{prefix}nodes/+/streams/#", f"{prefix}replies/#"])
        self._tasks.append(asyncio.create_task(self._meddle()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _heard(self, message: Message) -> None:
        if message.payload not in self._made and message.payload not in self._said:
            self._said[message.payload] = message
            self._new.put_nowait(message)

    @property
    def said(self) -> list[bytes]:
        """All that was said on topics of streams and answers."""
        return list(self._said)

    async def _meddle(self) -> None:
        while True:
            message = await self._new.get()
            self.seen[self._topics.levels(message.topic)[0]] += 1
            payload = message.payload
            changed = payload[:-1] + bytes([payload[-1] ^ 1])
            await self._say(message, payload, changed, payload[:20], b"", b"rubbish", bytes(100_000))

    async def _say(self, message: Message, *payloads: bytes) -> None:
        for payload in payloads:
            self._made.add(payload)
            await self._session.publish(message.topic, payload, correlation=message.correlation)

    async def again(self) -> None:
        """Say all once more that was ever said."""
        for message in list(self._said.values()):
            await self._say(message, message.payload)


def test_a_stream_ends_with_the_right_to_it(site: tuple[Cluster, AgentProcess]) -> None:
    """A binding that is taken back, or a certificate that is revoked, ends what is open already."""
    cluster, node = site
    cluster.apply(pod("count", "n1", [container("main", ["sh", "-c", COUNT])]))
    cluster.wait_phase("count", "Running")
    config = cluster.directory / "ann.json"
    cluster.edgehub("operator", "add", "ann", "--role", "viewer", "--output", str(config))
    wanted = FollowParams(namespace="default", pod="count")

    async def work() -> None:
        async with asyncio.timeout(30):
            while True:  # until the node has the index with the new binding
                try:
                    async with followed(cluster, wanted, config):
                        break
                except RpcError as error:
                    if error.reason != "Forbidden":
                        raise
        async with followed(cluster, wanted, config) as channels:
            _, channel = await log_of(channels)
            await Counted(channel).up_to(20)
            bindings = cluster.get("clusterrolebindings")["items"]
            name = next(
                one["metadata"]["name"] for one in bindings
                if any(subject["name"] == "ann" for subject in one["subjects"])
            )  # fmt: skip
            await asyncio.to_thread(cluster.ctl, "delete", "clusterrolebinding", name)
            over = await channels.ended()
            assert over.reason == "Forbidden"
            assert 'user "ann" cannot get resource "pods/log"' in str(over)

    run(work())
    rows = json.loads(node.run("audit", "-o", "json").stdout)["rows"]
    assert ("ann", "follow", "allowed") in [(row["operator"], row["method"], row["verdict"]) for row in rows]


def test_an_agent_that_stops_says_so(site: tuple[Cluster, AgentProcess]) -> None:
    cluster, node = site
    cluster.apply(pod("count", "n1", [container("main", ["sh", "-c", COUNT])]))
    cluster.wait_phase("count", "Running")

    async def work() -> None:
        async with followed(cluster, FollowParams(namespace="default", pod="count")) as channels:
            _, channel = await log_of(channels)
            await Counted(channel).up_to(20)
            await asyncio.to_thread(node.process.terminate)
            over = await channels.ended()
            assert over.reason == "ServiceUnavailable"

    run(work())


def test_ports_are_forwarded(site: tuple[Cluster, AgentProcess]) -> None:
    cluster, _ = site
    port = free_port()
    cluster.apply(pod("web", "n1", [container("main", ["sh", "-c", SERVE.format(port=port)])]))
    cluster.wait_phase("web", "Running")
    operator = read_operator_file(cluster.hub_dir / "operator.json")
    wanted = PortForwardParams(namespace="default", pod="web")

    async def page(channels: Channels) -> bytes:
        channel = await channels.open("port", canonical_json(PortChannel(port=port)))
        await channel.write(b"GET / HTTP/1.0\r\n\r\n")
        channel.end_writing()
        text = await rest(channel)
        channel.close()
        return text

    async def work() -> None:
        async with HubClient(operator) as hub, open_stream(hub, "portforward", wanted) as channels:
            deadline = asyncio.get_running_loop().time() + 10
            while True:
                try:
                    assert b"hello" in await page(channels)
                    break
                except PermanentError as error:
                    if error.reason != "ConnectionRefused" or asyncio.get_running_loop().time() > deadline:
                        raise
            pages = await asyncio.gather(*(page(channels) for _ in range(20)))
            assert all(b"hello" in one for one in pages)
            with pytest.raises(PermanentError, match="refused"):
                await channels.open("port", canonical_json(PortChannel(port=free_port())))
            with pytest.raises(PermanentError, match="65535"):
                await channels.open("port", b'{"port":70000}')
            with pytest.raises(PermanentError, match="no channel"):
                await channels.open("other")
            await asyncio.to_thread(cluster.ctl, "delete", "pod", "web")
            over = await channels.ended()
            assert (over.reason, "deleted" in str(over)) == ("NotFound", True)

    run(work())
