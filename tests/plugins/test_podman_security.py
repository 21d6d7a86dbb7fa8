"""What a container may do, seen from inside it, on a real Podman; and the pure part of it.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.runtime import ContainerSecurity
from edgeagent_podman import oom, security
from edgeagent_podman.accounts import memberships
from edgeagent_podman.runtime import PodmanRuntime
from edgeagent_podman.signals import signal_number
from tests.plugins.containers import IMAGE, Make, config, ended, log_text, run, runtime_on, wait_dead
from tests.support.podman import PodmanService

NET_BIND_SERVICE, NET_ADMIN, SYS_TIME, CHOWN = 10, 12, 25, 0
STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"


def status(runtime: PodmanRuntime, **changes: object) -> dict[str, int]:
    """Capability sets and flags of a container's process."""
    lines = run(runtime, STATUS, security=ContainerSecurity(**changes)).splitlines()  # type: ignore[arg-type]
    return {name: int(value, 16) for name, value in (line.split(":\t") for line in lines)}


def has(mask: int, bit: int) -> bool:
    return bool(mask >> bit & 1)


@pytest.fixture
def accounts(podman: PodmanService, tmp_path: Path) -> Iterator[str]:
    """Kubernetes' own example: user 1000 is in group 50000 in the image."""
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\napp:x:1000:\nin-image:x:50000:other,app\n")
    text = f"FROM {IMAGE}\nCOPY passwd group /etc/\nUSER app\n"
    (tmp_path / "Containerfile").write_text(text)
    podman.run("build", "--quiet", "--tag", "localhost/accounts:1", str(tmp_path))
    yield "localhost/accounts:1"
    podman.run("rmi", "--force", "localhost/accounts:1", check=False)


@pytest.mark.parametrize(
    ("user", "groups", "strict", "uid", "gid", "all_groups"),
    [
        ("", [], False, 1000, 1000, {1000, 50000}),
        ("", [4000], True, 1000, 1000, {1000, 4000}),
        ("1000", [4000], False, 1000, 1000, {1000, 4000, 50000}),
        ("1000", [4000], True, 1000, 1000, {1000, 4000}),
        ("1000:3000", [4000], False, 1000, 3000, {3000, 4000, 50000}),
        ("1000:3000", [4000], True, 1000, 3000, {3000, 4000}),
        ("2000", [], False, 2000, 0, {0}),
        ("2000:0", [7], False, 2000, 0, {0, 7}),
        ("0", [], False, 0, 0, {0}),
    ],
)
def test_users_and_groups(
    runtime: PodmanRuntime,
    accounts: str,
    user: str,
    groups: list[int],
    strict: bool,
    uid: int,
    gid: int,
    all_groups: set[int],
) -> None:
    who = ContainerSecurity(user=user, supplemental_groups=groups, strict_groups=strict)
    shown = run(runtime, "id -u; id -g; id -G", image=accounts, security=who).splitlines()
    assert (int(shown[0]), int(shown[1])) == (uid, gid)
    assert {int(group) for group in shown[2].split()} == all_groups
    assert len(runtime.list_containers()) == 1


def test_the_image_tells_its_user(runtime: PodmanRuntime, accounts: str) -> None:
    found = runtime.find_image(accounts)
    assert found is not None
    assert found.user == "app"
    plain = runtime.find_image(IMAGE)
    assert plain is not None
    assert plain.user == ""


def test_looking_into_an_image_leaves_nothing(
    runtime: PodmanRuntime, podman: PodmanService, accounts: str
) -> None:
    wanted = config("true", name="web", image=accounts, security=ContainerSecurity(user="1000:3000"))
    # As after a power cut in the middle of the look.
    podman.run("create", "--name", "web-accounts", "--network", "host", accounts, "true")
    runtime.create_container(wanted)
    assert podman.run("ps", "--all", "--format", "{{.Names}}").stdout.split() == ["web"]


def test_groups_of_an_image_that_is_absent(create: Make) -> None:
    for who in (ContainerSecurity(user="1:1"), ContainerSecurity(strict_groups=True)):
        with pytest.raises(PermanentError) as caught:
            create("true", image="localhost/absent:1", security=who)
        assert caught.value.reason == "ImageNotPresent"


numbers = st.integers(0, 2**31)
lines = st.lists(st.text(alphabet="abc:,0123 \n", max_size=20), max_size=5).map("\n".join)


@given(lines, lines, numbers)
def test_any_accounts_give_groups(passwd: str, group: str, uid: int) -> None:
    assert all(gid >= 0 for gid in memberships(passwd, group, uid))


