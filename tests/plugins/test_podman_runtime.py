"""PodmanRuntime on a real Podman, a real registry, real containers."""

import itertools
import json
import os
import select
import signal
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import LABEL_POD_UID, ContainerConfig, ContainerRecord, PullCredentials
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.runtime import PodmanRuntime
from tests.support.podman import PodmanService
from tests.support.registry import Registry
from tests.support.waiting import wait_for

IMAGE = "localhost/busybox:1"
_numbers = itertools.count()


@pytest.fixture
def runtime(podman: PodmanService) -> PodmanRuntime:
    return PodmanRuntime(PodmanConfig(socket=str(podman.socket)))


Make = Callable[..., ContainerRecord]


@pytest.fixture
def create(runtime: PodmanRuntime) -> Make:
    """Create a container from the changes to a usual config; a name is given where there is none."""

    def make(*command: str, **changes: object) -> ContainerRecord:
        return runtime.create_container(config(*command, **changes))

    return make


def config(*command: str, **changes: object) -> ContainerConfig:
    base = ContainerConfig(
        name=f"c{next(_numbers)}", image=IMAGE, labels={LABEL_POD_UID: "u"}, command=list(command) or None
    )
    return msgspec.structs.replace(base, **changes)


def wait_dead(pid: int, number: signal.Signals | None = None) -> None:
    """Return once the process has ended, as a pidfd tells; ``number`` is sent to it first."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if number is not None:
            signal.pidfd_send_signal(descriptor, number)
        assert select.select([descriptor], [], [], 15)[0], f"process {pid} did not end"
    finally:
        os.close(descriptor)


def ended(runtime: PodmanRuntime, record: ContainerRecord) -> ContainerRecord:
    """Run a created container to its end."""
    started = runtime.start_container(record.id)
    if started.pid:
        wait_dead(started.pid)
    return runtime.wait_container(record.id)


def log_text(record: ContainerRecord) -> str:
    """The container's output, from its log in CRI's format."""
    lines = wait_for(lambda: Path(record.log_path).read_text().splitlines(), what="a log line")
    return "\n".join(line.split(" ", 3)[3] for line in lines)


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
    assert Path(f"/proc/{running.pid}/cmdline").read_bytes() == b"sleep\x00100\x00"
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


def test_an_absent_image_is_named(create: Make) -> None:
    with pytest.raises(PermanentError, match=r"localhost/nope:1 is not on this node") as caught:
        create("true", image="localhost/nope:1")
    assert caught.value.reason == "ImageNotPresent"


def test_a_config_that_cannot_work_is_permanent(create: Make) -> None:
    with pytest.raises(PermanentError, match="names must match") as caught:
        create("true", name="not/a name")
    assert caught.value.reason == "CreateContainerError"


def test_a_network_namespace_that_is_absent_may_come_yet(create: Make) -> None:
    with pytest.raises(TemporaryError, match="namespace"):
        create("true", network="/run/netns/absent-for-sure")


@pytest.mark.parametrize(
    ("command", "words"),
    [("/bin/absent", "no such file"), ("absent", "not found"), ("/etc/passwd", "permission denied")],
)
def test_a_command_that_cannot_be_executed_is_permanent(
    runtime: PodmanRuntime, create: Make, command: str, words: str
) -> None:
    created = create(command)
    with pytest.raises(PermanentError, match=f"(?i){words}") as caught:
        runtime.start_container(created.id)
    assert caught.value.reason == "StartError"
    assert runtime.list_containers()[0].state == "created"


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


def test_the_grace_period_may_exceed_the_request_timeout(podman: PodmanService) -> None:
    impatient = PodmanRuntime(PodmanConfig(socket=str(podman.socket), request_timeout=2))
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
    listed = {
        record.id: record
        for record in PodmanRuntime(PodmanConfig(socket=str(podman.socket))).list_containers()
    }
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


def test_args_alone_replace_the_images_command(runtime: PodmanRuntime, create: Make) -> None:
    assert log_text(ended(runtime, create(args=["echo", "hello"]))) == "hello"


def test_nothing_of_the_hosts_environment_arrives(runtime: PodmanRuntime, create: Make) -> None:
    names = {line.split("=")[0] for line in log_text(ended(runtime, create("env"))).splitlines()}
    assert names <= {"PATH", "HOME", "HOSTNAME", "TERM", "container", "SHLVL", "PWD"}


def test_the_hosts_name_or_ones_own(runtime: PodmanRuntime, create: Make) -> None:
    assert log_text(ended(runtime, create("hostname"))) == sockets.gethostname()
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
    small = PodmanRuntime(PodmanConfig(socket=str(podman.socket), log_size_bytes=8192))
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    record = ended(small, small.create_container(config("sh", "-c", script)))
    text = Path(record.log_path).read_text()
    assert len(text) <= 8192
    assert text.splitlines()[-1].endswith(" line 1999")


def test_an_images_health_check_never_runs(
    runtime: PodmanRuntime, podman: PodmanService, create: Make, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nHEALTHCHECK --interval=1s CMD touch /checked\n")
    podman.run("build", "--format", "docker", "--tag", "localhost/checked:1", str(tmp_path))
    assert "touch /checked" in podman.run("image", "inspect", "localhost/checked:1").stdout
    running = runtime.start_container(create("sleep", "100", image="localhost/checked:1").id)
    assert "touch" not in json.dumps(
        json.loads(podman.run("inspect", running.id).stdout)[0]["Config"].get("Healthcheck")
    )
    time.sleep(1.5)
    assert not Path(f"/proc/{running.pid}/root/checked").exists()


def test_an_images_volume_goes_with_the_container(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    podman.run("create", "--name", "base", "--network", "host", IMAGE, "true")
    podman.run("commit", "-q", "--change", "VOLUME /data", "base", "localhost/volume:1")
    running = runtime.start_container(create("sleep", "100", image="localhost/volume:1").id)
    assert podman.run("volume", "ls", "-q").stdout.strip()
    runtime.remove_container(running.id)
    assert podman.run("volume", "ls", "-q").stdout.strip() == ""


def test_a_monitor_that_was_killed_took_the_exit_code_with_it(podman: PodmanService) -> None:
    runtime = PodmanRuntime(PodmanConfig(socket=str(podman.socket), exit_timeout=1))
    running = runtime.start_container(runtime.create_container(config("sleep", "100")).id)
    with pytest.raises(TemporaryError, match="still runs"):
        runtime.wait_container(running.id)
    conmon = int(podman.run("inspect", running.id, "--format", "{{.State.ConmonPid}}").stdout)
    wait_dead(conmon, signal.SIGKILL)
    wait_dead(running.pid, signal.SIGKILL)
    record = runtime.wait_container(running.id)
    assert (record.state, record.exit_code) == ("exited", 255)
    assert "conmon" in record.error

    def removed() -> bool:
        try:
            runtime.remove_container(running.id)
        except TemporaryError:  # Podman finds out only now, and says so once
            return False
        return True

    wait_for(removed, what="the container removed")
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
        runtime.remove_container(record.id)
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
    impatient = PodmanRuntime(PodmanConfig(socket=str(podman.socket), request_timeout=0.5))
    podman.process.freeze()
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"within 0.5 s") as caught:
        impatient.list_containers()
    assert time.monotonic() - begun < 3
    assert caught.value.reason == "RuntimeUnavailable"
    podman.process.thaw()
    assert impatient.list_containers() == []


def test_find_image(runtime: PodmanRuntime) -> None:
    found = runtime.find_image(IMAGE)
    assert found is not None
    assert found.reference == IMAGE
    assert len(found.id) == 64
    assert runtime.find_image("localhost/absent:1") is None
    assert runtime.find_image("127.0.0.1:5/a/b/c@sha256:" + "0" * 64) is None
    for wrong in ("Not A Reference", "", "../../containers/json?x=y#z"):
        with pytest.raises(PermanentError) as caught:
            runtime.find_image(wrong)
        assert caught.value.reason in ("InvalidImageName", "InvalidArgument")


@pytest.fixture
def pushed(podman: PodmanService, registry: Registry) -> Iterator[str]:
    """An image that the registry has and Podman has not."""
    reference = f"{registry.address}/edge/app:{next(_numbers)}"
    podman.run("tag", IMAGE, reference)
    podman.run("push", "--quiet", "--tls-verify=false", reference)
    podman.run("untag", IMAGE, reference)
    yield reference
    podman.run("untag", IMAGE, reference, check=False)


def test_pull_from_a_real_registry(runtime: PodmanRuntime, pushed: str, create: Make) -> None:
    assert runtime.find_image(pushed) is None
    pulled = runtime.pull_image(pushed, None)
    assert pulled == runtime.find_image(pushed)
    assert runtime.pull_image(pushed, PullCredentials(username="u", password="p")).id == pulled.id
    assert ended(runtime, create("true", image=pushed)).exit_code == 0


def test_an_insecure_registry_is_one_that_is_named(
    podman: PodmanService, registry: Registry, pushed: str
) -> None:
    """The plain HTTP of the test's registry is in registries.conf too, so the request itself is looked at."""
    asked: list[bytes] = []
    ours = PodmanRuntime(PodmanConfig(socket=str(podman.socket), insecure_registries=[registry.address]))
    original = ours._client.post

    def post(path: str, params: dict[str, str], **rest: object) -> object:
        asked.append(json.dumps(params).encode())
        return original(path, params, **rest)  # type: ignore[arg-type]

    ours._client.post = post  # type: ignore[method-assign, assignment]
    assert ours.pull_image(pushed, None).reference == pushed
    assert b'"tlsVerify": "false"' in asked[0]


def test_an_image_that_the_registry_lacks(runtime: PodmanRuntime, registry: Registry) -> None:
    with pytest.raises(TemporaryError, match="could not pull") as caught:
        runtime.pull_image(f"{registry.address}/edge/absent:1", None)
    assert caught.value.reason == "ErrImagePull"


def test_a_registry_that_does_not_answer(runtime: PodmanRuntime) -> None:
    with pytest.raises(TemporaryError, match="refused") as caught:
        runtime.pull_image("127.0.0.1:1/edge/app:1", None)
    assert caught.value.reason == "ErrImagePull"


def test_a_pull_that_takes_too_long_is_given_up(podman: PodmanService) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as silent:
        impatient = PodmanRuntime(PodmanConfig(socket=str(podman.socket), pull_timeout=1))
        begun = time.monotonic()
        with pytest.raises(TemporaryError, match="within 1 s"):
            impatient.pull_image(f"127.0.0.1:{silent.getsockname()[1]}/edge/app:1", None)
        assert time.monotonic() - begun < 4


def test_a_reference_that_is_none(runtime: PodmanRuntime) -> None:
    with pytest.raises(PermanentError) as caught:
        runtime.pull_image("Not A Reference", None)
    assert caught.value.reason == "InvalidImageName"


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
