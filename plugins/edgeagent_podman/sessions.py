"""Podman's exec sessions: made, begun, looked at, ended, removed. What runs in one is the callers' matter."""

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.errors import EdgeAgentError
from edgeagent_podman import monitors
from edgeagent_podman.answers import Answer, failure, not_running, segment
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.hijack import Hijacked

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

logger = logging.getLogger(__name__)

_NOT_RUNNING = ("container state improper", "no such container")
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.05
_DETACH_KEYS = "ctrl-],ctrl-@,ctrl-],ctrl-@,ctrl-],ctrl-@,ctrl-],ctrl-@"
"""Podman cannot be told to have none, and its own would keep ^P of every shell until the next key is pressed.
Nobody types these, and only ``^]`` waits for the key after it."""


class ExecConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of ``POST /libpod/containers/{name}/exec``."""

    cmd: list[str]
    attach_stdin: bool = False
    attach_stdout: bool = True
    attach_stderr: bool = True
    tty: bool = False
    detach_keys: str = _DETACH_KEYS


class ExecStart(msgspec.Struct, frozen=True):
    """The body of ``POST /libpod/exec/{id}/start``; ``h`` rows and ``w`` columns, 0 for Podman's default."""

    detach: bool = msgspec.field(default=False, name="Detach")
    tty: bool = msgspec.field(default=False, name="Tty")
    h: int = 0
    w: int = 0


class SessionState(msgspec.Struct, frozen=True, rename="pascal"):
    """A session's inspect, as far as it is used. ``pid`` is the command's, on the host."""

    running: bool = False
    can_remove: bool = False
    exit_code: int = 0
    pid: int = 0
    container_id: str = msgspec.field(default="", name="ContainerID")


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str


class Sessions:
    """Exec sessions of all containers, by their ids."""

    def __init__(self, client: "PodmanClient", config: PodmanConfig) -> None:
        self._client = client
        self._config = config

    def create(self, container_id: str, config: ExecConfig) -> str:
        """A new session's id. TemporaryError (``ContainerNotRunning``) where the container does not run."""
        path = f"containers/{segment(container_id, 'container')}/exec"
        answer = self._client.post(path, body=msgspec.json.encode(config))
        if not answer.ok:
            raise refusal(container_id, answer)
        return self._client.decode(answer.body, _Created).id

    def begin(
        self, stream: Hijacked, session: str, container_id: str, start: ExecStart, deadline: float
    ) -> None:
        """Start the session on ``stream``, of which the answer's head is read and nothing more.

        May take longer than until ``deadline``: hung up on before its answer begins, Podman would call the
        session ended, and the command would run. OSError where the connection fails.
        """
        target = self._client.target(f"exec/{segment(session, 'exec session')}/start")
        begun = max(deadline, time.monotonic() + self._config.request_timeout)
        stream.post(target, msgspec.json.encode(start), begun)
        status = stream.status(begun)
        if status >= 400:
            raise refusal(container_id, Answer(status, stream.read(begun)))

    def look(self, session: str) -> SessionState | None:
        """What Podman knows of a session; None where there is none."""
        answer = self._client.get(f"exec/{segment(session, 'exec session')}/json")
        if answer.status == 404:
            return None
        if not answer.ok:
            raise failure(f"inspect the command {session[:12]}", answer)
        return self._client.decode(answer.body, SessionState)

    def ended(self, session: str, deadline: float) -> SessionState | None:
        """The session once Podman knows its exit code, None where it is gone; TimeoutError at ``deadline``.

        It is asked at least for as long as an exit code may take to become known.
        """
        for _ in _pauses(max(deadline, time.monotonic() + self._config.exit_timeout)):
            known = self.look(session)
            if known is None or not known.running:
                return known
        raise TimeoutError("the command goes on")

    def end(self, session: str, container_id: str) -> None:
        """Kill the command of a session; it may be about to start, or to end by itself."""
        killed = False
        for _ in _pauses(time.monotonic() + self._config.exit_timeout):
            try:
                known = self.look(session)
            except EdgeAgentError as error:
                logger.debug("a command that is to end cannot be looked at: %s", error)
                break
            if known is None:
                break
            if known.pid > 0:
                killed = monitors.signal_process(known.pid, container_id) or killed
            if known.can_remove:
                return
        if not killed:
            logger.warning("no command to end in container %s: it may run on", container_id[:12])

    def resize(self, session: str, columns: int, rows: int) -> None:
        """Tell the session's terminal its size; no effect where there is none any more."""
        path = f"exec/{segment(session, 'exec session')}/resize"
        answer = self._client.post(path, {"w": str(columns), "h": str(rows)})
        # 409: it does not run, or has no terminal. Podman 4 says 500 where it has just ended.
        if not answer.ok and answer.status not in (404, 409):
            known = self.look(session)
            if known is not None and known.running:
                raise failure(f"resize the terminal of command {session[:12]}", answer)

    def remove(self, session: str) -> None:
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


def refusal(container_id: str, answer: Answer) -> Exception:
    """The error for an answer that refuses a session in a container."""
    if answer.status in (404, 409) or answer.error().cause in _NOT_RUNNING:
        return not_running(container_id)
    return failure(f"run a command in container {container_id[:12]}", answer)


def _pauses(deadline: float) -> Iterator[None]:
    """A turn, and one more after each pause until ``deadline``."""
    pause = _FIRST_PAUSE
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
