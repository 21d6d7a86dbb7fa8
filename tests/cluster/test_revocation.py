"""Nodes that are revoked, removed or replaced are out at once: at the hub and at a real Mosquitto."""

import asyncio
import json
import socket
import ssl
from functools import partial
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.cli.edgehub import main
from edgeagent.cluster.admin import end_node
from edgeagent.cluster.nodes import list_nodes
from edgeagent.wire.clientid import client_id
from edgeagent.wire.tls import client_context
from tests.cluster.enrolkit import members, refusal, token
from tests.support.device import Device
from tests.support.hubrun import HubDirectory, Peer
from tests.support.waiting import wait_for_async


async def _nothing_retained(spy: Peer, topic: str) -> bool:
    return await spy.read(topic, absent=True) == b""


def _client_id(cluster: HubDirectory, name: str) -> str:
    return client_id(cluster.topics.cluster, name, cluster.joins[name].sealing_key)


@pytest.mark.parametrize("remove", [False, True])
def test_a_node_that_is_no_member_any_more_is_out_at_once(
    cluster: HubDirectory, tmp_path: Path, remove: bool
) -> None:
    topics = cluster.topics

    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("hub") as spy, cluster.peer("user:admin") as admin:
            cluster.joins["gw-1"] = await Device(tmp_path / "a", "gw-1").enrol(token(cluster))
            async with cluster.peer("gw-1", client_id=_client_id(cluster, "gw-1")) as node:
                await node.online()
                await wait_for_async(lambda: hub.settled)
                done = await end_node(cluster.files, "gw-1", SystemClock(), remove=remove)
                assert (done.refuses, done.problem) == (True, "")
                await wait_for_async(lambda: any("REVOKED" in one.upper() for one in node.lost))
                assert node.session.connection is None
                for topic in (topics.desired("gw-1"), topics.online("gw-1"), topics.status("gw-1")):
                    await wait_for_async(partial(_nothing_retained, spy, topic), what=topic)
            assert admin.session.connection is not None
            assert members(cluster) == []
            if remove:
                await Device(tmp_path / "b", "gw-1").enrol(token(cluster))
            else:
                assert "gw-1 was revoked" in await refusal(Device(tmp_path / "b", "gw-1"), token(cluster))
                await Device(tmp_path / "c", "gw-1").enrol(token(cluster, replace=True, names="gw-1"))
        assert members(cluster) == ["gw-1"]

    asyncio.run(run())


