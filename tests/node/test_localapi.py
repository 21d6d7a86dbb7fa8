"""The local socket as a technician uses it: real HTTP, Kubernetes' paths and shapes; nothing wedges it."""

import asyncio
import json
import os
import resource
import socket
import stat
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.network import Rows
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.service import Protocol
from edgeagent.node import localapi
from edgeagent.node.localapi import AT_ONCE, LocalApi
from edgeagent.node.networkreads import NetworkReads
from edgeagent.node.reads import NodeReads
from edgeagent.node.store.audit import AuditLog
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Outbox
from tests.node.podworld import PodWorld, container, pod
from tests.node.usagekit import usage_reads


class UnixConnection(HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("node", timeout=20)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


class AskedNetwork:
    """Answers as the network plugin's facade does, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.error: EdgeAgentError | None = None

    async def show(self, what: Rows) -> list[dict[str, str]]:
        """One row."""
        if self.error is not None:
            raise self.error
        self.asked.append((what,))
        return [{"name": "site", "hits": "7"}]

    async def trace(self, source: str, target: str, port: int, protocol: Protocol) -> list[str]:
        """Two lines."""
        self.asked.append((source, target, port, protocol))
        return ["from a", "allowed"]


class Door:
    """A node with two pods behind a real socket."""

    def __init__(self, directory: Path, world: PodWorld) -> None:
        self.world = world
        self.path = directory / "run" / "api.sock"
        self.network = AskedNetwork()
        self.audit: AuditLog | None = None
        reads = NodeReads(
            name="n1",
            pods=world.manager,
            status=NodeStatus,
            usage=usage_reads(pods=world.manager),
            network=self.network,
            audit=lambda: self.audit,
        )
        self.api = LocalApi(
            self.path, reads, services={}, agent_status=lambda: {"generation": world.generation}
        )

    async def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """One request on a connection of its own."""
        return await asyncio.to_thread(self._ask, path, method)

    def _ask(self, path: str, method: str) -> tuple[int, bytes]:
        connection = UnixConnection(self.path)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", "node")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def json(self, path: str, status: int = 200) -> Any:
        """The answer as JSON."""
        code, body = await self.ask(path)
        assert code == status, body
        return json.loads(body)


def with_door(directory: Path, scenario: Callable[[Door], Awaitable[None]]) -> None:
    async def main() -> None:
        async with PodWorld(directory) as world:
            await world.apply(pod("a"), pod("two", container("one"), container("other")))
            door = Door(directory, world)
            door.api.start()
            try:
                await scenario(door)
            finally:
                await door.api.stop()
            assert not door.path.exists()

    asyncio.run(main())


def test_paths_and_shapes(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        assert await door.ask("/healthz") == (200, b"ok")
        assert await door.json("/edge/v1/status") == {"generation": 1}
        nodes = await door.json("/api/v1/nodes")
        assert (nodes["kind"], nodes["items"][0]["metadata"]["name"]) == ("List", "n1")
        assert (await door.json("/api/v1/nodes/n1"))["kind"] == "Node"
        pods = await door.json("/api/v1/pods")
        assert [item["metadata"]["name"] for item in pods["items"]] == ["a", "two"]
        assert (await door.json("/api/v1/namespaces/default/pods")) == pods
        assert (await door.json("/api/v1/namespaces/elsewhere/pods"))["items"] == []
        one = await door.json("/api/v1/namespaces/default/pods/a?pretty=true")
        assert (one["kind"], one["status"]["phase"]) == ("Pod", "Running")

    with_door(tmp_path, scenario)


ROWS = get_args(Rows)


def test_the_network(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        for what in ROWS:
            found = await door.json(f"/edge/v1/network/{what}")
            assert found == {"columns": ["name", "hits"], "rows": [{"name": "site", "hits": "7"}]}
        assert [one[0] for one in door.network.asked] == list(ROWS)
        way = "/edge/v1/network/trace?from=default/web&to=fd43::1&port=53&protocol=UDP"
        assert (await door.json(way))["lines"] == ["from a", "allowed"]
        assert door.network.asked[-1] == ("default/web", "fd43::1", 53, "UDP")
        for wrong in (
            "nonsense",
            "trace?port=x",
            "trace?port=-1",
            "trace?protocol=ICMP",
            "trace?port=1234567",
        ):
            assert (await door.json(f"/edge/v1/network/{wrong}", 400))["reason"] == "BadRequest", wrong
        for error, status in (
            (PermanentError("no such pod", reason="NotFound"), 404),
            (TemporaryError("try again", reason="NetworkNotReady"), 503),
            (TemporaryError("nft", reason="NetworkFailed"), 500),
        ):
            door.network.error = error
            failure = await door.json("/edge/v1/network/drops", status)
            assert failure["message"] == str(error)

    with_door(tmp_path, scenario)


def test_an_answer_about_the_network_has_a_limit_and_a_node_may_have_none() -> None:
    async def scenario() -> None:
        reads = NetworkReads(AskedNetwork())
        raw = msgspec.Raw(b'{"what": "drops"}')
        assert not (await reads.call(raw, 100)).truncated
        cut = await reads.call(raw, 20)
        assert (cut.rows, cut.truncated) == ([], True)
        with pytest.raises(InvalidObjectError):
            await reads.call(msgspec.Raw(b'{"what": "secrets"}'), 100)
        with pytest.raises(PermanentError, match="plugins list"):
            await NetworkReads(None).call(raw, 100)

    asyncio.run(scenario())


def test_logs(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        log = tmp_path / "container.log"
        log.write_bytes(b"T stdout F one\nT stdout F two\nT stderr F three\n")
        running = door.world.running("a")
        door.world.runtime._change(running.id, log_path=str(log))
        await door.world.advance(1800)
        path = "/api/v1/namespaces/default/pods/a/log"
        assert await door.ask(path) == (200, b"one\ntwo\nthree\n")
        assert await door.ask(path + "?tailLines=1&timestamps=true") == (200, b"T three\n")
        assert await door.ask(path + "?tailLines=0") == (200, b"")
        failure = await door.json(path + "?previous=true", 400)
        assert "previous terminated container" in failure["message"]
        failure = await door.json("/api/v1/namespaces/default/pods/two/log", 400)
        assert "[one other]" in failure["message"]
        assert "not valid" in (await door.json(path + "?container=x", 400))["message"]
        for bad in ("-1", "1.5", "x", "%D9%A1", "9" * 400):
            failure = await door.json(f"{path}?tailLines={bad}", 400)
            assert "tailLines" in failure["message"]
        log.unlink()
        assert (await door.json(path, 404))["reason"] == "NotFound"

    with_door(tmp_path, scenario)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/api", "/api/v1/pods/a", "/api/v1/nodes/other", "/api/v1/namespaces/default/pods/absent",
        "/api/v1/namespaces/default/pods/absent/log", "/api/v1/namespaces/x/pods/a", "/..//../etc/passwd",
        "/api/v1/secrets", "//[", "/%00", "/" + "x" * 10_000,
    ],
)  # fmt: skip
def test_what_is_not_there(tmp_path: Path, path: str) -> None:
    async def scenario(door: Door) -> None:
        failure = await door.json(path, 404)
        assert (failure["kind"], failure["status"], failure["code"]) == ("Status", "Failure", 404)
        assert failure["reason"] == "NotFound"

    with_door(tmp_path, scenario)


def test_what_is_no_request_we_know(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        for method, expected in (("POST", 405), ("DELETE", 501), ("PUT", 501)):
            code, _ = await door.ask("/api/v1/pods", method)
            assert code == expected
        code, _ = await door.ask("http://[/")
        assert code == 400
        code, _ = await door.ask("/" + "x" * 100_000)
        assert code == 414
        assert await door.ask("/healthz") == (200, b"ok")

    with_door(tmp_path, scenario)


def test_noise_and_cut_connections_do_no_harm(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        for noise in (
            b"",
            b"\r\n",
            b"\x00" * 100,
            b"GET",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n",
        ):
            raw = socket.socket(socket.AF_UNIX)
            raw.connect(str(door.path))
            raw.sendall(noise)
            raw.close()
        assert await _again(door)

    with_door(tmp_path, scenario)


async def _again(door: Door) -> bool:
    """Whether the door opens, in its own time: a thread may still be at the end of an earlier connection."""
    while True:
        try:
            return await door.ask("/healthz") == (200, b"ok")
        except (OSError, HTTPException):
            await asyncio.sleep(0)


def test_one_connection_carries_many_requests(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        def many() -> list[int]:
            connection = UnixConnection(door.path)
            codes = []
            for _ in range(20):
                connection.request("GET", "/api/v1/pods")
                answer = connection.getresponse()
                answer.read()
                codes.append(answer.status)
            connection.close()
            return codes

        assert await asyncio.to_thread(many) == [200] * 20

    with_door(tmp_path, scenario)


def test_more_connections_than_there_is_room_for(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        held = [UnixConnection(door.path) for _ in range(AT_ONCE)]

        def hold() -> None:
            for connection in held:
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b"ok"

        await asyncio.to_thread(hold)
        with pytest.raises((OSError, HTTPException)):
            await door.ask("/healthz")
        for connection in held:
            connection.close()
        assert await _again(door)

    with_door(tmp_path, scenario)


def test_the_socket_is_its_owners_and_replaces_one_left_behind(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        assert stat.S_IMODE(door.path.stat().st_mode) == 0o600
        assert await door.ask("/healthz") == (200, b"ok")

    (tmp_path / "run").mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "run" / "api.sock"))
    stale.close()
    with_door(tmp_path, scenario)


def _bug() -> dict[str, object]:
    raise KeyError("absent")


def test_a_bug_behind_the_door_is_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(door: Door) -> None:
        door.api._agent_status = _bug
        failure = await door.json("/edge/v1/status", 500)
        assert failure["reason"] == "InternalError"
        assert "absent" not in failure["message"]
        assert await door.ask("/healthz") == (200, b"ok")

    with_door(tmp_path, scenario)
    assert "KeyError" in caplog.text


def test_with_no_descriptor_free_the_agent_does_not_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(localapi, "ACCEPT_PAUSE_SECONDS", 0.05)

    async def scenario(door: Door) -> None:
        client = UnixConnection(door.path)
        client.sock = socket.socket(socket.AF_UNIX)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        probe = os.dup(0)
        os.close(probe)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
            client.sock.connect(str(door.path))
            for _ in range(100):  # the connection is there: the loop meets it in its first turn
                await asyncio.sleep(0)
            assert "cannot be accepted" in caplog.text
            assert caplog.text.count("cannot be accepted") <= 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        def ask() -> bytes:
            client.request("GET", "/healthz")
            return client.getresponse().read()

        assert await asyncio.to_thread(ask) == b"ok"
        client.close()

    with_door(tmp_path, scenario)


def test_a_stop_while_somebody_waits_for_an_answer(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        connection = UnixConnection(door.path)
        connection.connect()
        await _again(door)
        await door.api.stop()
        connection.close()

    with_door(tmp_path, scenario)


def test_the_audit_log_is_read_and_checked(tmp_path: Path) -> None:
    async def scenario(door: Door) -> None:
        assert (await door.json("/edge/v1/audit?tail=5", 404))["reason"] == "NotFound"
        database = Database(tmp_path / "audit.db", now=0.0)
        door.audit = AuditLog(database, Outbox(database))
        for number in range(3):
            door.audit.append("ann", "logs", f"p{number}", "allowed", "", f"n{number}", 1e9)
        found = await door.json("/edge/v1/audit?tail=2")
        assert [row["target"] for row in found["rows"]] == ["p1", "p2"]
        assert (found["head"]["sequence"], found["findings"]) == (3, [])
        with database.durable() as connection:
            connection.execute("DELETE FROM audit WHERE sequence = 2")
        assert "row 2 is missing" in (await door.json("/edge/v1/audit?tail=2"))["findings"][0]
        for tail in ("", "x", "-1", "9999999"):
            await door.json(f"/edge/v1/audit?tail={tail}", 400)
        database.close()

    with_door(tmp_path, scenario)