def test_the_default_capabilities_are_podmans(runtime: PodmanRuntime) -> None:
    shown = status(runtime)
    assert has(shown["CapEff"], CHOWN)
    assert not has(shown["CapBnd"], NET_ADMIN)
    assert shown["Seccomp"] == 2
    assert shown["NoNewPrivs"] == 0


def test_capabilities_are_added_and_dropped(runtime: PodmanRuntime) -> None:
    shown = status(runtime, add_capabilities=["NET_ADMIN"], drop_capabilities=["CHOWN"])
    assert has(shown["CapEff"], NET_ADMIN)
    assert not has(shown["CapBnd"], CHOWN)
    assert status(runtime, drop_capabilities=["ALL"])["CapBnd"] == 0
    only = status(runtime, drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"])
    assert only["CapEff"] == only["CapBnd"] == 1 << NET_BIND_SERVICE
    every = status(runtime, add_capabilities=["ALL"], drop_capabilities=["NET_ADMIN"])
    assert has(every["CapEff"], SYS_TIME)
    assert not has(every["CapBnd"], NET_ADMIN)


def test_a_users_capabilities(runtime: PodmanRuntime) -> None:
    """Those added by name reach a user that is not root, which is more than other runtimes give."""
    assert status(runtime, user="1000")["CapEff"] == 0
    shown = status(runtime, user="1000", add_capabilities=["NET_BIND_SERVICE"])
    assert shown["CapEff"] == 1 << NET_BIND_SERVICE


def test_an_unknown_capability_is_permanent(create: Make) -> None:
    with pytest.raises(PermanentError, match="CAP_FLY"):
        create("true", security=ContainerSecurity(add_capabilities=["FLY"]))


names = st.lists(st.sampled_from(["ALL", "chown", "CHOWN", "CAP_CHOWN", "NET_ADMIN", "KILL"]), max_size=4)


@given(names, names)
def test_no_pair_of_lists_is_refused_by_podman(add: list[str], drop: list[str]) -> None:
    added, dropped = security.capabilities(add, drop)
    assert not set(added) & set(dropped)
    assert all(name == "ALL" or name.startswith("CAP_") for name in added + dropped)
    assert ("ALL" in drop) == (dropped == ["ALL"])


def test_no_new_privileges(runtime: PodmanRuntime) -> None:
    assert status(runtime, no_new_privileges=True)["NoNewPrivs"] == 1


def test_privileged(runtime: PodmanRuntime) -> None:
    shown = status(runtime, privileged=True)
    assert has(shown["CapEff"], NET_ADMIN)
    assert shown["Seccomp"] == 0


def test_a_read_only_root_has_no_writable_folders_of_podmans(runtime: PodmanRuntime) -> None:
    script = "for d in / /tmp /var /run /root; do touch $d/x 2>/dev/null && echo $d; done; touch /dev/shm/x"
    assert run(runtime, script, security=ContainerSecurity(read_only_root=True)) == ""
    assert "/tmp" in run(runtime, script)  # noqa: S108 - the container's


def test_seccomp_profiles(runtime: PodmanRuntime, create: Make, tmp_path: Path) -> None:
    assert status(runtime, seccomp_profile="unconfined")["Seccomp"] == 0
    profile = tmp_path / "no-mkdir.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    own = ContainerSecurity(seccomp_profile=str(profile))
    assert run(runtime, "mkdir /made 2>/dev/null || echo refused", security=own) == "refused"
    with pytest.raises(EdgeAgentError, match=r"absent\.json"):
        create("true", security=ContainerSecurity(seccomp_profile=str(tmp_path / "absent.json")))


@pytest.mark.skipif(Path("/sys/module/apparmor").exists(), reason="needs a machine without AppArmor")
def test_apparmor_on_a_machine_without_it(runtime: PodmanRuntime, create: Make) -> None:
    assert run(runtime, "echo ran", security=ContainerSecurity(apparmor_profile="unconfined")) == "ran"
    with pytest.raises(PermanentError, match=r"(?i)apparmor is not enabled"):
        create("true", security=ContainerSecurity(apparmor_profile="my-profile"))


def test_selinux_options_are_passed_on(runtime: PodmanRuntime) -> None:
    """To no effect where SELinux is off."""
    options = {"level": "s0:c1,c2", "type": ""}
    assert run(runtime, "echo ran", security=ContainerSecurity(selinux_options=options)) == "ran"
    assert security.to_options(ContainerSecurity(selinux_options=options)).selinux_opts == ["level:s0:c1,c2"]


def test_proc_is_masked_or_not(runtime: PodmanRuntime) -> None:
    script = "grep -c ' /proc/' /proc/self/mountinfo || true"
    assert int(run(runtime, script)) > 0
    assert run(runtime, script, security=ContainerSecurity(unmasked_proc=True)) == "0"


def test_sysctls(runtime: PodmanRuntime, create: Make) -> None:
    shown = run(runtime, "cat /proc/sys/kernel/shm_rmid_forced", sysctls={"kernel.shm_rmid_forced": "1"})
    assert shown == "1"
    bad = create("true", sysctls={"kernel.panic": "1"})
    with pytest.raises(EdgeAgentError, match=r"kernel\.panic"):
        runtime.start_container(bad.id)
    with pytest.raises(PermanentError, match=r"net\.ipv4"):
        create("true", sysctls={"net.ipv4.ip_unprivileged_port_start": "0"}, network="host")


def test_pids_are_limited(runtime: PodmanRuntime, create: Make) -> None:
    running = runtime.start_container(create("sleep", "100", pids_limit=23).id)
    groups = [line.split(":", 2)[1:] for line in Path(f"/proc/{running.pid}/cgroup").read_text().splitlines()]
    path = next((path for names, path in groups if "pids" in names.split(",")), None)
    folder = f"/sys/fs/cgroup/pids{path}" if path is not None else f"/sys/fs/cgroup{groups[0][1]}"
    assert Path(folder, "pids.max").read_text().strip() == "23"


def test_the_oom_score(runtime: PodmanRuntime) -> None:
    script = "cat /proc/self/oom_score_adj"
    assert run(runtime, script, oom_score_adj=1000) == "1000"
    # As the kubelet asks for Guaranteed pods; where it may not be lowered, the pod runs all the same.
    assert int(run(runtime, script, oom_score_adj=-997)) == max(-997, oom.lowest_score())


def test_how_far_an_oom_score_may_be_lowered(tmp_path: Path) -> None:
    (tmp_path / "oom_score_adj").write_text("-5\n")
    (tmp_path / "status").write_text("Name:\tx\nCapEff:\t000001fffeffffff\n")
    assert oom.lowest_score(tmp_path) == -5
    (tmp_path / "status").write_text("Name:\tx\nCapEff:\t000001ffffffffff\n")
    assert oom.lowest_score(tmp_path) == -1000


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("SIGUSR1", signal.SIGUSR1),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("SIGRTMAX", 64),
    ],
)
def test_signals(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "SIG", "FOO", "0", "65", "RTMIN+31", "RTMAX-31", "SIG_IGN", "²", "-1"])
def test_what_is_no_signal_is_permanent(name: str) -> None:
    with pytest.raises(PermanentError) as caught:
        signal_number(name)
    assert caught.value.reason == "CreateContainerConfigError"


