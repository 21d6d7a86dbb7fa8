"""Streams at the node's unix socket, on a real Podman: what a technician has with no hub and no network.

The channels are worked with as a program does; the programs themselves have tests of their own.
https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.localclient import LocalError
from edgeagent.cli.localstreams import open_local_stream
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, Channels
from edgeagent.wire.streamapi import (
    CONTROL,
    EXEC,
    EXIT,
    FOLLOW,
    LOG,
    PORT,
    PORT_FORWARD,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    ExecParams,
    ExecPrivate,
    ExitStatus,
    FollowParams,
    PortChannel,
    PortForwardParams,
    TerminalSize,
)
from tests.plugins.test_podman_exec import commands
from tests.support.lone import LoneAgent, static_pod
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for, wait_for_async

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lone(podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent with a network for pods."""
    with LoneAgent(tmp_path_factory.mktemp("lone"), podman_service, name="streams") as agent:
        yield agent
        agent.clear()
        agent.assert_nothing_left()


@pytest.fixture(scope="module")
def pod(lone: LoneAgent) -> Iterator[str]:
    """A pod that runs throughout; its name on the node."""
    listener = ["nc", "-ll", "-p", "7000", "-e", "echo", "pong"]
    with lone.running(static_pod("shell", ["sleep", "3600"], listener, hostNetwork=False)):
        yield lone.full_name("shell")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(main())


class Command:
    """A command that is under way."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.opened: dict[str, Channel] = {}
        self.out = bytearray()

    async def accept(self, *kinds: str) -> None:
        """The channels that the node opens."""
        while set(self.opened) != set(kinds):
            channel = await self.channels.accept()
            channel.accept()
            self.opened[channel.kind] = channel

    async def read_until(self, text: bytes) -> None:
        """Until ``text`` is among the output."""
        while text not in self.out:
            data = await self.opened[STDOUT].read()
            assert data, bytes(self.out)
            self.out += data

    async def exit_code(self) -> int:
        """How it ended."""
        asked = await self.opened[CONTROL].next_request()
        assert asked is not None
        assert asked[0] == EXIT
        return decode_json(asked[1], ExitStatus).exit_code


def execute(
    lone: LoneAgent,
    pod: str,
    command: list[str],
    scenario: Callable[[Command], Awaitable[None]],
    *,
    columns: int = 0,
    rows: int = 0,
    **params: object,
) -> None:
    """Run ``command`` in the pod's container ``main``, and ``scenario`` with it."""

    async def main() -> None:
        wanted = ExecParams(namespace="default", pod=pod, container="main", **params)  # type: ignore[arg-type]
        private = ExecPrivate(command=command, columns=columns, rows=rows)
        async with open_local_stream(lone.run_dir / "api.sock", EXEC, wanted, private) as channels:
            found = Command(channels)
            await found.accept(CONTROL, STDOUT, *([] if params.get("tty") else [STDERR]))
            await scenario(found)

    run(main)


async def read_all(channel: Channel) -> bytes:
    """To the end."""
    found = bytearray()
    while data := await channel.read():
        found += data
    return bytes(found)


@pytest.mark.installed
def test_output_errors_and_exit_code(lone: LoneAgent, pod: str) -> None:
    async def scenario(command: Command) -> None:
        assert await read_all(command.opened[STDOUT]) == b"out\n"
        assert await read_all(command.opened[STDERR]) == b"err\n"
        assert await command.exit_code() == 3
        assert (await command.channels.ended()).reason == ""

    execute(lone, pod, ["sh", "-c", "echo out; echo err >&2; exit 3"], scenario)
    log = lone.agent.process.tail(200)
    assert f"opens exec in default/{pod}/main" in log
    assert f"process {os.getpid()} of user 0" in log


def test_a_terminal_of_a_size_that_changes(lone: LoneAgent, pod: str) -> None:
    async def scenario(command: Command) -> None:
        stdin = await command.channels.open(STDIN)
        await stdin.write(b"stty size; echo a-$((1+1))\n")
        await command.read_until(b"a-2")
        assert b"33 91" in command.out
        size = canonical_json(TerminalSize(columns=120, rows=50))
        await command.opened[CONTROL].request(RESIZE, size)
        await stdin.write(b"until [ \"$(stty size)\" = '50 120' ]; do sleep 0.05; done; exit 7\n")
        await read_all(command.opened[STDOUT])
        assert await command.exit_code() == 7

    execute(lone, pod, ["sh"], scenario, stdin=True, tty=True, columns=91, rows=33)


def test_megabytes_through_the_node_cost_it_no_memory(lone: LoneAgent, pod: str) -> None:
    def anonymous() -> int:
        text = Path(f"/proc/{lone.agent.process.pid}/smaps_rollup").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("Anonymous:")]
        return int(line.split()[1]) * 1024

    sent = os.urandom(1 << 20) * 24

    async def scenario(command: Command) -> None:
        stdin = await command.channels.open(STDIN)

        async def write() -> None:
            await stdin.write(sent)
            stdin.end_writing()

        before = anonymous()
        writing = asyncio.ensure_future(write())
        await asyncio.wait({writing}, timeout=1.0)  # nobody reads meanwhile
        assert not writing.done()
        assert anonymous() - before < 4 << 20
        found = await read_all(command.opened[STDOUT])
        await writing
        assert hashlib.sha256(found).digest() == hashlib.sha256(sent).digest()
        assert anonymous() - before < 4 << 20
        assert await command.exit_code() == 0

    execute(lone, pod, ["cat"], scenario, stdin=True)