def test_a_session_that_cannot_be_found_can_do_nothing_any_more(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    """With another client id than the hub knows: the connection stays, but the name has no rights."""
    topics = cluster.topics

    async def run() -> None:
        async with cluster.hub(), cluster.peer("hub") as hub:
            cluster.joins["gw-1"] = await Device(tmp_path / "a", "gw-1").enrol(token(cluster))
            async with cluster.peer("gw-1") as node:
                await node.session.subscribe([topics.node_rpc("gw-1", "+"), topics.object("+")])
                await node.barrier()
                node.messages.clear()
                await end_node(cluster.files, "gw-1", SystemClock(), remove=False)
                assert node.session.connection is not None
                for topic in (topics.status("gw-1"), topics.events("gw-1"), topics.hub_rpc("gw-1", "renew")):
                    with pytest.raises(PermanentError, match="refused"):
                        await node.session.publish(topic, b"x")
                await hub.session.publish(topics.node_rpc("gw-1", "logs"), b"secret")
                await hub.session.publish(topics.object("0" * 64), b"secret")
                await hub.barrier()
                await node.session.unsubscribe([topics.object("+")])  # whatever was sent has come by then
                assert node.messages == []

    asyncio.run(run())


def test_a_new_board_takes_the_place_of_a_dead_one_and_the_old_one_stays_out(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    async def run() -> None:
        async with cluster.hub():
            cluster.joins["gw-1"] = await Device(tmp_path / "a", "gw-1").enrol(token(cluster))
            async with cluster.peer("gw-1", client_id=_client_id(cluster, "gw-1")) as old:
                before = await old.index()
                new = Device(tmp_path / "b", "gw-1")
                cluster.joins["gw-1"] = await new.enrol(token(cluster, replace=True, names="gw-1"))
                await wait_for_async(lambda: any("REVOKED" in one.upper() for one in old.lost))
                async with cluster.peer("gw-1") as board:
                    # The generation goes on rising, and the new board reports under the old name.
                    await wait_for_async(lambda: old.session.connection is None)
                    assert (await board.index()).generation >= before.generation
                    await board.online()
                assert old.session.connection is None

    asyncio.run(run())
    assert [node.name for node in list_nodes(cluster.files)] == ["gw-1"]


def test_a_tls_session_from_before_does_not_get_around_a_revocation(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    """A resumed session shows no certificate: the broker must not take it for one that was checked."""
    device = Device(tmp_path / "a", "gw-1")
    hello = bytes.fromhex("101000044d5154540402003c0004") + b"abcd"

    def connect(
        context: ssl.SSLContext, session: ssl.SSLSession | None
    ) -> tuple[bytes, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", cluster.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
        ):
            secured.sendall(hello)
            return secured.recv(4), secured.session

    async def run() -> None:
        async with cluster.hub():
            await device.enrol(token(cluster))
            context = client_context(device.files.ca, device.files.certificate, device.files.private_key)
            answer, session = await asyncio.to_thread(connect, context, None)
            assert answer[:1] == b"\x20"
            assert session is not None
            await end_node(cluster.files, "gw-1", SystemClock(), remove=False)
            with pytest.raises(OSError, match=r"(?i)revoked|reset|eof|broken"):
                await asyncio.to_thread(connect, context, session)

    asyncio.run(run())


def test_a_broker_that_was_away_follows_when_it_comes_back(cluster: HubDirectory, tmp_path: Path) -> None:
    device = Device(tmp_path / "a", "gw-1")

    async def run() -> None:
        async with cluster.hub() as hub:
            cluster.joins["gw-1"] = await device.enrol(token(cluster))
            cluster.broker.terminate()
            await wait_for_async(lambda: not hub.ready.is_set())
            done = await end_node(cluster.files, "gw-1", SystemClock(), remove=False)
            assert not done.refuses
            assert "cannot be reached" in done.problem
            cluster.start_broker()
            await wait_for_async(hub.ready.is_set)
            old = cluster.peer("gw-1")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2), old:
                    pass

    asyncio.run(run())


def test_a_node_added_by_file_is_revoked_like_any_other(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("gw-1", client_id=_client_id(cluster, "gw-1")) as node:
            await end_node(cluster.files, "gw-1", SystemClock(), remove=False)
            await wait_for_async(lambda: any("REVOKED" in one.upper() for one in node.lost))

    asyncio.run(run())


def test_the_commands_say_it_to_people_and_to_programs(
    cluster: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--dir", str(cluster.files.root)]

    def out(*words: str, code: int = 0) -> str:
        assert main([*words, *where]) == code
        return capsys.readouterr().out

    text = out("token", "create", "--name", "gw-*", "--uses", "3", "--ttl", "90m", "--approval", "manual")
    port = cluster.enrol_address.port
    assert f"--cluster plant --broker 127.0.0.1:{port} --name NAME" in text
    assert "edgeagent enroll --token " in text
    made = json.loads(out("token", "create", "--name", "gw-1", "--replace", "-o", "json"))
    assert made["command"].endswith("--name gw-1")
    assert made["token"].startswith(made["id"] + ".")
    listed = json.loads(out("token", "list", "-o", "json"))
    assert [(one["names"], one["uses"], one["state"]) for one in listed] == [
        ("gw-*", 3, "Active"),
        ("gw-1", 1, "Active"),
    ]
    assert made["token"] not in json.dumps(listed)
    assert "gw-*" in out("token", "list")
    assert "deleted" in out("token", "delete", made["id"])
    assert json.loads(out("enrolment", "list", "-o", "json")) == []
    for words in (
        ("token", "delete", "nobody"),
        ("token", "create", "--ttl", "soon"),
        ("token", "create", "--ttl", "10000h"),
        ("token", "create", "--uses", "0"),
        ("token", "create", "--name", "Not [a] name"),
        ("enrolment", "approve", "gw-1"),
        ("enrolment", "deny", "gw-1"),
        ("node", "revoke", "gw-1"),
        ("node", "remove", "gw-1"),
    ):
        out(*words, code=1)
    cluster.add_node("gw-2")
    assert json.loads(out("node", "revoke", "gw-2", "-o", "json")) == {
        "name": "gw-2", "state": "revoked", "brokerRefuses": True, "problem": "",
    }  # fmt: skip
    assert json.loads(out("node", "list", "-o", "json"))[0]["state"] == "revoked"
    assert "removed" in out("node", "remove", "gw-2")
    assert json.loads(out("node", "list", "-o", "json")) == []


def test_without_the_key_of_the_ca_a_session_is_ended_all_the_same(
    cluster: HubDirectory, tmp_path: Path
) -> None:
    async def run() -> None:
        async with cluster.hub():
            cluster.joins["gw-1"] = await Device(tmp_path / "a", "gw-1").enrol(token(cluster))
            key = cluster.files.ca_key.read_bytes()
            async with cluster.peer("gw-1", client_id=_client_id(cluster, "gw-1")) as node:
                cluster.files.ca_key.unlink()
                done = await end_node(cluster.files, "gw-1", SystemClock(), remove=False)
                assert not done.refuses
                assert "list of revoked certificates cannot be signed" in done.problem
                await wait_for_async(lambda: node.lost)
            cluster.files.ca_key.write_bytes(key)
            # Asked again, it is done whole.
            assert (await end_node(cluster.files, "gw-1", SystemClock(), remove=False)).refuses

    asyncio.run(run())
