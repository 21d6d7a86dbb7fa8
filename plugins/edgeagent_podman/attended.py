"""Commands with somebody at the other end: started, and left to whoever gets the connection.

Nothing is kept here between calls: a session's id is Podman's, and so the agent may go on with it after this
process has ended for idleness.
"""

import time
from typing import TYPE_CHECKING

from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import ExecOptions, ExecSession
from edgeagent_podman import monitors
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.hijack import Hijacked
from edgeagent_podman.sessions import ExecConfig, ExecStart, Sessions

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

_LARGEST = 65535
"""Columns and rows are 16 bits to the kernel."""


class AttendedCommands:
    """Starts commands; see ``ContainerRuntime.start_exec`` and the methods after it."""

    def __init__(self, client: "PodmanClient", config: PodmanConfig) -> None:
        self._sessions = Sessions(client, config)
        self._config = config

    def start(self, container_id: str, options: ExecOptions) -> ExecSession:
        """A session that is under way, with its connection."""
        wanted = ExecConfig(options.command, attach_stdin=options.stdin, tty=options.tty)
        session = self._sessions.create(container_id, wanted)
        start = ExecStart(tty=options.tty)
        if options.tty and options.columns > 0 and options.rows > 0:
            start = ExecStart(tty=True, h=min(options.rows, _LARGEST), w=min(options.columns, _LARGEST))
        try:
            with Hijacked(self._config.socket) as stream:
                self._sessions.begin(stream, session, container_id, start, time.monotonic())
                return ExecSession(
                    id=session, framing="raw" if options.tty else "multiplexed", descriptor=stream.detach()
                )
        except BaseException as error:
            self._sessions.end(session, container_id)
            self._sessions.remove(session)
            if not isinstance(error, OSError):
                raise
            problem = f"a command cannot be started on Podman's socket {self._config.socket}: {error}"
            raise TemporaryError(problem, reason="RuntimeUnavailable") from None

    def resize(self, session: str, columns: int, rows: int) -> None:
        """Tell its terminal the new size."""
        self._sessions.resize(session, min(max(columns, 1), _LARGEST), min(max(rows, 1), _LARGEST))

    def signal(self, session: str, number: int) -> None:
        """Send a signal to the command and to its process group where it leads one."""
        known = self._sessions.look(session)
        if known is not None and known.running and known.pid > 0:
            monitors.signal_process(known.pid, known.container_id, number)

    def exit_code(self, session: str) -> int:
        """The exit code, once Podman knows it, and nothing is left of the session."""
        try:
            known = self._sessions.ended(session, time.monotonic())
        except TimeoutError:
            raise TemporaryError(
                "the command has closed its output and runs on", reason="CommandRuns"
            ) from None
        if known is None:
            raise TemporaryError("the container ended, and the command with it", reason="ContainerNotRunning")
        self._sessions.remove(session)
        return known.exit_code
