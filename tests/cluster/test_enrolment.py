"""Devices enrol at a real Mosquitto with a running hub; what strangers do there gives them nothing."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.cli.edgehub import main
from edgeagent.cluster.admin import NewToken, approve, delete_token, deny, end_node, list_tokens
from edgeagent.cluster.enrolmentdesk import BURST, MAX_UNDER_WAY
from edgeagent.cluster.nodes import list_nodes
from edgeagent.cluster.store import MIGRATIONS, Store
from edgeagent.cluster.tokens import MAX_FAILURES
from edgeagent.node.enrolment import PendingKeys
from edgeagent.wire.certificates import read_certificate
from edgeagent.wire.enrolment import new_channel, new_token
from edgeagent.wire.session import Message
from tests.cluster.enrolkit import members, refusal, token
from tests.support.device import Device, Stranger
from tests.support.hubrun import HubDirectory, Peer
from tests.support.waiting import wait_for_async


def test_a_device_enrols_and_is_a_member(cluster: HubDirectory, tmp_path: Path) -> None:
    made = token(cluster)

    async def run() -> None:
        async with cluster.hub():
            join = await Device(tmp_path / "a", "gw-1").enrol(made)
            cluster.joins["gw-1"] = join
            async with cluster.peer("gw-1") as node:
                await wait_for_async(lambda: members(cluster) == ["gw-1"])
                index = await node.index("gw-1")
                assert index.node == "gw-1"

    asyncio.run(run())
    for path in cluster.files.root.glob("hub.db*"):
        assert made.text.partition(".")[2].encode() not in path.read_bytes()


def test_an_operator_decides_where_the_token_says_so(cluster: HubDirectory, tmp_path: Path) -> None:
    made = token(cluster, approval="manual", uses=2)
    good, bad = Device(tmp_path / "a", "gw-1"), Device(tmp_path / "b", "gw-2")

    async def run() -> None:
        async with cluster.hub():
            asking = asyncio.create_task(good.enrol(made))
            await wait_for_async(lambda: any("approve gw-1" in one for one in good.told))
            assert members(cluster) == []
            decided = await approve(cluster.files, "gw-1", SystemClock())
            join = await asking
            assert any(decided.enrolment.fingerprint in one for one in good.told)
            assert read_certificate(join.certificate).public_key == decided.enrolment.public_key
            refused = asyncio.create_task(refusal(bad, made))
            await wait_for_async(lambda: any("approve gw-2" in one for one in bad.told))
            deny(cluster.files, "gw-2", "not ours", SystemClock())
            assert "an operator denied it: not ours" in await refused
        with pytest.raises(PermanentError, match="no device waits for approval as 'gw-2'"):
            await approve(cluster.files, "gw-2", SystemClock())
        assert members(cluster) == ["gw-1"]

    asyncio.run(run())


def test_a_device_that_was_interrupted_goes_on_with_the_same_request(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    made = token(cluster, approval="manual")
    device = Device(tmp_path / "a", "gw-1")

    async def run() -> None:
        async with cluster.hub():
            for _ in range(2):
                asking = asyncio.create_task(device.enrol(made))
                await wait_for_async(lambda: any("approve gw-1" in one for one in device.told))
                device.told.clear()
                asking.cancel()
                await asyncio.wait([asking])
        # Decided while neither the hub nor the device was there.
        await approve(cluster.files, "gw-1", SystemClock())
        async with cluster.hub():
            await device.enrol(made)
        assert list_tokens(cluster.files, SystemClock())[0].used == 1
        assert not PendingKeys(device.files).path.exists()

    asyncio.run(run())


def test_what_a_token_does_not_allow_is_refused_with_what_to_do(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    once, pattern, short = token(cluster), token(cluster, names="gw-?", uses=5), token(cluster, ttl=1.0)
    deleted = token(cluster)
    delete_token(cluster.files, deleted.token.id, SystemClock())

    async def run() -> None:
        async with cluster.hub():
            await Device(tmp_path / "a", "other").enrol(once)
            used = await refusal(Device(tmp_path / "b", "gw-2"), once)
            assert "used as often as it may be (1)" in used
            assert "`edgehub token create` makes a new one" in used
            named = await refusal(Device(tmp_path / "c", "gateway"), pattern)
            assert "for nodes called gw-?, not gateway" in named
            await Device(tmp_path / "d", "gw-1").enrol(pattern)
            assert "--replace --name gw-1" in await refusal(Device(tmp_path / "e", "gw-1"), pattern)
            assert "hub's own name" in await refusal(Device(tmp_path / "f", "hub"), token(cluster))
            await wait_for_async(lambda: time.time() > short.token.expires)
            assert "expired at" in await refusal(Device(tmp_path / "g", "gw-3"), short)
            assert "was deleted" in await refusal(Device(tmp_path / "h", "gw-3"), deleted)
            unknown = await refusal(Device(tmp_path / "i", "gw-3"), once, text=new_token().text)
            assert "does not know this token" in unknown
            assert "nobody vouches" in unknown
            guessed = f"{pattern.token.id}.{new_token().secret}"
            assert unknown == await refusal(Device(tmp_path / "j", "gw-3"), once, text=guessed)
        assert members(cluster) == ["gw-1", "other"]

    asyncio.run(run())


def test_a_token_ends_by_requests_that_name_it_without_having_it(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    made = token(cluster)
    guessed = f"{made.token.id}.{new_token().secret}"

    async def run() -> None:
        async with cluster.hub():
            for number in range(MAX_FAILURES):
                await refusal(Device(tmp_path / str(number), "gw-1"), made, text=guessed)
            assert "too many requests named it" in await refusal(Device(tmp_path / "x", "gw-1"), made)

    asyncio.run(run())
    assert list_tokens(cluster.files, SystemClock())[0].failed == MAX_FAILURES


def test_two_devices_may_use_a_token_for_two(cluster: HubDirectory, tmp_path: Path) -> None:
    made = token(cluster, uses=2)

    async def run() -> None:
        async with cluster.hub():
            await asyncio.gather(*(Device(tmp_path / n, n).enrol(made) for n in ("gw-1", "gw-2")))
            assert "used as often" in await refusal(Device(tmp_path / "c", "gw-3"), made)

    asyncio.run(run())
    assert members(cluster) == ["gw-1", "gw-2"]


def test_without_a_hub_or_a_broker_the_device_is_told_what_to_look_at(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    made = token(cluster)

    async def run() -> None:
        device = Device(tmp_path / "a", "gw-1")
        assert "no hub of cluster 'plant' answers" in await refusal(device, made, patience=0.5)
        # The broker's own listener wants a certificate.
        told = await refusal(device, made, broker=cluster.address, patience=0.5)
        assert "must be the broker's listener for enrolment" in told
        cluster.broker.terminate()
        assert "Connection refused" in await refusal(device, made, patience=0.5)

    asyncio.run(run())


async def _recorded(cluster: HubDirectory, device: Device, made: NewToken) -> list[Message]:
    """What the broker sees of an enrolment, both ways."""
    async with cluster.peer("hub") as spy:
        prefix = cluster.topics.prefix
        await spy.session.subscribe([f"{prefix}enrolment/+/request", f"{prefix}enrolment/+/answer"])
        await device.enrol(made)
        await spy.barrier()
        return [one for one in spy.messages if "/enrolment/" in one.topic]


def test_a_captured_request_gives_another_client_nothing(cluster: HubDirectory, tmp_path: Path) -> None:
    made = token(cluster, uses=5)
    device = Device(tmp_path / "a", "gw-1")

    async def run() -> None:
        async with cluster.hub():
            seen = await _recorded(cluster, device, made)
            request = next(one for one in seen if one.topic.endswith("/request"))
            answer = next(one for one in seen if one.topic.endswith("/answer"))
            # Neither holds the secret, nor a private key.
            secret = made.text.partition(".")[2].encode()
            for one in seen:
                assert secret not in one.payload
                assert b"PRIVATE KEY" not in one.payload
            async with Stranger(cluster.enrol_address) as stranger, cluster.peer("hub") as hub:
                # Under another client id the request is for nobody.
                await stranger.ask(cluster.topics, request.payload)
                await Device(tmp_path / "b", "gw-2").enrol(made)
                await hub.barrier()
                assert stranger.messages == []
            channel = cluster.topics.levels(request.topic)[1]
            async with Stranger(cluster.enrol_address, channel=channel) as stranger:
                # Under the same it gets what the device got: a certificate for a key that it has not.
                await stranger.ask(cluster.topics, request.payload)
                await wait_for_async(lambda: stranger.messages)
                assert stranger.messages[0].payload == answer.payload
        assert list_tokens(cluster.files, SystemClock())[0].used == 2
        assert members(cluster) == ["gw-1", "gw-2"]

    asyncio.run(run())


def test_a_broker_that_changes_an_answer_is_not_believed(cluster: HubDirectory, tmp_path: Path) -> None:
    """Whoever owns the broker can say anything: the device goes on waiting for what the token vouches for."""
    made, other = token(cluster), token(cluster)
    device = Device(tmp_path / "a", "gw-1")

    async def run() -> None:
        async with cluster.peer("hub") as broker:
            prefix = cluster.topics.prefix
            await broker.session.subscribe([f"{prefix}enrolment/+/request"])
            asking = asyncio.create_task(device.enrol(made, patience=30.0))
            await wait_for_async(lambda: broker.messages)
            request = broker.messages[0]
            topic = cluster.topics.enrolment_answer(cluster.topics.levels(request.topic)[1])
            async with cluster.hub():
                seen = await _recorded(cluster, Device(tmp_path / "b", "gw-2"), other)
                theirs = next(one.payload for one in seen if one.topic.endswith("/answer"))
            for payload in (b"", b"junk", theirs, theirs[:-1] + b"x", bytes(300_000)):
                await broker.session.publish(topic, payload)
            await wait_for_async(lambda: sum("cannot be believed" in one for one in device.told) == 5)
            assert not asking.done()
            async with cluster.hub():
                assert (await asking).node == "gw-1"

    asyncio.run(run())


@pytest.mark.parametrize("name", ["hub", "gw-1", "user:admin", "anybody"])
@pytest.mark.parametrize("password", [[], ["-P", ""], ["-P", "x"]])
def test_nobody_comes_under_a_name_at_the_listener_for_enrolment(
    cluster: HubDirectory, name: str, password: list[str]
) -> None:
    """Names are those of certificates, at the other listener."""
    who = ["-h", "127.0.0.1", "-p", str(cluster.enrol_address.port), "--insecure", "-u", name, *password]
    who += ["--cafile", str(cluster.files.ca_certificate), "-V", "5", "-t", "elsewhere", "-m", "forged"]
    done = subprocess.run(["mosquitto_pub", *who], capture_output=True, timeout=20, check=False)
    assert done.returncode != 0
    assert b"Not authorized" in done.stderr


def test_a_stranger_reaches_the_own_two_topics_alone(cluster: HubDirectory) -> None:
    """With Mosquitto's own clients."""
    cluster.add_node("gw-1")
    topics, channel = cluster.topics, "0" * 32
    forbidden = [
        topics.desired("gw-1"), topics.status("gw-1"), topics.online("gw-1"), topics.object("0" * 64),
        topics.node_rpc("gw-1", "logs"), topics.hub_rpc("user:admin", "apply"), topics.replies("hub", "x"),
        topics.enrolment_answer("f" * 32), topics.enrolment_request("f" * 32),
        topics.enrolment_answer(channel), "elsewhere",
    ]  # fmt: skip
    who = ["-h", "127.0.0.1", "-p", str(cluster.enrol_address.port), "--insecure", "-i", channel]
    who += ["--cafile", str(cluster.files.ca_certificate), "-V", "5"]

    async def client(*argv: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)

    async def run() -> None:
        async with cluster.hub(), cluster.peer("hub") as hub:
            await hub.session.subscribe(["#"])
            for topic in forbidden:
                writer = await client("mosquitto_pub", *who, "-q", "1", "-r", "-t", topic, "-m", "forged")
                _, said = await writer.communicate()
                assert b"Not authorized" in said, topic
            reader = await client("mosquitto_sub", *who, "-v", "-C", "1", "-W", "20", "-t", "#")
            own = topics.enrolment_answer(channel)

            async def publish() -> None:
                while True:  # it says nowhere when it has subscribed
                    for topic in (*forbidden[:-2], own):
                        await hub.session.publish(topic, b"real")
                    await asyncio.sleep(0.1)

            publishing = asyncio.create_task(publish())
            heard, _ = await reader.communicate()
            publishing.cancel()
            assert heard.decode().split() == [own, "real"]
            await hub.barrier()
            assert b"forged" not in [one.payload for one in hub.messages]

    asyncio.run(run())


