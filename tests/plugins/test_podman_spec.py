"""ContainerConfig to Podman's create request, and Podman's JSON to records: pure functions."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.runtime import ContainerConfig, ContainerRecord, ContainerSecurity, Mount
from edgeagent_podman import spec

LOG_SIZE = 1 << 20
ID = "ab" * 32
NEVER = "0001-01-01T00:00:00Z"


def config(**changes: object) -> ContainerConfig:
    base = ContainerConfig(name="web", image="localhost/web:1", labels={})
    return msgspec.structs.replace(base, **changes)


def body(**changes: object) -> dict[str, object]:
    """The request as Podman will read it."""
    decoded: dict[str, object] = msgspec.json.decode(
        msgspec.json.encode(spec.to_spec(config(**changes), LOG_SIZE))
    )
    return decoded


words = st.lists(st.text(max_size=20), max_size=4)
configs = st.builds(
    ContainerConfig,
    name=st.text(min_size=1, max_size=30),
    image=st.text(min_size=1, max_size=30),
    labels=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4),
    hostname=st.text(max_size=10),
    command=st.none() | words,
    args=st.none() | words,
    working_dir=st.text(max_size=10),
    env=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4),
    cpu_limit=st.floats(0, 1024),
    cpu_request=st.floats(0, 1024),
    memory_limit=st.integers(0, 1 << 45),
    network=st.just("host") | st.text(min_size=1, max_size=30).map("/run/netns/{}".format),
    stop_timeout=st.integers(-5, 10**6),
    mounts=st.lists(
        st.builds(
            Mount,
            source=st.text(max_size=10),
            destination=st.text(max_size=10) | st.sampled_from(["/etc/hosts", "/etc/resolv.conf"]),
            read_only=st.booleans(),
            propagation=st.sampled_from(["private", "rslave", "rshared"]),
        ),
        max_size=3,
    ),
    security=st.builds(
        ContainerSecurity,
        user=st.sampled_from(["", "1", "1:2"]),
        supplemental_groups=st.lists(st.integers(0, 2**31), max_size=3),
        strict_groups=st.booleans(),
        privileged=st.booleans(),
        add_capabilities=st.lists(st.sampled_from(["ALL", "CHOWN"]), max_size=2),
        drop_capabilities=st.lists(st.sampled_from(["ALL", "CHOWN"]), max_size=2),
        unmasked_proc=st.booleans(),
    ),
    sysctls=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=2),
    ipc_namespace=st.sampled_from(["private", "host", "/proc/1/ns/ipc", "container:abc"]),
    pid_namespace=st.sampled_from(["private", "host", "/proc/1/ns/pid", "container:abc"]),
    pids_limit=st.integers(0, 1 << 22),
    oom_score_adj=st.integers(-1000, 1000),
    stdin=st.booleans(),
    tty=st.booleans(),
    stop_signal=st.sampled_from(["", "SIGTERM", "SIGRTMIN+3"]),
    pause=st.booleans(),
)


@given(configs)
def test_every_config_gives_what_podman_and_the_kernel_take(any_config: ContainerConfig) -> None:
    made = spec.to_spec(any_config, LOG_SIZE)
    raw = msgspec.json.decode(msgspec.json.encode(made))
    assert msgspec.convert(raw, spec.SpecGenerator) == made, "nothing is lost on the way"
    assert raw["env"] == any_config.env
    assert raw["labels"] == any_config.labels
    cpu = raw["resource_limits"]["cpu"]
    assert spec.MIN_SHARES <= cpu["shares"] <= spec.MAX_SHARES
    assert ("quota" in cpu) == (any_config.cpu_limit > 0) == ("period" in cpu)
    assert cpu.get("quota", spec.MIN_QUOTA_US) >= spec.MIN_QUOTA_US
    assert ("memory" in raw["resource_limits"]) == (any_config.memory_limit > 0)
    # Podman refuses a name with the host's UTS namespace, and a value with a mode that takes none.
    assert raw["utsns"]["nsmode"] == "private" or "hostname" not in raw
    assert ("value" in raw["netns"]) == (raw["netns"]["nsmode"] == "path")
    assert raw["stop_timeout"] >= 0
    assert ("image" in raw) != any_config.pause
    assert ("pids" in raw["resource_limits"]) == (any_config.pids_limit > 0)
    assert ("stop_signal" in raw) == bool(any_config.stop_signal)
    for kind in ("ipcns", "pidns"):
        assert ("value" in raw[kind]) == (raw[kind]["nsmode"] in ("path", "container"))


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "arguments"),
    [
        (None, None, None, None),
        (["run"], None, ["run"], None),
        (None, ["-v"], None, ["-v"]),
        (["run"], ["-v"], ["run"], ["-v"]),
        ([], [], None, None),
    ],
)
def test_command_replaces_the_entry_point_and_args_the_arguments(
    command: list[str] | None, args: list[str] | None, entrypoint: object, arguments: object
) -> None:
    made = body(command=command, args=args)
    assert made.get("entrypoint") == entrypoint
    assert made.get("command") == arguments


@pytest.mark.parametrize(
    ("request_cores", "limit_cores", "shares"),
    [(0, 0, 2), (0.001, 0, 2), (0.25, 1, 256), (1, 0, 1024), (0, 0.5, 512), (1000, 0, 262_144)],
)
def test_shares_are_what_kubelet_computes(request_cores: float, limit_cores: float, shares: int) -> None:
    assert spec.cpu_shares(config(cpu_request=request_cores, cpu_limit=limit_cores)) == shares


def test_a_memory_limit_leaves_no_swap() -> None:
    assert body(memory_limit=64 << 20)["resource_limits"] == {
        "cpu": {"shares": 2},
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
    }


def test_a_cpu_limit_is_a_quota_of_the_period() -> None:
    assert body(cpu_limit=0.25)["resource_limits"] == {
        "cpu": {"shares": 256, "quota": 25_000, "period": 100_000}
    }


def test_a_pod_network_is_joined_by_path_and_the_name_is_its_own() -> None:
    made = body(network="/run/netns/pod-1", hostname="web-0")
    assert made["netns"] == {"nsmode": "path", "value": "/run/netns/pod-1"}
    assert made["utsns"] == {"nsmode": "private"}
    assert made["hostname"] == "web-0"


def test_on_the_hosts_network_the_name_is_the_hosts() -> None:
    made = body()
    assert made["netns"] == {"nsmode": "host"}
    assert made["utsns"] == {"nsmode": "host"}
    assert "hostname" not in made


def test_podman_itself_restarts_checks_and_wraps_nothing() -> None:
    made = body()
    assert made["restart_policy"] == "no"
    assert made["healthconfig"] == {"Test": ["NONE"]}
    assert made["log_configuration"] == {"driver": "k8s-file", "size": LOG_SIZE}
    assert not any(made[name] for name in ("init", "remove", "terminal", "stdin", "env_host", "httpproxy"))


def inspected(status: str, **state: object) -> ContainerRecord:
    raw = {
        "Id": ID,
        "Name": "web",
        "Created": "2026-01-01T10:00:00.123456789Z",
        "Image": "sha",
        "ImageName": "localhost/web:1",
        "Something": {"new": True},
        "State": {"Status": status, "StartedAt": NEVER, "FinishedAt": NEVER, **state},
        "Config": {"Labels": None},
        "HostConfig": {"LogConfig": {"Path": f"/x/{ID}/ctr.log"}},
    }
    return spec.record_of_inspect(msgspec.json.decode(msgspec.json.encode(raw), type=spec.Inspect))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("configured", "created"),
        ("created", "created"),
        ("initialized", "created"),
        ("running", "running"),
        ("paused", "running"),
        ("stopping", "running"),
        ("stopped", "exited"),
        ("exited", "exited"),
        ("removing", "unknown"),
        ("unknown", "unknown"),
        ("invented later", "unknown"),
    ],
)
def test_podmans_states(status: str, state: str) -> None:
    assert inspected(status).state == state


def test_times_are_seconds_and_zero_for_not_yet() -> None:
    record = inspected("running", StartedAt="2026-01-01T11:00:00.5+01:00", Pid=7)
    assert record.created_at == pytest.approx(1767261600.123456)
    assert record.started_at == 1767261600.5
    assert record.finished_at == 0


@given(st.text(max_size=40))
def test_a_time_that_is_none_is_zero(text: str) -> None:
    assert spec.parse_time(text) >= 0


@pytest.mark.parametrize("status", ["created", "exited"])  # what Podman 4 and what Podman 5 say
def test_an_end_that_nobody_saw_is_no_success(status: str) -> None:
    record = inspected(status, StartedAt="2026-01-01T10:00:00Z", ExitCode=0)
    assert (record.state, record.exit_code) == ("exited", 255)
    assert "went down" in record.error


def test_a_short_life_may_end_before_it_starts() -> None:
    """Podman takes the end from a file's time stamp, which the kernel rounds down to its tick."""
    record = inspected(
        "stopped", StartedAt="2026-01-01T10:00:00.010Z", FinishedAt="2026-01-01T10:00:00.004Z", ExitCode=3
    )
    assert (record.state, record.exit_code, record.error) == ("exited", 3, "")


