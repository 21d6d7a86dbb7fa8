"""Child processes: started with their output in a file, awaited until ready, ended by their own id."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_given: set[int] = set()


class ProcessError(AssertionError):
    """A child died, or was not ready in time; the message ends with the tail of its log."""


def _ephemeral_range() -> range:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return range(32768, 61000)
    return range(int(low), int(high) + 1)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback TCP port that nothing listens on, never the same one twice in this process.

    It lies outside the kernel's range for outgoing connections. A server's port inside that range can be
    taken while the server restarts, and a client that reconnects to it may even connect to itself.
    """
    ephemeral = _ephemeral_range()
    candidates = [port for port in range(10_000, 65_000) if port not in ephemeral]
    chooser = random.SystemRandom()
    for _ in range(1000):
        port = chooser.choice(candidates or list(ephemeral))
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise ProcessError("no free loopback port found in 1000 attempts")


def port_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether a TCP connection to ``port`` is accepted."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """One child process and its log file. It is the leader of its own session and process group."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.env = dict(env) if env is not None else None
        self.cwd = cwd
        self.name = name or Path(argv[0]).name
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._popen is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    @property
    def pid(self) -> int:
        """The child's process id; ``ProcessError`` if it was never started."""
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs or before it starts."""
        return None if self._popen is None else self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> Self:
        """Start the child. Output is appended to the log, so that a restart keeps what came before."""
        if self.running:
            raise ProcessError(f"{self.name} is already running as process {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )
        return self

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, condition: Callable[[], object], timeout: float = 15.0, what: str = "ready") -> None:
        """Return once ``condition`` is truthy; raise as soon as the child dies, or after ``timeout``."""
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        deadline = time.monotonic() + timeout
        while True:
            if self._popen.poll() is not None:
                raise ProcessError(
                    f"{self.name} ended with status {self._popen.returncode}"
                    f" before it was {what}:\n{self.tail()}"
                )
            if condition():
                return
            if time.monotonic() >= deadline:
                raise ProcessError(f"{self.name} was not {what} within {timeout:g} s:\n{self.tail()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=0.02)  # a pause that a death cuts short

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the child to end by itself and return its exit status."""
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} did not end within {timeout:g} s:\n{self.tail()}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the child alone; nothing happens if it has ended."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def freeze(self) -> None:
        """Stop it from running (SIGSTOP): it keeps its sockets open and answers nothing."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again after ``freeze``."""
        self.send_signal(signal.SIGCONT)

    def terminate(self, grace: float = 10.0) -> None:
        """Ask the child to end (SIGTERM), then make it (SIGKILL, to its whole process group)."""
        if self.running:
            self.send_signal(signal.SIGTERM)
            self.thaw()
            assert self._popen is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace)
        self.kill()

    def kill(self) -> None:
        """End the child and all of its process group at once (SIGKILL), as a power cut would."""
        if self._popen is None:
            return
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)
