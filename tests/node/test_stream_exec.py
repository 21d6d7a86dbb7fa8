"""The service ``exec`` on a fake runtime: what no real one can be made to show at will.

The command's end of the connection is the test's. Real commands are in ``tests/e2e/test_local_streams.py``.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.objects.decode import decode_json
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.plugins.hosted import HostedPlugin
from edgeagent.node.streams.exec import ExecService
from edgeagent.node.streams.execoutput import MultiplexedOutput
from edgeagent.node.streams.service import StreamRequest, run_stream
from edgeagent.testing.runtime import FakeSession
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, Channels
from edgeagent.wire.socketlink import SocketLink
from edgeagent.wire.streamapi import (
    CONTROL,
    EXIT,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    ExecParams,
    ExecPrivate,
    ExitStatus,
    TerminalSize,
)
from tests.node.podworld import PodWorld, container, pod
from tests.support.waiting import wait_for_async

Scenario = Callable[["Node"], Awaitable[None]]


class Asked:
    """The operator's side of one command."""

    def __init__(self, channels: Channels, task: "asyncio.Task[None]") -> None:
        self.channels = channels
        self.task = task
        self.opened: dict[str, Channel] = {}

    async def accept(self, *kinds: str) -> None:
        """The channels that the node opens."""
        while set(self.opened) != set(kinds):
            channel = await self.channels.accept()
            channel.accept()
            self.opened[channel.kind] = channel

    async def exit_status(self) -> ExitStatus:
        """How the command ended."""
        asked = await self.opened[CONTROL].next_request()
        assert asked is not None
        assert asked[0] == EXIT
        return decode_json(asked[1], ExitStatus)


class Node:
    """A node with a pod of one container that runs, and one of two."""

    def __init__(self, world: PodWorld) -> None:
        self.world = world
        runtime = RuntimeFacade(cast(HostedPlugin, world.plugin))
        self.service = ExecService(world.manager, runtime)

    @asynccontextmanager
    async def ask(
        self, *command: str, columns: int = 0, rows: int = 0, **params: object
    ) -> AsyncIterator[Asked]:
        """A command, over a real socket; what is left of it when the block ends is ended."""
        wanted = ExecParams(namespace="default", pod=str(params.pop("pod", "a")), **params)  # type: ignore[arg-type]
        private = ExecPrivate(command=list(command or ["sh"]), columns=columns, rows=rows)
        request = StreamRequest(msgspec.Raw(canonical_json(wanted)), canonical_json(private))
        serve = await self.service.open(request)
        ours, theirs = socket.socketpair()
        client, server = SocketLink(ours, client=True), SocketLink(theirs, client=False)
        links = [asyncio.ensure_future(link.run()) for link in (client, server)]
        task = asyncio.ensure_future(run_stream(serve, server.channels))
        try:
            yield Asked(client.channels, task)
        finally:
            client.channels.end("ClientClosed", "")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)
            for link in links:
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)

    async def session(self) -> FakeSession:
        """The newest session, once there is one."""
        await wait_for_async(lambda: bool(self.world.runtime.sessions), what="the command")
        found = list(self.world.runtime.sessions.values())[-1]
        found.command.setblocking(False)
        return found


