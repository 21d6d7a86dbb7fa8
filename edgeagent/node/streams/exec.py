"""The service ``exec``: a command in a container, with somebody at the other end.

The runtime hands over a socket with the command's input and output; the loop drives it, and no worker of the
plugin's lane is held meanwhile. Nothing is read from either side before there is room on the other.

When the stream ends before the command does, the line is hung up: its input ends and it gets SIGHUP, with a
terminal or without. Kubernetes' runtimes do the one by closing the terminal and leave the other to SIGPIPE,
which a command whose output a monitor keeps taking never gets: it would run for ever, unseen. What is to
outlive its session ignores SIGHUP (nohup(1)), as on any line. Whoever lost the right to the command while it
ran has it killed.
https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from edgeagent.api.descriptors import release
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.runtime import ContainerRecord, ExecOptions, ExecSession
from edgeagent.node.pods.containers import runs_of
from edgeagent.node.pods.logruns import find_container, find_pod
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.streams.execoutput import MultiplexedOutput, RawOutput
from edgeagent.node.streams.service import Serve, StreamRequest
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, ChannelClosedError, Channels, StreamEndedError
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

log = logging.getLogger(__name__)

READ_BYTES = 16_384
HANG_UP_SECONDS = 5.0
"""How long hanging up may take where the runtime does not answer."""
KILLED = 128 + signal.SIGKILL
"""The exit code that stands for one that nobody knows."""
_RIGHT_LOST = ("Forbidden", "Unauthorized")


class CommandRuntime(Protocol):
    """The part of a runtime's facade that commands need."""

    async def start_exec(self, container_id: str, options: ExecOptions) -> ExecSession:
        """Run a command; the caller owns the session's descriptor."""

    async def resize_exec(self, session_id: str, columns: int, rows: int) -> None:
        """Tell the command's terminal its new size."""

    async def signal_exec(self, session_id: str, number: int) -> None:
        """Send a signal to the command."""

    async def exec_exit_code(self, session_id: str) -> int:
        """The exit code of a command whose output has ended."""


class ExecService:
    """``pods`` and ``runtime`` are None where no runtime could be loaded."""

    def __init__(self, pods: PodManager | None, runtime: CommandRuntime | None) -> None:
        self._pods = pods
        self._runtime = runtime

    async def open(self, request: StreamRequest) -> Serve:
        """LogError where there is no such pod or container, PermanentError where it does not run.

        InvalidObjectError where no command is given.
        """
        wanted = decode_json(bytes(request.params), ExecParams)
        private = decode_json(request.private, ExecPrivate)
        if not private.command or not private.command[0]:
            raise InvalidObjectError("command", "must name a program")
        pod = find_pod(self._pods, wanted.namespace, wanted.pod)
        name = find_container(pod, wanted.container)
        assert self._pods is not None
        assert self._runtime is not None
        runs = runs_of(name, self._pods.containers_of(pod.metadata.uid))
        if not runs or runs[0].state != "running":
            raise PermanentError(f'container "{name}" is not running', reason="BadRequest")
        options = ExecOptions(
            command=private.command,
            stdin=wanted.stdin,
            tty=wanted.tty,
            columns=private.columns,
            rows=private.rows,
        )
        return _Command(self._runtime, runs[0], options).serve


class _Outputs(msgspec.Struct, frozen=True):
    """The channels that the node opens."""

    by_kind: dict[str, Channel]
    control: Channel


