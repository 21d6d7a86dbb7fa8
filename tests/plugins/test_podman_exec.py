"""Commands in running containers, and the log file of one, on a real Podman; the framing of output.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import ContainerRecord, ContainerSecurity, ExecResult
from edgeagent_podman import monitors
from edgeagent_podman.frames import Output
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import Make, ended, log_text, run
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

LONG = 30.0


@pytest.fixture
def running(runtime: PodmanRuntime, create: Make) -> ContainerRecord:
    return runtime.start_container(create("sleep", "1000", env={"A": "b"}).id)


def commands(container_id: str) -> list[str]:
    """Command lines of the processes in a container, and of those that were left on the way there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                cgroup = (entry / "cgroup").read_text()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if container_id in cgroup or container_id in line:
                found.append(line)
    return found


def alone(podman: PodmanService, record: ContainerRecord) -> bool:
    """Whether nothing is left of any command: no process, no session."""
    shown = json.loads(podman.run("inspect", record.id).stdout)[0]
    lines = [line for line in commands(record.id) if line and "podman" not in line.split()[0]]
    return not shown["ExecIDs"] and len(lines) == 2  # its process and its monitor


def test_output_and_exit_code(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    result = runtime.exec_container(running.id, ["sh", "-c", "echo out; echo err >&2; echo $A; exit 3"], LONG)
    assert (result.exit_code, result.timed_out) == (3, False)
    assert sorted(result.output.splitlines()) == [b"b", b"err", b"out"]
    assert runtime.exec_container(running.id, ["true"], LONG).output == b""


@pytest.mark.parametrize("code", [0, 1, 125, 126, 127, 137, 255])
def test_any_exit_code_of_the_commands_own(
    runtime: PodmanRuntime, running: ContainerRecord, code: int
) -> None:
    assert runtime.exec_container(running.id, ["sh", "-c", f"exit {code}"], LONG).exit_code == code


def test_output_is_cut_and_the_command_goes_on(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done; touch /done; exit 4"
    result = runtime.exec_container(running.id, ["sh", "-c", script], LONG)
    assert result.exit_code == 4
    assert result.output == (b"0123456789\n" * 3000)[: 10 * 1024]
    assert Path(f"/proc/{running.pid}/root/done").exists()


@pytest.mark.parametrize("command", ["/bin/absent", "absent", "/etc/passwd"])
def test_what_cannot_be_executed(runtime: PodmanRuntime, running: ContainerRecord, command: str) -> None:
    with pytest.raises(PermanentError, match=re.escape(command)) as caught:
        runtime.exec_container(running.id, [command], LONG)
    assert caught.value.reason == "ExecError"


def test_a_command_that_takes_too_long_is_ended(
    runtime: PodmanRuntime, podman: PodmanService, running: ContainerRecord
) -> None:
    script = "echo begun; sleep 4321; echo never"
    result = runtime.exec_container(running.id, ["sh", "-c", script], 0.5)
    assert result.timed_out
    assert result.output == b"begun\n"
    assert not [line for line in commands(running.id) if "4321" in line]
    assert runtime.list_containers()[0].pid == running.pid
    wait_for(lambda: alone(podman, running), what="nothing left")


def test_time_runs_out_under_endless_output(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    result = runtime.exec_container(running.id, ["yes"], 0.3)
    assert result.timed_out
    assert len(result.output) == 10 * 1024
    assert "yes" not in commands(running.id)


def test_a_command_may_close_its_output(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    result = runtime.exec_container(running.id, ["sh", "-c", "exec >&- 2>&-; sleep 1; exit 5"], LONG)
    assert (result.exit_code, result.timed_out) == (5, False)
    script = "exec >&- 2>&-; exec sleep 4325"
    assert runtime.exec_container(running.id, ["sh", "-c", script], 0.5).timed_out
    assert not [line for line in commands(running.id) if "4325" in line]


def test_time_that_is_up_before_the_command_begins(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    assert runtime.exec_container(running.id, ["sleep", "4322"], 0.001).timed_out
    assert not [line for line in commands(running.id) if "4322" in line]


def test_nothing_is_left_behind(
    runtime: PodmanRuntime, podman: PodmanService, running: ContainerRecord
) -> None:
    for _ in range(3):
        runtime.exec_container(running.id, ["true"], LONG)
    with pytest.raises(PermanentError):
        runtime.exec_container(running.id, ["absent"], LONG)
    wait_for(lambda: alone(podman, running), what="nothing left")


def test_it_runs_as_the_container_does(runtime: PodmanRuntime, create: Make) -> None:
    who = ContainerSecurity(user="7:8", supplemental_groups=[9], drop_capabilities=["ALL"])
    record = runtime.start_container(create("sleep", "100", security=who, working_dir="/tmp").id)  # noqa: S108
    result = runtime.exec_container(
        record.id, ["sh", "-c", "id -u; id -g; pwd; grep CapBnd /proc/self/status"], LONG
    )
    assert result.output.split() == [b"7", b"8", b"/tmp", b"CapBnd:", b"0" * 16]


def test_a_container_that_does_not_run(runtime: PodmanRuntime, create: Make) -> None:
    done = ended(runtime, create("true"))
    for container_id in (done.id, create("true").id, "0" * 64):
        with pytest.raises(TemporaryError) as caught:
            runtime.exec_container(container_id, ["true"], LONG)
        assert caught.value.reason == "ContainerNotRunning"


def test_a_container_that_ends_meanwhile(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    timer = Timer(0.5, runtime.stop_container, (running.id, 0))
    timer.start()
    try:
        result = runtime.exec_container(running.id, ["sleep", "4323"], LONG)
    except TemporaryError as error:  # its end took the session along before it could be asked
        result = ExecResult(exit_code=137)
        assert_not_running(error)
    finally:
        timer.join()
    assert (result.exit_code, result.timed_out) == (137, False)


def assert_not_running(error: TemporaryError) -> None:
    assert error.reason == "ContainerNotRunning"


def test_several_at_once(runtime: PodmanRuntime, running: ContainerRecord) -> None:
    def exit_code(number: int) -> int:
        return runtime.exec_container(running.id, ["sh", "-c", f"exit {number}"], LONG).exit_code

    with ThreadPoolExecutor(4) as workers:
        assert list(workers.map(exit_code, range(8))) == list(range(8))


def test_a_process_elsewhere_is_not_ended(running: ContainerRecord) -> None:
    """Were Podman to tell a wrong number."""
    assert not monitors.signal_process(os.getpid(), running.id)
    assert not monitors.signal_process(2**22 - 1, running.id)
    assert not monitors.signal_process(0, running.id)
    assert monitors.signal_process(running.pid, running.id)


payloads = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=8)


def framed(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in parts)


@given(payloads, st.lists(st.integers(1, 20), max_size=20), st.integers(0, 100))
def test_frames_however_they_are_cut(parts: list[tuple[int, bytes]], cuts: list[int], limit: int) -> None:
    output, data = Output(limit), framed(parts)
    for length in cuts:
        output.feed(data[:length])
        data = data[length:]
    output.feed(data)
    assert bytes(output) == b"".join(payload for _, payload in parts)[:limit]


@given(st.binary(max_size=100))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    output = Output(10)
    try:
        output.feed(data)
    except TemporaryError:
        return
    assert len(bytes(output)) <= 10


def test_a_frame_that_promises_four_gigabytes() -> None:
    output = Output(4)
    output.feed(b"\1\0\0\0\xff\xff\xff\xff" + b"x" * 1000)
    assert bytes(output) == b"xxxx"


def test_the_log_goes_on_in_a_new_file(runtime: PodmanRuntime, create: Make) -> None:
    record = runtime.start_container(create("sh", "-c", "echo first; sleep 100").id)
    log = Path(record.log_path)
    assert log_text(record) == "first"
    rotated = log.with_suffix(".log.1")
    log.rename(rotated)
    runtime.reopen_log(record.id)
    assert log.exists()
    runtime.exec_container(record.id, ["sh", "-c", "echo third > /proc/1/fd/1"], LONG)
    assert log_text(record) == "third"
    assert "first" in rotated.read_text()
    assert "third" not in rotated.read_text()


def test_a_log_may_be_reopened_where_nothing_was_renamed(
    runtime: PodmanRuntime, running: ContainerRecord
) -> None:
    runtime.reopen_log(running.id)
    runtime.reopen_log(running.id)
    runtime.exec_container(running.id, ["sh", "-c", "echo on > /proc/1/fd/1"], LONG)
    assert log_text(running) == "on"


def test_a_log_of_what_does_not_run(runtime: PodmanRuntime, create: Make) -> None:
    done = ended(runtime, create("echo", "hello"))
    for container_id in (done.id, create("true").id):
        with pytest.raises(TemporaryError) as caught:
            runtime.reopen_log(container_id)
        assert caught.value.reason == "ContainerNotRunning"
    assert log_text(done) == "hello"
    with pytest.raises(PermanentError):
        runtime.reopen_log("0" * 64)


def test_exec_where_a_namespace_is_shared(
    runtime: PodmanRuntime, create: Make, pause: ContainerRecord
) -> None:
    joined = runtime.start_container(create("sleep", "100", pid_namespace=f"container:{pause.id}").id)
    result = runtime.exec_container(joined.id, ["sh", "-c", "sleep 4324 & wait"], 0.5)
    assert result.timed_out
    assert not [line for line in commands(joined.id) if "4324" in line]
    assert run(runtime, "echo ran", pid_namespace=f"container:{pause.id}") == "ran"
