"""PodmanRuntime's containers on a real Podman: their lives, and Podman's own coming and going."""

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import LABEL_POD_UID, Mount
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import IMAGE, Make, config, ended, log_text, remove, runtime_on, wait_dead
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for


def test_info_names_podman_and_its_version(runtime: PodmanRuntime, podman: PodmanService) -> None:
    info = runtime.info()
    assert info.name == "podman"
    assert f"{info.version}" == podman.run("version", "--format", "{{.Client.Version}}").stdout.strip()


def test_a_container_lives_and_is_removed(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    before = time.time()
    created = create("sleep", "100")
    assert (created.state, created.pid) == ("created", 0)
    assert runtime.list_containers()[0].state == "created"
    running = runtime.start_container(created.id)
    assert running.state == "running"
    command = Path(f"/proc/{running.pid}/cmdline")
    wait_for(lambda: command.read_bytes() == b"sleep\x00100\x00", what="the command in place of the runtime")
    assert before - 0.1 <= running.created_at <= running.started_at <= time.time() + 0.1
    assert (running.id, running.name, running.labels) == (created.id, created.name, {LABEL_POD_UID: "u"})
    assert (running.image, running.finished_at) == (IMAGE, 0)
    image = runtime.find_image(IMAGE)
    assert image is not None
    assert running.image_id == image.id
    stopped = runtime.stop_container(created.id, 0)
    assert (stopped.state, stopped.exit_code, stopped.pid) == ("exited", 137, 0)
    assert stopped.finished_at >= int(running.started_at)
    runtime.remove_container(created.id)
    assert runtime.list_containers() == []
    assert not Path(running.log_path).exists()


def test_creating_again_returns_the_same_container(runtime: PodmanRuntime) -> None:
    wanted = config("sleep", "100")
    first = runtime.create_container(wanted)
    assert runtime.create_container(wanted).id == first.id
    runtime.start_container(first.id)
    again = runtime.create_container(wanted)
    assert (again.id, again.state) == (first.id, "running")


def test_a_name_that_is_the_beginning_of_an_id_is_no_container(runtime: PodmanRuntime, create: Make) -> None:
    other = create("sleep", "100")
    with pytest.raises(PermanentError):
        create("sleep", "100", name=other.id[:8], image="localhost/nope:1")


def test_a_config_that_cannot_work_is_permanent(create: Make) -> None:
    with pytest.raises(PermanentError, match="names must match") as caught:
        create("true", name="not/a name")
    assert caught.value.reason == "CreateContainerError"


def test_a_network_namespace_that_is_absent_may_come_yet(create: Make) -> None:
    with pytest.raises(TemporaryError, match="namespace"):
        create("true", network="/run/netns/absent-for-sure")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/bin/absent", "no such file"),
        ("absent", "not found"),
        ("/etc/passwd", "permission denied"),
        ("/etc", "is a directory|permission denied"),
        ("/etc/passwd/below", "not a directory"),
    ],
)
def test_a_command_that_cannot_be_executed_is_permanent(
    runtime: PodmanRuntime, create: Make, command: str, words: str
) -> None:
    created = create(command)
    with pytest.raises(PermanentError, match=f"(?i){words}") as caught:
        runtime.start_container(created.id)
    assert caught.value.reason == "StartError"
    assert runtime.list_containers()[0].state == "created"


def test_a_folder_mounted_upon_a_file_is_permanent(
    runtime: PodmanRuntime, create: Make, tmp_path: Path
) -> None:
    created = create("true", mounts=[Mount(source=str(tmp_path), destination="/etc/passwd")])
    with pytest.raises(PermanentError, match="a directory") as caught:
        runtime.start_container(created.id)
    assert caught.value.reason == "StartError"


@pytest.mark.parametrize("code", [0, 3, 255])
def test_a_short_life_ends_with_its_exit_code(runtime: PodmanRuntime, create: Make, code: int) -> None:
    record = ended(runtime, create("sh", "-c", f"exit {code}"))
    assert (record.state, record.exit_code, record.oom_killed, record.error) == ("exited", code, False, "")
    assert record.finished_at > 0


