"""Commands in running containers, through Podman's exec sessions."""

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.runtime import ExecResult
from edgeagent_podman import monitors
from edgeagent_podman.answers import Answer, failure, not_running, segment
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.frames import Output
from edgeagent_podman.hijack import Hijacked

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

logger = logging.getLogger(__name__)

OUTPUT_BYTES = 10 * 1024

_NOT_RUNNING = ("container state improper", "no such container")
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

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.05


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class _Session(msgspec.Struct, frozen=True, rename="pascal"):
    running: bool = False
    can_remove: bool = False
    exit_code: int = 0
    pid: int = 0


class Executor:
    """Runs commands, each in a session of its own, of which nothing stays."""

    def __init__(self, client: "PodmanClient", config: PodmanConfig) -> None:
        self._client = client
        self._config = config

    def run(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        """Run ``command`` to its end; see ``ContainerRuntime.exec_container``."""
        session = self._create(container_id, command)
        try:
            return self._attend(session, container_id, timeout_seconds)
        finally:
            self._remove(session)

    def _create(self, container_id: str, command: list[str]) -> str:
        body = msgspec.json.encode({"Cmd": command, "AttachStdout": True, "AttachStderr": True})
        path = f"containers/{segment(container_id, 'container')}/exec"
        answer = self._client.post(path, body=body)
        if not answer.ok:
            raise self._refusal(container_id, answer)
        return self._client.decode(answer.body, _Created).id

    def _attend(self, session: str, container_id: str, timeout_seconds: float) -> ExecResult:
        output = Output(OUTPUT_BYTES)
        deadline = time.monotonic() + timeout_seconds
        try:
            with Hijacked(self._config.socket) as stream:
                self._receive(stream, session, container_id, output, deadline)
            # A command may close its output long before it ends.
            known = self._ended(session, container_id, deadline)
        except TimeoutError:
            # With the connection closed: Podman does not notice an end while it has output to deliver.
            self._end(session, container_id)
            return ExecResult(exit_code=-1, output=bytes(output), timed_out=True)
        except OSError as error:
            self._end(session, container_id)
            problem = f"the answer on Podman's socket {self._config.socket} broke off: {error}"
            raise TemporaryError(problem, reason="RuntimeUnavailable") from None
        return self._result(container_id, known.exit_code, bytes(output))

    def _receive(
        self, stream: Hijacked, session: str, container_id: str, output: Output, deadline: float
    ) -> None:
        """Start the session and read to the end of its stream, which is that of the command's output."""
        target = self._client.target(f"exec/{segment(session, 'exec session')}/start")
        # Hung up on before its answer begins, Podman would call the session ended, and the command would run.
        begun = max(deadline, time.monotonic() + self._config.request_timeout)
        stream.post(target, b'{"Detach":false,"Tty":false}', begun)
        status = stream.status(begun)
        if status >= 400:
            raise self._refusal(container_id, Answer(status, stream.read(begun)))
        while data := stream.read(deadline):
            output.feed(data)

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

    def _ended(self, session: str, container_id: str, deadline: float) -> _Session:
        """The session once Podman knows its exit code; TimeoutError after ``deadline``.

        It is asked at least for as long as an exit code may take to become known.
        """
        deadline = max(deadline, time.monotonic() + self._config.exit_timeout)
        pause = _FIRST_PAUSE
        while True:
            answer = self._client.get(f"exec/{session}/json")
            if answer.status == 404:
                raise not_running(container_id)  # it took its sessions along
            if not answer.ok:
                raise failure(f"inspect a command in container {container_id[:12]}", answer)
            known = self._client.decode(answer.body, _Session)
            if not known.running:
                return known
            if time.monotonic() >= deadline:
                raise TimeoutError("the command goes on")
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _end(self, session: str, container_id: str) -> None:
        """Kill the command of a session; it may be about to start, or to end by itself."""
        deadline = time.monotonic() + self._config.exit_timeout
        pause = _FIRST_PAUSE
        killed = False
        while True:
            answer = self._client.get(f"exec/{session}/json")
            known = self._client.decode(answer.body, _Session) if answer.ok else _Session()
            if known.pid > 0:
                killed = monitors.end_process(known.pid, container_id) or killed
            if known.can_remove:
                return
            if not answer.ok or time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if not killed:
            logger.warning("no command to end in container %s: it may run on", container_id[:12])

    def _remove(self, session: str) -> None:
        """Remove the session, or have it removed by the process that would do so minutes later."""
        try:
            answer = self._client.post(f"exec/{session}/remove", body=b'{"Force":true}')
        except EdgeAgentError as error:
            logger.warning("exec session %s is left to Podman: %s", session[:12], error)
            return
        if answer.ok:
            monitors.end_monitors(session)
        else:
            # Podman has it since 4.9. Before, its own clean-up is all there is.
            monitors.wake_monitors(session)

    def _refusal(self, container_id: str, answer: Answer) -> Exception:
        if answer.status in (404, 409) or answer.error().cause in _NOT_RUNNING:
            return not_running(container_id)
        return failure(f"run a command in container {container_id[:12]}", answer)