def test_a_nodes_certificate_gives_nothing_there(cluster: HubDirectory, tmp_path: Path) -> None:
    device = Device(tmp_path / "a", "gw-1")
    topics = cluster.topics

    async def run() -> None:
        async with cluster.hub():
            await device.enrol(token(cluster))
            async with Stranger(cluster.enrol_address, keys=device.files) as node:
                await node.session.subscribe([topics.desired("gw-1"), topics.object("+")])
                for topic in (topics.status("gw-1"), topics.online("gw-1"), topics.events("gw-1")):
                    with pytest.raises(PermanentError, match="refused"):
                        await node.session.publish(topic, b"x")
                await node.session.subscribe([topics.enrolment_answer(node.channel)])
                async with cluster.peer("hub") as hub:
                    await hub.session.publish(topics.enrolment_answer(node.channel), b"barrier")
                await wait_for_async(lambda: node.messages)
                assert [one.payload for one in node.messages] == [b"barrier"]

    asyncio.run(run())


def test_a_flood_of_requests_is_passed_over_and_leaves_nothing_on_the_broker(
    cluster: HubDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = token(cluster)

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("hub") as spy:
            async with Stranger(cluster.enrol_address) as stranger:
                topic = cluster.topics.enrolment_request(stranger.channel)
                await stranger.session.publish(topic, bytes(100_000), retain=True)
                for number in range(int(BURST) + 50):
                    await stranger.session.publish(topic, b"junk %d" % number, retain=True)
            assert hub.ready.is_set()
            # What a stranger retains is cleared, and the hub goes on.
            await wait_for_async(lambda: _nothing_retained(spy, topic), what="the topic to be cleared")
            await Device(tmp_path / "a", "gw-1").enrol(made)

    asyncio.run(run())
    passed_over = [one for one in caplog.records if "passed over" in one.getMessage()]
    assert len(passed_over) == 1
    assert members(cluster) == ["gw-1"]


async def _nothing_retained(spy: Peer, topic: str) -> bool:
    return await spy.read(topic, absent=True) == b""


def test_what_strangers_retained_while_the_hub_was_away_is_cleared(cluster: HubDirectory) -> None:
    """All of it: it is more than may be answered at a time."""
    requests = cluster.topics.enrolment_request("+")

    async def run() -> None:
        async with cluster.peer("hub") as peer:
            for _ in range(4 * MAX_UNDER_WAY):
                topic = cluster.topics.enrolment_request(new_channel())
                await peer.session.publish(topic, b"left here", retain=True)

            async def left() -> int:
                count = len(peer.messages)
                await peer.session.subscribe([requests])
                await peer.barrier()
                await peer.session.unsubscribe([requests])
                return sum(1 for message in peer.messages[count:] if message.payload == b"left here")

            assert await left() == 4 * MAX_UNDER_WAY
            async with cluster.hub():

                async def clear() -> bool:
                    return await left() == 0

                await wait_for_async(clear)

    asyncio.run(run())


def test_a_cluster_without_a_listener_for_enrolment_gets_one_and_closes_it(
    stopped_cluster: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that was made by an edgehub that knew none: its configuration, settings and schema."""
    cluster, files = stopped_cluster, stopped_cluster.files
    where = ["--dir", str(files.root)]
    assert main(["broker", "configure", "--no-enrol-listen", *where]) == 0
    files.revocation_list.unlink()
    files.mosquitto_passwords.unlink()
    files.database.unlink()
    old = Store(files.database, migrations=MIGRATIONS[:1], create=True)
    old.execute("INSERT INTO nodes VALUES ('gw-0', 'uid', '2026-01-01T00:00:00Z', x'', 'ab', 3)")
    old.close()
    assert main(["token", "create", *where]) == 1
    assert "`edgehub broker configure --enrol-listen ADDR:PORT` adds one" in capsys.readouterr().err
    assert main(["broker", "configure", "--enrol-listen", f"127.0.0.1:{cluster.port}", *where]) == 1
    address = f"127.0.0.1:{cluster.enrol_address.port}"
    assert main(["broker", "configure", "--enrol-listen", address, *where]) == 0
    assert address in capsys.readouterr().out
    cluster.start_broker()

    async def run() -> None:
        async with cluster.hub():
            await Device(tmp_path / "a", "gw-1").enrol(token(cluster))
            await end_node(files, "gw-0", SystemClock(), remove=False)

    asyncio.run(run())
    assert [(node.name, node.state) for node in list_nodes(files)] == [
        ("gw-0", "revoked"),
        ("gw-1", "member"),
    ]


@pytest.mark.parametrize("names", ["*", "??*"])
def test_no_token_lets_its_bearer_take_the_place_of_any_node(cluster: HubDirectory, names: str) -> None:
    with pytest.raises(InvalidObjectError, match="name: is required where the token may replace a node"):
        token(cluster, replace=True, names=names)
    assert token(cluster, replace=True, names="gw-*").token.replace