class _Command:
    """One command, from its start to its exit code."""

    def __init__(self, runtime: CommandRuntime, container: ContainerRecord, options: ExecOptions) -> None:
        self._runtime = runtime
        self._container = container
        self._options = options

    async def serve(self, channels: Channels) -> None:
        """``edgeagent.node.streams.service.Serve``."""
        kinds = [CONTROL, STDOUT] if self._options.tty else [CONTROL, STDOUT, STDERR]
        control, *outputs = await asyncio.gather(*(channels.open(kind) for kind in kinds))
        opened = _Outputs(dict(zip(kinds[1:], outputs, strict=True)), control)
        async with self._session(channels) as (session, connection):
            status = await self._attend(session, connection, channels, opened)
        for channel in outputs:
            channel.end_writing()
        with contextlib.suppress(ChannelClosedError):
            await control.request(EXIT, canonical_json(status))

    @contextlib.asynccontextmanager
    async def _session(self, channels: Channels) -> AsyncIterator[tuple[ExecSession, socket.socket]]:
        """The command, started; where the block is left before it has ended, the line is hung up."""
        starting = asyncio.ensure_future(self._runtime.start_exec(self._container.id, self._options))
        try:
            session = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await self._give_up(starting, channels)
            raise
        connection = socket.socket(fileno=session.descriptor)
        try:
            connection.setblocking(False)
            yield session, connection
        except BaseException:
            connection.close()
            await self._hang_up(session, channels)
            raise
        finally:
            connection.close()

    async def _attend(
        self, session: ExecSession, connection: socket.socket, channels: Channels, opened: _Outputs
    ) -> ExitStatus:
        """Both ways, until the output ends; then how the command ended."""
        others = [
            asyncio.ensure_future(self._take_input(connection, channels)),
            asyncio.ensure_future(self._heed(session, opened.control)),
        ]
        try:
            await _give_output(session, connection, opened.by_kind)
            return await self._status(session)
        finally:
            for task in others:
                task.cancel()
            results = await asyncio.gather(*others, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, StreamEndedError):
                    log.warning("a command's input ended: %s", result)

    async def _take_input(self, connection: socket.socket, channels: Channels) -> None:
        """Standard input, in the one channel that may be opened for it."""
        loop = asyncio.get_running_loop()
        pumping: asyncio.Task[None] | None = None
        try:
            while True:
                channel = await channels.accept()
                if channel.kind != STDIN or not self._options.stdin or pumping is not None:
                    channel.refuse("BadRequest", f"no channel {channel.kind[:40]!r} is expected here")
                    continue
                channel.accept()
                pumping = loop.create_task(_pump_input(channel, connection))
        finally:
            if pumping is not None:
                pumping.cancel()
                await asyncio.gather(pumping, return_exceptions=True)

    async def _heed(self, session: ExecSession, control: Channel) -> None:
        """What is said on ``control``: the size of the terminal; anything else is passed over."""
        while (asked := await control.next_request()) is not None:
            kind, value = asked
            if kind != RESIZE or not self._options.tty:
                continue
            try:
                size = decode_json(value, TerminalSize)
                await self._runtime.resize_exec(session.id, size.columns, size.rows)
            except EdgeAgentError as error:
                log.warning("a terminal keeps its size: %s", error)

    async def _status(self, session: ExecSession) -> ExitStatus:
        try:
            return ExitStatus(exit_code=await self._runtime.exec_exit_code(session.id))
        except TemporaryError as error:
            if error.reason in ("ContainerNotRunning", "CommandRuns"):
                return ExitStatus(exit_code=KILLED, message=str(error))
            raise

    async def _give_up(self, starting: "asyncio.Future[ExecSession]", channels: Channels) -> None:
        """The other side is gone, and the command is about to start."""
        done, _ = await asyncio.wait({starting}, timeout=HANG_UP_SECONDS)
        if not done:
            starting.cancel()  # the lane closes what comes of it
        elif not starting.cancelled() and starting.exception() is None:
            session = starting.result()
            release(session)
            await self._hang_up(session, channels)

    async def _hang_up(self, session: ExecSession, channels: Channels) -> None:
        """Nobody is there any more; the connection is closed already."""
        over = channels.over
        lost_right = over is not None and over.reason in _RIGHT_LOST
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                await self._runtime.signal_exec(session.id, signal.SIGKILL if lost_right else signal.SIGHUP)
                await self._runtime.exec_exit_code(session.id)
        except (EdgeAgentError, TimeoutError) as error:
            log.info(
                "a command runs on without its session in container %s: %s", self._container.id[:12], error
            )


async def _pump_input(channel: Channel, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # That the command reads no more is no error: its output goes on.
    with contextlib.suppress(OSError):
        while data := await channel.read():
            await loop.sock_sendall(connection, data)
        connection.shutdown(socket.SHUT_WR)
        return
    channel.close()


async def _give_output(session: ExecSession, connection: socket.socket, outputs: dict[str, Channel]) -> None:
    """To the end of the output. What nobody takes any more is dropped, so that the command can end."""
    loop = asyncio.get_running_loop()
    output = RawOutput() if session.framing == "raw" else MultiplexedOutput()
    with contextlib.suppress(ConnectionError):  # the runtime's end, as good as any
        while data := await loop.sock_recv(connection, READ_BYTES):
            for kind, part in output.feed(data):
                with contextlib.suppress(ChannelClosedError):
                    await outputs[kind].write(part)