def test_starting_again_does_not_run_it_again(runtime: PodmanRuntime, create: Make) -> None:
    running = runtime.start_container(create("sleep", "100").id)
    assert runtime.start_container(running.id).pid == running.pid
    once = create("sh", "-c", "echo ran")
    first = ended(runtime, once)
    again = runtime.start_container(once.id)
    assert (again.state, again.started_at) == ("exited", first.started_at)
    assert log_text(first) == "ran"


def test_the_exit_code_is_known_at_once(runtime: PodmanRuntime, create: Make) -> None:
    running = runtime.start_container(create("sleep", "100").id)
    wait_dead(running.pid, signal.SIGKILL)
    begun = time.monotonic()
    record = runtime.wait_container(running.id)
    assert time.monotonic() - begun < 1
    assert (record.state, record.exit_code) == ("exited", 137)
    assert record.finished_at == pytest.approx(time.time(), abs=2)


def test_a_container_that_ate_its_memory_says_so(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    mark = Path("oom")
    was_there = mark.exists()
    eater = create("sh", "-c", "x=0123456789abcdef; while true; do x=$x$x; done", memory_limit=16 << 20)
    record = ended(runtime, eater)
    if not was_there:
        mark.unlink(missing_ok=True)
    assert record.exit_code == 137
    shown = podman.run("inspect", record.id, "--format", "{{.State.OOMKilled}}").stdout.strip()
    known = shown == "true"
    # Podman 4's monitor leaves its mark where the service was started, which is not where Podman looks.
    assert known or runtime.info().version.startswith("4.")
    assert record.oom_killed == known
    assert runtime.list_containers()[0].oom_killed == known


def test_the_grace_period_is_given_and_then_ends(runtime: PodmanRuntime, create: Make) -> None:
    polite = runtime.start_container(create("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done").id)
    wait_for(lambda: Path(f"/proc/{polite.pid}/cmdline").read_bytes(), what="the trap")
    time.sleep(0.3)  # nothing tells from outside that the trap is set
    assert runtime.stop_container(polite.id, 10).exit_code == 7
    deaf = runtime.start_container(create("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done").id)
    time.sleep(0.3)
    begun = time.monotonic()
    assert runtime.stop_container(deaf.id, 1).exit_code == 137
    assert 0.9 < time.monotonic() - begun < 8


@pytest.mark.parametrize("signal", ["TERM", "USR1"])
def test_a_container_is_asked_to_end_and_not_waited_for(
    runtime: PodmanRuntime, create: Make, signal: str
) -> None:
    asked = {} if signal == "TERM" else {"stop_signal": f"SIG{signal}"}
    script = f"trap 'sleep 1; exit 7' {signal}; while :; do sleep 0.1; done"
    slow = runtime.start_container(create("sh", "-c", script, **asked).id)
    time.sleep(0.3)  # nothing tells from outside that the trap is set
    begun = time.monotonic()
    assert runtime.signal_container(slow.id).state == "running"
    assert time.monotonic() - begun < 1
    wait_for(lambda: not Path(f"/proc/{slow.pid}").exists(), what="the end")
    assert runtime.wait_container(slow.id).exit_code == 7
    assert runtime.signal_container(slow.id).exit_code == 7


def test_asking_what_does_not_run_to_end_succeeds(runtime: PodmanRuntime, create: Make) -> None:
    created = create("true")
    assert runtime.signal_container(created.id).state == "created"
    gone = runtime.signal_container("0" * 64)
    assert (gone.id, gone.state) == ("0" * 64, "unknown")


def test_the_grace_period_may_exceed_the_request_timeout(podman: PodmanService) -> None:
    impatient = runtime_on(podman, request_timeout=2)
    deaf = impatient.start_container(
        impatient.create_container(config("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")).id
    )
    time.sleep(0.3)
    assert impatient.stop_container(deaf.id, 3).exit_code == 137


def test_stopping_what_does_not_run_succeeds(runtime: PodmanRuntime, create: Make) -> None:
    created = create("true")
    assert runtime.stop_container(created.id, 1).state in ("created", "exited")
    record = ended(runtime, create("sh", "-c", "exit 5"))
    assert runtime.stop_container(record.id, 1).exit_code == 5
    gone = runtime.stop_container("0" * 64, 1)
    assert (gone.id, gone.state) == ("0" * 64, "unknown")


def test_what_is_gone_is_gone(runtime: PodmanRuntime) -> None:
    runtime.remove_container("0" * 64)
    assert runtime.wait_container("0" * 64).state == "unknown"
    with pytest.raises(PermanentError, match="no container 000000000000"):
        runtime.start_container("0" * 64)


def test_a_running_container_is_removed_at_once(runtime: PodmanRuntime, create: Make) -> None:
    running = runtime.start_container(create("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done").id)
    begun = time.monotonic()
    runtime.remove_container(running.id)
    assert time.monotonic() - begun < 5
    wait_dead(running.pid)
    assert runtime.list_containers() == []


def test_the_list_agrees_with_the_records(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    podman.run("create", "--name", "not-ours", "--network", "host", IMAGE, "true")
    running = runtime.start_container(create("sleep", "100").id)
    stopped = ended(runtime, create("sh", "-c", "exit 4"))
    created = create("true")
    listed = {record.id: record for record in runtime_on(podman).list_containers()}
    assert set(listed) == {running.id, stopped.id, created.id}
    for seen in (listed, {record.id: record for record in runtime.list_containers()}):
        assert seen[stopped.id] == stopped
        now = seen[running.id]
        assert int(now.started_at) == int(running.started_at)
        assert msgspec.structs.replace(now, started_at=running.started_at) == running
        assert seen[created.id].state == "created"
        assert seen[created.id].log_path.endswith("ctr.log")


def test_environment_directory_and_arguments_arrive(runtime: PodmanRuntime, create: Make) -> None:
    shown = create(
        "sh", "-c", 'pwd; echo "$A"; echo "$0"', args=["an arg"], env={"A": "b c=d"}, working_dir="/new/dir"
    )
    assert log_text(ended(runtime, shown)) == "/new/dir\nb c=d\nan arg"


def test_nothing_of_the_hosts_environment_arrives(runtime: PodmanRuntime, create: Make) -> None:
    names = {line.split("=")[0] for line in log_text(ended(runtime, create("env"))).splitlines()}
    assert names <= {"PATH", "HOME", "HOSTNAME", "TERM", "container", "SHLVL", "PWD"}


def test_the_hosts_name_or_ones_own(runtime: PodmanRuntime, create: Make) -> None:
    assert log_text(ended(runtime, create("hostname"))) == socket.gethostname()
    assert log_text(ended(runtime, create("hostname", hostname="web-0"))) == "web-0"


def test_a_network_namespace_is_joined_by_path(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    podman.run("run", "-d", "--name", "holder", "--network", "none", IMAGE, "sleep", "100")
    pid = podman.run("inspect", "holder", "--format", "{{.State.Pid}}").stdout.strip()
    path = f"/proc/{pid}/ns/net"
    joined = runtime.start_container(create("sleep", "100", network=path, hostname="web-0").id)
    assert os.stat(f"/proc/{joined.pid}/ns/net").st_ino == os.stat(path).st_ino


def test_limits_reach_the_cgroup(runtime: PodmanRuntime, podman: PodmanService, create: Make) -> None:
    running = runtime.start_container(
        create("sleep", "100", cpu_limit=0.5, cpu_request=0.25, memory_limit=32 << 20).id
    )
    shown = json.loads(podman.run("inspect", running.id).stdout)[0]["HostConfig"]
    assert (shown["CpuQuota"], shown["CpuPeriod"], shown["CpuShares"]) == (50_000, 100_000, 256)
    assert shown["Memory"] == 32 << 20
    groups = [line.split(":", 2)[1:] for line in Path(f"/proc/{running.pid}/cgroup").read_text().splitlines()]
    memory = next((path for names, path in groups if "memory" in names.split(",")), None)
    if memory is not None:
        limit = Path(f"/sys/fs/cgroup/memory{memory}/memory.limit_in_bytes")
    else:
        limit = Path(f"/sys/fs/cgroup{groups[0][1]}/memory.max")
    assert int(limit.read_text()) == 32 << 20


def test_the_log_file_stays_within_its_size(podman: PodmanService) -> None:
    small = runtime_on(podman, log_size_bytes=8192)
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    record = ended(small, small.create_container(config("sh", "-c", script)))
    text = Path(record.log_path).read_text()
    assert len(text) <= 8192
    assert text.splitlines()[-1].endswith(" line 1999")


def test_a_monitor_that_was_killed_took_the_exit_code_with_it(podman: PodmanService) -> None:
    runtime = runtime_on(podman, exit_timeout=1)
    running = runtime.start_container(runtime.create_container(config("sleep", "100")).id)
    with pytest.raises(TemporaryError, match="still runs"):
        runtime.wait_container(running.id)
    conmon = int(podman.run("inspect", running.id, "--format", "{{.State.ConmonPid}}").stdout)
    wait_dead(conmon, signal.SIGKILL)
    wait_dead(running.pid, signal.SIGKILL)
    record = runtime.wait_container(running.id)
    assert (record.state, record.exit_code) == ("exited", 255)
    assert "conmon" in record.error

    remove(runtime, running.id)  # Podman finds out only now, and says so once
    assert runtime.list_containers() == []


def test_after_a_power_cut_what_ran_has_ended_and_not_in_success(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    running = runtime.start_container(create("sleep", "100").id)
    done = ended(runtime, create("sh", "-c", "exit 0"))
    never = create("true")
    # As a power cut leaves it: no process, no clean-up, and the mark of the last boot gone.
    conmon = int(podman.run("inspect", running.id, "--format", "{{.State.ConmonPid}}").stdout)
    podman.process.kill()
    wait_dead(conmon, signal.SIGKILL)
    wait_dead(running.pid, signal.SIGKILL)
    (alive,) = podman.directory.glob("tmp/**/alive")
    alive.unlink()
    podman.start()
    seen = {record.id: record for record in runtime.list_containers()}
    assert (seen[running.id].state, seen[running.id].exit_code) == ("exited", 255)
    assert (seen[done.id].state, seen[done.id].exit_code) == ("exited", 0)
    assert seen[never.id].state == "created"
    assert runtime.start_container(running.id).state == "exited", "it is not run a second time"
    for record in seen.values():
        remove(runtime, record.id)  # no mount survives a real power cut; here Podman trips over them
    assert runtime.list_containers() == []


def test_the_service_may_come_and_go_between_calls(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    running = runtime.start_container(create("sleep", "100").id)
    podman.stop()
    with pytest.raises(TemporaryError, match=str(podman.socket)):
        runtime.list_containers()
    podman.start()
    assert [record.pid for record in runtime.list_containers()] == [running.pid]


def test_no_connection_is_held_between_calls(runtime: PodmanRuntime, podman: PodmanService) -> None:
    """A kept connection would keep Podman's service from exiting when it has nothing to do."""
    runtime.list_containers()
    runtime.find_image(IMAGE)

    def connections() -> int:
        table = Path("/proc/net/unix").read_text().splitlines()
        return sum(1 for line in table if line.endswith(str(podman.socket)) and line.split()[5] == "03")

    wait_for(lambda: connections() == 0, what="no connection to the socket")


def test_four_workers_at_once(runtime: PodmanRuntime) -> None:
    def live(number: int) -> int:
        return ended(runtime, runtime.create_container(config("sh", "-c", f"exit {number}"))).exit_code

    with ThreadPoolExecutor(4) as workers:
        assert list(workers.map(live, range(8))) == list(range(8))


def test_a_frozen_service_times_out(podman: PodmanService) -> None:
    impatient = runtime_on(podman, request_timeout=0.5)
    podman.process.freeze()
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"within 0.5 s") as caught:
        impatient.list_containers()
    assert time.monotonic() - begun < 3
    assert caught.value.reason == "RuntimeUnavailable"
    podman.process.thaw()
    assert impatient.list_containers() == []


def test_one_call_waits_while_others_go_on(runtime: PodmanRuntime, create: Make) -> None:
    """A grace period that runs holds up no other call."""
    deaf = runtime.start_container(create("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done").id)
    time.sleep(0.3)
    stopping = threading.Thread(target=runtime.stop_container, args=(deaf.id, 3))
    stopping.start()
    try:
        time.sleep(0.3)
        begun = time.monotonic()
        assert ended(runtime, create("true")).exit_code == 0
        assert time.monotonic() - begun < 2.5
        assert stopping.is_alive()
    finally:
        stopping.join()
