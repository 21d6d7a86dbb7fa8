"""Commands in running containers that run to their end, within a time: probes and hooks."""

import time
from typing import TYPE_CHECKING

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import ExecResult
from edgeagent_podman.answers import not_running
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.frames import Output
from edgeagent_podman.hijack import Hijacked
from edgeagent_podman.sessions import ExecConfig, ExecStart, Sessions

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

OUTPUT_BYTES = 10 * 1024

# What Podman says on the command's behalf, in its output, where the command never ran: constants of its
# source, after a beginning and with an exit code that it chooses.
_SAID_BY_PODMAN = b"Error: "
_OWN_CODES = (125, 126, 127)
_NOT_EXECUTABLE = (
    "OCI runtime attempted to invoke a command that was not found",
    "OCI permission denied",
    "exec format error",
)
_STOPPED = "container that has stopped"
_RUNTIME_ERROR = "OCI runtime"


class Executor:
    """Runs commands, each in a session of its own, of which nothing stays."""

    def __init__(self, client: "PodmanClient", config: PodmanConfig) -> None:
        self._sessions = Sessions(client, config)
        self._config = config

    def run(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        """Run ``command`` to its end; see ``ContainerRuntime.exec_container``."""
        session = self._sessions.create(container_id, ExecConfig(command))
        try:
            return self._attend(session, container_id, timeout_seconds)
        finally:
            self._sessions.remove(session)

    def _attend(self, session: str, container_id: str, timeout_seconds: float) -> ExecResult:
        output = Output(OUTPUT_BYTES)
        deadline = time.monotonic() + timeout_seconds
        try:
            with Hijacked(self._config.socket) as stream:
                # Read to the end of its stream, which is that of the command's output.
                self._sessions.begin(stream, session, container_id, ExecStart(), deadline)
                while data := stream.read(deadline):
                    output.feed(data)
            # A command may close its output long before it ends.
            known = self._sessions.ended(session, deadline)
        except TimeoutError:
            # With the connection closed: Podman does not notice an end while it has output to deliver.
            self._sessions.end(session, container_id)
            return ExecResult(exit_code=-1, output=bytes(output), timed_out=True)
        except OSError as error:
            self._sessions.end(session, container_id)
            problem = f"the answer on Podman's socket {self._config.socket} broke off: {error}"
            raise TemporaryError(problem, reason="RuntimeUnavailable") from None
        if known is None:
            raise not_running(container_id)  # it took its sessions along
        return self._result(container_id, known.exit_code, bytes(output))

    def _result(self, container_id: str, exit_code: int, output: bytes) -> ExecResult:
        if exit_code in _OWN_CODES and output.startswith(_SAID_BY_PODMAN):
            said = output.removeprefix(_SAID_BY_PODMAN).split(b"\n")[0].decode("utf-8", "replace")
            if any(words in said for words in _NOT_EXECUTABLE):
                raise PermanentError(said, reason="ExecError")
            if _STOPPED in said:
                raise not_running(container_id)
            if _RUNTIME_ERROR in said:
                raise TemporaryError(said, reason="RuntimeError")
        return ExecResult(exit_code=exit_code, output=output)