def on_node(directory: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with PodWorld(directory) as world:
            await world.apply(pod("a"), pod("two", container("one"), container("other")))
            try:
                async with asyncio.timeout(30):
                    await scenario(Node(world))
            finally:
                for session in world.runtime.sessions.values():
                    session.command.close()

    asyncio.run(main())


def frame(stream: int, data: bytes) -> bytes:
    """As Docker and Podman have it."""
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


async def say(session: FakeSession, data: bytes) -> None:
    """The command says something."""
    await asyncio.get_running_loop().sock_sendall(session.command, data)


async def hear(session: FakeSession) -> bytes:
    """What the command reads next."""
    return await asyncio.get_running_loop().sock_recv(session.command, 65_536)


def test_a_command_from_its_start_to_its_exit_code(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("cat", "-", stdin=True) as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            session = await node.session()
            assert (session.options.command, session.options.stdin, session.options.tty) == (
                ["cat", "-"],
                True,
                False,
            )
            stdin = await asked.channels.open(STDIN)
            await stdin.write(b"hello")
            assert await hear(session) == b"hello"
            stdin.end_writing()
            assert await hear(session) == b""
            session.exit_code = 3
            await say(session, frame(1, b"out") + frame(2, b"err"))
            session.command.close()
            assert await asked.opened[STDOUT].read() == b"out"
            assert await asked.opened[STDERR].read() == b"err"
            assert await asked.opened[STDOUT].read() == b""
            assert await asked.exit_status() == ExitStatus(exit_code=3)
            assert (await asked.channels.ended()).reason == ""
        assert session.signals == []

    on_node(tmp_path, scenario)


def test_a_terminal(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh", stdin=True, tty=True, columns=80, rows=24) as asked:
            await asked.accept(CONTROL, STDOUT)
            session = await node.session()
            assert (session.options.tty, session.options.columns, session.options.rows) == (True, 80, 24)
            control = asked.opened[CONTROL]
            for kind, value in (
                (RESIZE, canonical_json(TerminalSize(columns=100, rows=30))),
                ("unheard-of", b"{}"),
                (RESIZE, b'{"columns":"wide"}'),
                (RESIZE, canonical_json(TerminalSize(columns=10, rows=3))),
            ):
                await control.request(kind, value)
            await wait_for_async(lambda: len(session.sizes) == 2, what="both sizes")
            assert session.sizes == [(100, 30), (10, 3)]
            await say(session, b"\x01\x02raw")
            assert await asked.opened[STDOUT].read() == b"\x01\x02raw"
            session.exit_code = 0
            session.command.close()
            assert await asked.exit_status() == ExitStatus(exit_code=0)

    on_node(tmp_path, scenario)


@pytest.mark.parametrize("tty", [False, True])
def test_the_line_is_hung_up_when_the_other_side_goes(tmp_path: Path, tty: bool) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh", stdin=True, tty=tty) as asked:
            await asked.accept(CONTROL, STDOUT, *([] if tty else [STDERR]))
            session = await node.session()
            session.exit_code = 129
        assert session.signals == [signal.SIGHUP]
        assert await hear(session) == b""
        assert node.world.calls("exec_exit_code") == 1, "nothing is left of it"

    on_node(tmp_path, scenario)


def test_who_lost_the_right_has_the_command_killed(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh", stdin=True, tty=True) as asked:
            await asked.accept(CONTROL, STDOUT)
            session = await node.session()
            asked.channels.end("Forbidden", "the binding is gone")
            await wait_for_async(lambda: session.signals == [signal.SIGKILL], what="the kill")

    on_node(tmp_path, scenario)


def test_an_agent_that_stops_hangs_up(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh", tty=True) as asked:
            await asked.accept(CONTROL, STDOUT)
            session = await node.session()
            asked.task.cancel()
            over = await asked.channels.ended()
            assert (over.reason, str(over)) == ("ServiceUnavailable", "the agent stops")
            assert session.signals == [signal.SIGHUP]

    on_node(tmp_path, scenario)


def test_the_other_side_goes_while_the_command_is_about_to_start(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.world.plugin.hold = "start_exec"
        async with node.ask("sh", tty=True) as asked:
            await asked.accept(CONTROL, STDOUT)
            await wait_for_async(lambda: len(node.world.plugin.held) == 1, what="the call")
            asked.channels.end("ClientClosed", "")
            await asked.channels.ended()
            await asyncio.sleep(0.05)
            node.world.plugin.release()
        session = await node.session()
        assert session.signals == [signal.SIGHUP]
        assert await hear(session) == b""

    on_node(tmp_path, scenario)


def test_output_waits_for_who_reads_it(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("yes", tty=True) as asked:
            await asked.accept(CONTROL, STDOUT)
            session = await node.session()
            writing = asyncio.ensure_future(say(session, bytes(8_000_000)))
            await asyncio.wait({writing}, timeout=0.3)
            assert not writing.done(), "nobody keeps megabytes for a reader who does not read"
            stdout, count = asked.opened[STDOUT], 0
            while count < 8_000_000:
                count += len(await stdout.read())
            await writing
            assert count == 8_000_000

    on_node(tmp_path, scenario)


def test_input_waits_for_the_command(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sleep", stdin=True, tty=True) as asked:
            await asked.accept(CONTROL, STDOUT)
            session = await node.session()
            stdin = await asked.channels.open(STDIN)
            writing = asyncio.ensure_future(stdin.write(bytes(4_000_000)))
            await asyncio.wait({writing}, timeout=0.3)
            assert not writing.done()
            # What the command says comes through all the same.
            await say(session, b"busy")
            assert await asked.opened[STDOUT].read() == b"busy"
            writing.cancel()

    on_node(tmp_path, scenario)


def test_output_that_nobody_wants_is_dropped_and_the_command_ends(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("yes") as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            session = await node.session()
            asked.opened[STDOUT].close()
            await say(session, frame(1, bytes(2_000_000)) + frame(2, b"still here"))
            assert await asked.opened[STDERR].read() == b"still here"
            session.exit_code = 0
            session.command.close()
            assert (await asked.exit_status()).exit_code == 0

    on_node(tmp_path, scenario)


def test_a_command_that_reads_no_more_is_no_error(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("head", stdin=True) as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            session = await node.session()
            session.command.shutdown(socket.SHUT_RD)
            stdin = await asked.channels.open(STDIN)
            with contextlib.suppress(EdgeAgentError):
                await stdin.write(bytes(200_000))
            session.exit_code = 0
            await say(session, frame(1, b"done"))
            session.command.close()
            assert await asked.opened[STDOUT].read() == b"done"
            assert (await asked.exit_status()).exit_code == 0

    on_node(tmp_path, scenario)


@pytest.mark.parametrize(
    ("reason", "words"), [("ContainerNotRunning", "the container ended"), ("CommandRuns", "runs on")]
)
def test_an_exit_code_that_nobody_knows(tmp_path: Path, reason: str, words: str) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh") as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            session = await node.session()
            node.world.fail("exec_exit_code", TemporaryError(words, reason=reason))
            session.command.close()
            assert await asked.exit_status() == ExitStatus(exit_code=137, message=words)
        assert session.signals == []

    on_node(tmp_path, scenario)


def test_output_that_is_not_in_frames_ends_the_stream(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh") as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            session = await node.session()
            await say(session, b"this is no frame")
            assert (await asked.channels.ended()).reason == "RuntimeError"
            await wait_for_async(lambda: session.signals == [signal.SIGHUP], what="the hang-up")

    on_node(tmp_path, scenario)


@pytest.mark.parametrize(("stdin", "kind"), [(False, STDIN), (True, "port")])
def test_channels_that_were_not_asked_for(tmp_path: Path, stdin: bool, kind: str) -> None:
    async def scenario(node: Node) -> None:
        async with node.ask("sh", stdin=stdin) as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            await node.session()
            with pytest.raises(EdgeAgentError, match="is expected here"):
                await asked.channels.open(kind)

    on_node(tmp_path, scenario)


@pytest.mark.parametrize(
    ("params", "command", "words"),
    [
        ({"pod": "absent"}, ["sh"], 'pods "absent" not found'),
        ({"pod": "two"}, ["sh"], "a container name must be specified for pod two"),
        ({"container": "absent"}, ["sh"], "container absent is not valid"),
        ({}, [""], "must name a program"),
    ],
)
def test_what_cannot_be_asked_for(
    tmp_path: Path, params: dict[str, object], command: list[str], words: str
) -> None:
    async def scenario(node: Node) -> None:
        with pytest.raises(EdgeAgentError, match=words):
            async with node.ask(*command, **params):  # type: ignore[arg-type]
                pass

    on_node(tmp_path, scenario)


def test_a_container_that_does_not_run(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.world.fail("start_container", TemporaryError("not now"), times=100)
        await node.world.end("a", 1)
        with pytest.raises(EdgeAgentError, match='container "main" is not running') as caught:
            async with node.ask("sh"):
                pass
        assert getattr(caught.value, "reason", "") == "BadRequest"

    on_node(tmp_path, scenario)


def test_a_command_that_cannot_be_started(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.world.fail("start_exec", TemporaryError("Podman is away", reason="RuntimeUnavailable"))
        async with node.ask("sh") as asked:
            await asked.accept(CONTROL, STDOUT, STDERR)
            over = await asked.channels.ended()
            assert (over.reason, str(over)) == ("RuntimeUnavailable", "Podman is away")

    on_node(tmp_path, scenario)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=60)), max_size=12),
    st.lists(st.integers(1, 25), min_size=1, max_size=10),
)
def test_frames_however_they_are_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    whole = b"".join(frame(stream, data) for stream, data in frames)
    output, found, place, turn = MultiplexedOutput(), {STDOUT: b"", STDERR: b""}, 0, 0
    while place < len(whole):
        size = cuts[turn % len(cuts)]
        for kind, part in output.feed(whole[place : place + size]):
            found[kind] += part
        place, turn = place + size, turn + 1
    assert found[STDOUT] == b"".join(data for stream, data in frames if stream == 1)
    assert found[STDERR] == b"".join(data for stream, data in frames if stream == 2)


@given(st.binary(min_size=8, max_size=100))
def test_noise_is_output_or_refused(noise: bytes) -> None:
    with contextlib.suppress(TemporaryError):
        for kind, _ in MultiplexedOutput().feed(noise):
            assert kind in (STDOUT, STDERR)