@pytest.mark.parametrize("tty", [False, True])
def test_a_session_that_is_cut_leaves_no_command(lone: LoneAgent, pod: str, tty: bool) -> None:
    async def scenario(command: Command) -> None:
        await command.read_until(b"ready")

    execute(lone, pod, ["sh", "-c", "echo ready; sleep 1234"], scenario, stdin=True, tty=tty)
    container = lone.container("shell").id
    wait_for(
        lambda: not any("1234" in line for line in commands(container)),
        what="the command and its monitor to end",
    )


def test_nohup_outlives_its_session(lone: LoneAgent, pod: str) -> None:
    async def scenario(command: Command) -> None:
        await command.read_until(b"ready")

    execute(lone, pod, ["sh", "-c", "trap '' HUP; echo ready; sleep 2; echo over > /survived"], scenario)
    wait_for(lambda: lone.exec("shell", "cat", "/survived", check=False).stdout == "over\n", what="its work")


def test_the_container_ends_under_the_command(lone: LoneAgent) -> None:
    with lone.running(static_pod("short", restartPolicy="Never")):

        async def scenario(command: Command) -> None:
            await command.read_until(b"ready")
            await asyncio.to_thread(lone.podman.run, "kill", lone.container("short").id)
            assert await command.exit_code() == 137

        execute(lone, lone.full_name("short"), ["sh", "-c", "echo ready; sleep 1000"], scenario, stdin=True)


def test_what_cannot_be_had(lone: LoneAgent, pod: str) -> None:
    async def scenario(command: Command) -> None:
        pytest.fail(f"there is none: {command.opened}")

    for name, words in (("absent", 'pods "absent" not found'),):
        with pytest.raises(LocalError, match=words) as caught:
            execute(lone, name, ["sh"], scenario)
        assert caught.value.reason == "NotFound"
    with pytest.raises(LocalError, match="must name a program"):
        execute(lone, pod, [], scenario)

    async def absent() -> None:
        async with open_local_stream(lone.run_dir / "absent.sock", EXEC, ExecParams(namespace="a", pod="b")):
            pass

    with pytest.raises(LocalError, match="the agent is not running"):
        run(absent)

    async def unheard_of() -> None:
        async with open_local_stream(lone.run_dir / "api.sock", "sing", ExecParams(namespace="a", pod="b")):
            pass

    with pytest.raises(LocalError, match="there is no stream 'sing' here"):
        run(unheard_of)


def test_a_command_that_is_not_there(lone: LoneAgent, pod: str) -> None:
    async def scenario(command: Command) -> None:
        said = await read_all(command.opened[STDOUT]) + await read_all(command.opened[STDERR])
        assert b"/bin/absent" in said
        assert await command.exit_code() in (126, 127)

    execute(lone, pod, ["/bin/absent"], scenario)


def test_logs_are_followed(lone: LoneAgent) -> None:
    script = "echo first; while ! [ -e /go ]; do sleep 0.05; done; echo second; exec sleep 3600"
    with lone.running(static_pod("talker", ["sh", "-c", script])):

        async def scenario() -> None:
            wanted = FollowParams(namespace="default", pod=lone.full_name("talker"))
            async with open_local_stream(lone.run_dir / "api.sock", FOLLOW, wanted) as channels:
                channel = await channels.accept()
                assert channel.kind == LOG
                channel.accept()
                found = b""
                while found != b"first\n":
                    found += await channel.read()
                await asyncio.to_thread(lone.exec, "talker", "touch", "/go")
                assert await channel.read() == b"second\n"

        run(scenario)


def test_a_port_on_the_pods_own_loopback(lone: LoneAgent, pod: str) -> None:
    async def scenario() -> None:
        wanted = PortForwardParams(namespace="default", pod=pod)
        async with open_local_stream(lone.run_dir / "api.sock", PORT_FORWARD, wanted) as channels:
            opened: list[Channel] = []

            async def listens() -> bool:
                with contextlib.suppress(PermanentError):
                    opened.append(await channels.open(PORT, canonical_json(PortChannel(port=7000))))
                return bool(opened)

            await wait_for_async(listens, what="somebody to listen")
            assert await read_all(opened[0]) == b"pong\n"
            with pytest.raises(PermanentError, match="refused"):
                await channels.open(PORT, canonical_json(PortChannel(port=7001)))

    run(scenario)


def test_an_agent_that_stops_says_so_and_hangs_up(lone: LoneAgent, pod: str) -> None:
    async def scenario(command: Command) -> None:
        await command.read_until(b"ready")
        await asyncio.to_thread(lone.restart)
        over = await command.channels.ended()
        assert (over.reason, str(over)) == ("ServiceUnavailable", "the agent stops")

    execute(lone, pod, ["sh", "-c", "echo ready; exec sleep 4321"], scenario, stdin=True, tty=True)
    container = lone.container("shell").id
    wait_for(lambda: not any("4321" in line for line in commands(container)), what="the command to end")
