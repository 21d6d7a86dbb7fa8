"""Commands with somebody at the other end, on a real Podman: terminals, input, output, sizes, signals, ends.

https://kubernetes.io/docs/tasks/debug/debug-application/get-shell-running-container/
"""

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import ContainerRecord, ExecOptions
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import Make, runtime_on, wait_dead
from tests.plugins.test_podman_exec import alone, commands
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

SECONDS = 20.0


@pytest.fixture
def running(runtime: PodmanRuntime, create: Make) -> ContainerRecord:
    return runtime.start_container(create("sleep", "1000").id)


class Attended:
    """One session: ``out`` and ``err`` are what has come so far, by stream."""

    def __init__(self, runtime: PodmanRuntime, container_id: str, options: ExecOptions) -> None:
        self.runtime = runtime
        session = runtime.start_exec(container_id, options)
        self.id = session.id
        self.connection = socket.socket(fileno=session.descriptor)
        self.connection.settimeout(SECONDS)
        self.framing = session.framing
        self.out = bytearray()
        self.err = bytearray()

    def read_until(self, text: bytes) -> None:
        """Until ``text`` is among the output of a terminal."""
        while text not in self.out:
            data = self.connection.recv(4096)
            assert data, f"the end came before {text!r}: {bytes(self.out)!r}"
            self.out += data

    def read_to_end(self) -> None:
        """All that comes, in its framing."""
        if self.framing == "raw":
            while data := self.connection.recv(65536):
                self.out += data
            return
        while header := self._exactly(8):
            payload = self._exactly(int.from_bytes(header[4:], "big"))
            (self.out if header[0] == 1 else self.err).extend(payload)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            if not (data := self.connection.recv(count - len(found))):
                assert not found, "a frame is cut"
                return b""
            found += data
        return found

    def code(self) -> int:
        """The exit code; the output is read to its end first."""
        self.read_to_end()
        return self.runtime.exec_exit_code(self.id)


def code_or_reason(runtime: PodmanRuntime, session_id: str) -> int | str:
    """The exit code, or why there is none."""
    try:
        return runtime.exec_exit_code(session_id)
    except TemporaryError as error:
        return error.reason


@contextmanager
def attended(
    runtime: PodmanRuntime, record: ContainerRecord, *command: str, **options: object
) -> Iterator[Attended]:
    """A command in a container; its connection is closed at the end."""
    session = Attended(runtime, record.id, ExecOptions(command=list(command), **options))  # type: ignore[arg-type]
    with session.connection:
        yield session


def test_output_errors_and_exit_code(
    podman: PodmanService, runtime: PodmanRuntime, running: ContainerRecord
) -> None:
    with attended(runtime, running, "sh", "-c", "echo out; echo err >&2; exit 3") as session:
        assert session.framing == "multiplexed"
        assert session.code() == 3
        assert session.out == b"out\n"
        assert session.err == b"err\n"
    wait_for(lambda: alone(podman, running), what="nothing to be left")