@given(st.text())
def test_any_word_is_a_signal_or_none(name: str) -> None:
    with contextlib.suppress(PermanentError):  # and no other
        assert 1 <= signal_number(name) <= 64


def test_the_stop_signal_is_sent(runtime: PodmanRuntime, create: Make) -> None:
    record = create(
        "sh", "-c", "trap 'exit 7' USR1; echo up; while :; do sleep 0.1; done", stop_signal="SIGUSR1"
    )
    assert log_text(runtime.start_container(record.id)) == "up"
    assert runtime.stop_container(record.id, 10).exit_code == 7


def test_stdin_and_terminal(runtime: PodmanRuntime, create: Make) -> None:
    """Without stdin a reader meets its end at once; with it, it waits for somebody to attach."""
    assert ended(runtime, create("cat")).exit_code == 0
    waiting = runtime.start_container(create("cat", stdin=True, stdin_once=True).id)
    assert waiting.state == "running"
    assert runtime.list_containers()
    assert runtime.stop_container(waiting.id, 0).exit_code == 137
    assert run(runtime, "test -t 1 && echo terminal", tty=True).strip() == "terminal"


def test_another_runtimes_view_of_the_same(podman: PodmanService) -> None:
    """Nothing of a container's security is lost where creating it is repeated by another process."""
    wanted = config("sleep", "100", security=ContainerSecurity(user="5:6", drop_capabilities=["ALL"]))
    first = runtime_on(podman).create_container(wanted)
    again = runtime_on(podman).create_container(wanted)
    assert again.id == first.id
    running = runtime_on(podman).start_container(first.id)
    assert "Uid:\t5\t" in Path(f"/proc/{running.pid}/status").read_text()
    wait_dead(running.pid, signal.SIGKILL)