def test_a_list_is_enough_for_what_runs_or_never_ran() -> None:
    item = spec.ListItem(id=ID, names=["web"], state="running", pid=9, started_at=5, labels={"a": "b"})
    assert not spec.needs_inspect(item)
    record = spec.record_of_list_item(item, "/log")
    assert (record.state, record.pid, record.started_at, record.log_path) == ("running", 9, 5.0, "/log")
    never = msgspec.structs.replace(item, state="created", pid=0, started_at=-62135596800)
    assert not spec.needs_inspect(never)
    assert spec.record_of_list_item(never, "").started_at == 0


@pytest.mark.parametrize(
    ("state", "started"), [("exited", 5), ("created", 5), ("stopped", 5), ("removing", 0)]
)
def test_an_end_needs_the_inspect(state: str, started: int) -> None:
    assert spec.needs_inspect(spec.ListItem(id=ID, names=["web"], state=state, started_at=started))


@pytest.mark.parametrize(
    ("read_only", "propagation", "options"),
    [
        (False, "private", ["rbind", "rw", "rprivate"]),
        (True, "rslave", ["rbind", "ro", "rslave"]),
        (False, "rshared", ["rbind", "rw", "rshared"]),
    ],
)
def test_a_mount_is_a_bind_of_all_below_it(
    read_only: bool, propagation: Literal["private", "rslave", "rshared"], options: list[str]
) -> None:
    mount = Mount(source="/a", destination="/b", read_only=read_only, propagation=propagation)
    assert body(mounts=[mount])["mounts"] == [
        {"destination": "/b", "type": "bind", "source": "/a", "options": options}
    ]


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ("private", {"nsmode": "private"}),
        ("host", {"nsmode": "host"}),
        ("/proc/7/ns/pid", {"nsmode": "path", "value": "/proc/7/ns/pid"}),
        ("/run/odd:name", {"nsmode": "path", "value": "/run/odd:name"}),
        ("container:abc", {"nsmode": "container", "value": "abc"}),
    ],
)
def test_namespaces(wanted: str, made: dict[str, str]) -> None:
    assert body(pid_namespace=wanted)["pidns"] == body(ipc_namespace=wanted)["ipcns"] == made


def test_files_that_are_mounted_are_not_written_by_podman() -> None:
    def managed(*destinations: str) -> tuple[object, object]:
        made = body(mounts=[Mount(source="/x", destination=destination) for destination in destinations])
        return made["use_image_hosts"], made["use_image_resolve_conf"]

    assert managed("/etc") == (False, False)
    assert managed("/etc/hosts") == (True, False)
    assert managed("/etc/hosts", "/etc/resolv.conf") == (True, True)


def test_a_pause_container_may_do_nothing_whatever_it_is_told() -> None:
    made = body(pause=True, command=["sh"], security=ContainerSecurity(privileged=True, user="5"))
    assert made["entrypoint"] == ["/catatonit", "-P"]
    assert (made["privileged"], made["cap_drop"], made["read_only_filesystem"]) == (False, ["ALL"], True)
    assert made["ipcns"] == {"nsmode": "shareable"}


def test_an_oom_score_is_as_low_as_it_may_be() -> None:
    low = spec.to_spec(config(oom_score_adj=-997), LOG_SIZE, lowest_score=-5)
    high = spec.to_spec(config(oom_score_adj=1000), LOG_SIZE, lowest_score=-5)
    assert (low.oom_score_adj, high.oom_score_adj) == (-5, 1000)