def test_without_stdin_there_is_none(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    with attended(runtime, running, "sh", "-c", "cat; echo over") as session:
        assert session.code() == 0
        assert session.out == b"over\n"


def test_input_ends_when_the_writing_does(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    with attended(runtime, running, "sh", "-c", "cat; exit 5", stdin=True) as session:
        session.connection.sendall(b"one\ntwo")
        session.connection.shutdown(socket.SHUT_WR)
        assert session.code() == 5
        assert session.out == b"one\ntwo"


def test_megabytes_both_ways_at_a_slow_readers_pace(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    sent = os.urandom(1 << 20) * 6
    with attended(runtime, running, "cat", stdin=True) as session:

        def write() -> None:
            session.connection.sendall(sent)
            session.connection.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        assert session.code() == 0
        writer.join(SECONDS)
        assert hashlib.sha256(session.out).digest() == hashlib.sha256(sent).digest()


def test_output_waits_for_its_reader(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    """Nobody in between takes what the reader does not: the command itself waits."""
    script = "dd if=/dev/zero bs=65536 count=400 2>/dev/null; touch /written"
    with attended(runtime, running, "sh", "-c", script) as session:
        written = Path(f"/proc/{running.pid}/root/written")
        threading.Event().wait(0.5)  # the command has the time to write all, if anybody took it
        assert not written.exists()
        assert session.code() == 0
        assert len(session.out) == 400 * 65536
        assert written.exists()


def test_a_terminal_has_a_size_that_changes(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    with attended(runtime, running, "sh", stdin=True, tty=True, columns=91, rows=33) as session:
        assert session.framing == "raw"
        session.connection.sendall(b"stty size; echo a-$((1+1))\n")
        session.read_until(b"a-2")
        assert b"33 91" in session.out
        runtime.resize_exec(session.id, 120, 50)
        session.connection.sendall(b"stty size; echo b-$((1+1))\n")
        session.read_until(b"b-2")
        assert b"50 120" in session.out
        session.connection.sendall(b"exit 7\n")
        assert session.code() == 7
    runtime.resize_exec(session.id, 10, 10)  # it is gone


def test_keys_that_podman_would_detach_at_reach_the_command(
    runtime: PodmanRuntime, running: ContainerRecord
) -> None:
    script = "stty raw -echo; echo ready; dd bs=1 count=2 2>/dev/null | od -An -tx1; echo done"
    with attended(runtime, running, "sh", "-c", script, stdin=True, tty=True) as session:
        session.read_until(b"ready")
        session.connection.sendall(b"\x10")
        session.connection.sendall(b"\x11")
        session.read_until(b"done")
        assert b"10 11" in session.out
        assert session.code() == 0


@pytest.mark.parametrize("tty", [False, True])
def test_signals(runtime: PodmanRuntime, running: ContainerRecord, tty: bool) -> None:
    with attended(runtime, running, "sh", "-c", "echo ready; exec sleep 100", stdin=True, tty=tty) as session:
        if tty:
            session.read_until(b"ready")
        else:
            session.connection.recv(100)
        runtime.signal_exec(session.id, signal.SIGTERM)
        assert session.code() == 128 + signal.SIGTERM
    runtime.signal_exec(session.id, signal.SIGTERM)  # it is gone


def test_a_shell_ends_when_its_terminal_hangs_up(
    podman: PodmanService, runtime: PodmanRuntime, running: ContainerRecord
) -> None:
    with attended(runtime, running, "sh", "-c", "echo ready; sh", stdin=True, tty=True) as session:
        session.read_until(b"ready")
        session.connection.sendall(b"sleep 1000\n")
        wait_for(lambda: "sleep 1000" in commands(running.id)[1:], what="the command in the shell")
    runtime.signal_exec(session.id, signal.SIGHUP)
    assert runtime.exec_exit_code(session.id) != 0
    wait_for(lambda: alone(podman, running), what="nothing to be left")


def test_a_command_that_closes_its_output_is_waited_for(
    podman: PodmanService, running: ContainerRecord
) -> None:
    runtime = runtime_on(podman, exit_timeout=0.2)
    script = "exec >/dev/null 2>&1 </dev/null; while ! [ -e /go ]; do sleep 0.02; done; exit 9"
    with attended(runtime, running, "sh", "-c", script) as session:
        with pytest.raises(TemporaryError) as caught:
            runtime.exec_exit_code(session.id)
        assert caught.value.reason == "CommandRuns"
        Path(f"/proc/{running.pid}/root/go").touch()
        assert session.code() == 9


def test_a_process_that_a_command_leaves_behind_holds_up_nobody(
    runtime: PodmanRuntime, running: ContainerRecord
) -> None:
    with attended(runtime, running, "sh", "-c", "sleep 1000 & echo started; exit 4") as session:
        assert session.code() == 4
        assert session.out == b"started\n"


def test_a_container_that_ends_takes_the_command_along(
    runtime: PodmanRuntime, running: ContainerRecord
) -> None:
    with attended(runtime, running, "sh", "-c", "echo ready; sleep 1000", stdin=True) as session:
        session.connection.recv(100)
        wait_dead(running.pid, signal.SIGKILL)
        session.connection.settimeout(SECONDS)
        while session.connection.recv(4096):
            pass
        runtime.wait_container(running.id)
        # Killed with the container, or gone with it: either is told.
        assert code_or_reason(runtime, session.id) in (128 + signal.SIGKILL, "ContainerNotRunning")


@pytest.mark.parametrize("tty", [False, True])
def test_what_cannot_be_executed_says_so(
    podman: PodmanService, runtime: PodmanRuntime, running: ContainerRecord, tty: bool
) -> None:
    with attended(runtime, running, "/bin/absent", tty=tty) as session:
        assert session.code() in (126, 127)
        assert b"/bin/absent" in session.out + session.err
    wait_for(lambda: alone(podman, running), what="nothing to be left")


def test_a_container_that_does_not_run(runtime: PodmanRuntime, create: Make) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for container_id in (create("sleep", "1000").id, "absent"):
        with pytest.raises(TemporaryError) as caught:
            runtime.start_exec(container_id, ExecOptions(command=["true"]))
        assert caught.value.reason == "ContainerNotRunning"
    assert set(os.listdir("/proc/self/fd")) == before
