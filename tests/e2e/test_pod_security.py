"""The security contexts of pods and containers, as the containers themselves see them on a real Podman.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.cluster import containers
from tests.support.lone import LoneAgent, has_phase, lone_agent, static_pod
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.podtable import covers

GROUPED = "localhost/grouped:1"
"""The busybox image, with ``nobody`` in a group 4242 of its ``/etc/group``."""
NOBODY = 65534
NET_ADMIN, NET_RAW, SYS_TIME = 12, 13, 25
SCRATCH: dict[str, Any] = {"volumes": [{"name": "scratch", "emptyDir": {}}]}
MOUNTED: dict[str, Any] = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share an agent."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled, on a node that allows some more sysctls."""
    extra = 'allowed_unsafe_sysctls = ["kernel.msg*"]\n'
    with lone_agent(tmp_path_factory.mktemp("lone"), podman, extra=extra) as agent:
        yield agent


@pytest.fixture(scope="module")
def grouped(podman: PodmanService) -> Iterator[str]:
    """The name of an image that puts a user into a group."""
    script = "echo extra:x:4242:nobody >> /etc/group"
    podman.run("run", "--name", "grouping", "--network", "none", BUSYBOX_TAG, "sh", "-c", script)
    podman.run("commit", "--quiet", "grouping", GROUPED)
    podman.run("rm", "grouping")
    yield GROUPED
    podman.run("rmi", GROUPED)


def process(lone: LoneAgent, pod: str, container: str = "main") -> dict[str, str]:
    """What the kernel says of the container's first process: the lines of its ``/proc/…/status``."""
    text = lone.exec(pod, "cat", "/proc/1/status", container=container).stdout
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def ids(lone: LoneAgent, pod: str, container: str = "main") -> tuple[int, int, set[int]]:
    """Its user, its group, and its further groups."""
    seen = process(lone, pod, container)
    groups = {int(group) for group in seen["Groups"].split()}
    return int(seen["Uid"].split()[0]), int(seen["Gid"].split()[0]), groups


def below_proc(lone: LoneAgent, pod: str, container: str) -> list[str]:
    """What is mounted over parts of the container's ``/proc``."""
    lines = lone.exec(pod, "cat", "/proc/self/mountinfo", container=container).stdout.splitlines()
    return [path for line in lines if (path := line.split()[4]).startswith("/proc/")]


def has(seen: dict[str, str], capability: int) -> bool:
    """Whether the process may use the capability with this number."""
    return bool(int(seen["CapEff"], 16) >> capability & 1)


def labels(lone: LoneAgent, pod: str, container: str = "main") -> dict[str, str]:
    """The parts of the SELinux label that the container is to have, from the database of Podman's containers.

    ``podman inspect`` tells them of containers made by the command line alone.
    """
    key = lone.container(pod, container).id
    root = lone.podman.directory / "root"
    if (database := root / "db.sql").exists():
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            ((text,),) = opened.execute("SELECT JSON FROM ContainerConfig WHERE ID = ?", (key,)).fetchall()
    else:  # an older Podman's BoltDB, which keeps a value in one piece
        stored = (root / "libpod" / "bolt_state.db").read_bytes().decode(errors="replace")
        text = "{" + stored[stored.index(f'"id":"{key}","name":') :]
    config = json.JSONDecoder().raw_decode(text)[0]
    # Where nothing is asked for, Podman itself notes down "disable".
    return dict(part.split(":", 1) for part in config.get("labelopts", []) if ":" in part)


def waits(status: dict[str, Any]) -> dict[str, Any]:
    """What the first container waits for, if it is an error; else empty."""
    for one in status.get("containerStatuses", []):
        waiting: dict[str, Any] = one["state"].get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return waiting
    return {}


def secured(name: str, container: dict[str, object] | None = None, **pod: object) -> dict[str, Any]:
    """A pod with a container ``main`` that has the context ``container``, and the context ``pod``."""
    return static_pod(name, container={"securityContext": container or {}}, securityContext=pod)


@covers(
    "PodSpec.securityContext",
    "PodSecurityContext.runAsUser",
    "PodSecurityContext.runAsGroup",
    "PodSecurityContext.supplementalGroups",
    "SecurityContext.runAsUser",
    "SecurityContext.runAsGroup",
)
def test_users_and_groups_are_the_containers_or_else_the_pods(lone: LoneAgent) -> None:
    pod = static_pod(
        "users",
        ["sleep", "3600"],
        ["sleep", "3600"],
        securityContext={"runAsUser": 1001, "runAsGroup": 2001, "supplementalGroups": [3001, 3002]},
    )
    pod["spec"]["containers"][1]["securityContext"] = {"runAsUser": 1002, "runAsGroup": 2002}
    with lone.running(pod):
        uid, gid, groups = ids(lone, "users")
        assert (uid, gid) == (1001, 2001)
        assert {3001, 3002} <= groups
        uid, gid, groups = ids(lone, "users", "c1")
        assert (uid, gid) == (1002, 2002)
        assert {3001, 3002} <= groups


@covers("PodSecurityContext.runAsNonRoot", "SecurityContext.runAsNonRoot")
def test_a_container_that_would_be_root_and_must_not_does_not_start(lone: LoneAgent) -> None:
    with lone.running(secured("mustnot", runAsNonRoot=True), until=waits) as refused:
        waiting = waits(refused["status"])
        assert waiting["reason"] == "CreateContainerConfigError"
        assert "root" in waiting["message"]
    with lone.running(secured("mustnot", {"runAsNonRoot": True}), until=waits) as refused:
        assert waits(refused["status"])["reason"] == "CreateContainerConfigError"
    with lone.running(secured("mustnot", {"runAsNonRoot": False}, runAsNonRoot=True)):
        assert ids(lone, "mustnot")[0] == 0
    with lone.running(secured("mustnot", {"runAsNonRoot": True}, runAsUser=1000)):
        assert ids(lone, "mustnot")[0] == 1000


@covers("PodSecurityContext.supplementalGroupsPolicy")
@pytest.mark.parametrize(("policy", "member"), [("Merge", True), ("Strict", False)])
def test_groups_of_the_image_count_unless_the_policy_is_strict(
    lone: LoneAgent, grouped: str, policy: str, member: bool
) -> None:
    context = {
        "runAsUser": NOBODY,
        "runAsGroup": NOBODY,
        "supplementalGroups": [3001],
        "supplementalGroupsPolicy": policy,
    }
    with lone.running(static_pod("policy", container={"image": grouped}, securityContext=context)):
        groups = ids(lone, "policy")[2]
        assert 3001 in groups
        assert (4242 in groups) is member


@covers("PodSecurityContext.fsGroup")
def test_the_group_of_the_pods_volumes(lone: LoneAgent) -> None:
    context = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 3003}
    with lone.running(static_pod("owned", container=MOUNTED, securityContext=context, **SCRATCH)):
        assert 3003 in ids(lone, "owned")[2]
        lone.exec("owned", "touch", "/scratch/file")
        assert lone.exec("owned", "stat", "-c", "%g", "/scratch", "/scratch/file").stdout == "3003\n3003\n"
    # It is no word on volumes that end with their pod: they are given whole either way.
    easy = {**context, "fsGroupChangePolicy": "OnRootMismatch"}
    with lone.running(static_pod("owned", container=MOUNTED, securityContext=easy, **SCRATCH)):
        lone.exec("owned", "touch", "/scratch/file")
        assert lone.exec("owned", "stat", "-c", "%g", "/scratch", "/scratch/file").stdout == "3003\n3003\n"
    plain = {"runAsUser": 1000, "runAsGroup": 1000}
    with lone.running(static_pod("owned", container=MOUNTED, securityContext=plain, **SCRATCH)):
        assert lone.exec("owned", "stat", "-c", "%g", "/scratch").stdout == "0\n"


@covers("Capabilities.add", "Capabilities.drop", "SecurityContext.capabilities")
def test_capabilities_are_added_and_dropped(lone: LoneAgent) -> None:
    contexts = [
        {},
        {"capabilities": {"add": ["NET_ADMIN", "SYS_TIME"]}},
        {"capabilities": {"drop": ["CHOWN"]}},
        {"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}},
    ]
    pod = static_pod("able", *[["sleep", "3600"]] * len(contexts))
    for container, context in zip(pod["spec"]["containers"], contexts, strict=True):
        container["securityContext"] = context
    with lone.running(pod):
        plain, more, less, one = (process(lone, "able", name) for name in ("main", "c1", "c2", "c3"))
        assert not has(plain, NET_ADMIN)
        assert not has(plain, SYS_TIME)
        assert has(plain, 0)
        assert has(more, NET_ADMIN)
        assert has(more, SYS_TIME)
        assert has(more, 0)
        assert not has(less, 0)
        assert int(less["CapEff"], 16) == int(plain["CapEff"], 16) & ~1
        assert int(one["CapEff"], 16) == 1 << NET_RAW


@covers("SecurityContext.privileged")
def test_a_privileged_container_has_all_that_the_node_has(lone: LoneAgent) -> None:
    pod = static_pod("mighty", ["sleep", "3600"], ["sleep", "3600"])
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with lone.running(pod):
        seen, plain = process(lone, "mighty"), process(lone, "mighty", "c1")
        assert has(seen, NET_ADMIN)
        assert has(seen, SYS_TIME)
        assert (seen["Seccomp"], plain["Seccomp"]) == ("0", "2")
        devices = {name: lone.exec("mighty", "ls", "/dev", container=name).stdout for name in ("main", "c1")}
        assert "kmsg" in devices["main"].split()
        assert "kmsg" not in devices["c1"].split()


@covers(
    "SecurityContext.allowPrivilegeEscalation",
    "SecurityContext.readOnlyRootFilesystem",
    "SecurityContext.procMount",
)
def test_no_new_privileges_a_root_that_cannot_be_written_and_a_proc_with_nothing_masked(
    lone: LoneAgent,
) -> None:
    contexts = [
        {},
        {"allowPrivilegeEscalation": False},
        {"readOnlyRootFilesystem": True},
        {"procMount": "Unmasked"},
    ]
    pod = static_pod("held", *[["sleep", "3600"]] * len(contexts), container=MOUNTED, **SCRATCH)
    for container, context in zip(pod["spec"]["containers"], contexts, strict=True):
        container["securityContext"] = context
    with lone.running(pod):
        assert process(lone, "held")["NoNewPrivs"] == "0"
        assert process(lone, "held", "c1")["NoNewPrivs"] == "1"
        assert lone.exec("held", "touch", "/here").returncode == 0
        failed = lone.exec("held", "touch", "/here", container="c2", check=False)
        assert failed.returncode != 0
        assert "Read-only file system" in failed.stderr
        assert lone.exec("held", "touch", "/scratch/there", container="c2").returncode == 0
        masked = {name: below_proc(lone, "held", name) for name in ("main", "c3")}
        assert "/proc/sys" in masked["main"]
        assert masked["c3"] == []


@covers("SecurityContext.seccompProfile", "PodSecurityContext.seccompProfile", "SeccompProfile.type")
def test_seccomp_is_on_unless_the_container_or_else_the_pod_says_no(lone: LoneAgent) -> None:
    pod = static_pod(
        "filtered",
        ["sleep", "3600"],
        ["sleep", "3600"],
        securityContext={"seccompProfile": {"type": "Unconfined"}},
    )
    pod["spec"]["containers"][1]["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}}
    with lone.running(pod):
        assert process(lone, "filtered")["Seccomp"] == "0"
        assert process(lone, "filtered", "c1")["Seccomp"] == "2"
    with lone.running(static_pod("filtered")):
        assert process(lone, "filtered")["Seccomp"] == "2"


@covers("SeccompProfile.localhostProfile")
def test_a_seccomp_profile_of_the_node(lone: LoneAgent) -> None:
    folder = lone.state_dir / "seccomp"
    folder.mkdir(exist_ok=True)
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (folder / "nofolders.json").write_text(json.dumps(profile))
    seccomp = {"type": "Localhost", "localhostProfile": "nofolders.json"}
    with lone.running(secured("nofolders", {"seccompProfile": seccomp})):
        failed = lone.exec("nofolders", "mkdir", "/root/folder", check=False)
        assert failed.returncode != 0
        assert "Operation not permitted" in failed.stderr
        assert lone.exec("nofolders", "touch", "/root/file").returncode == 0
    missing = {"type": "Localhost", "localhostProfile": "missing.json"}
    with lone.running(secured("nofolders", {"seccompProfile": missing}), until=waits) as pod:
        assert "missing.json" in waits(pod["status"])["message"]


@covers("PodSecurityContext.sysctls", "Sysctl.name", "Sysctl.value")
def test_safe_sysctls_and_those_that_the_node_allows(lone: LoneAgent) -> None:
    wanted = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "12345"}
    context = {"sysctls": [{"name": name, "value": value} for name, value in wanted.items()]}
    with lone.running(static_pod("tuned", hostNetwork=False, securityContext=context)):
        for name, value in wanted.items():
            assert lone.exec("tuned", "cat", f"/proc/sys/{name.replace('.', '/')}").stdout == f"{value}\n"


@pytest.mark.parametrize(
    ("name", "spec", "problem"),
    [
        ("kernel.panic", {}, "not allowlisted"),
        ("kernel.sem", {}, "not allowlisted"),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, "not allowed with host net enabled"),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, "not allowed with host ipc enabled"),
    ],
)
@covers("PodSecurityContext.sysctls")
def test_a_pod_with_a_forbidden_sysctl_is_not_accepted(
    lone: LoneAgent, name: str, spec: dict[str, Any], problem: str
) -> None:
    context = {"sysctls": [{"name": name, "value": "1"}]}
    refused = static_pod("refused", securityContext=context, **{"hostNetwork": False, **spec})
    with lone.running(refused, until=waits) as pod:
        [accepted] = [one for one in pod["status"]["conditions"] if one["type"] == "Accepted"]
        assert (accepted["status"], accepted["reason"]) == ("False", "SysctlForbidden")
        field = "spec.securityContext.sysctls[0].name"
        assert accepted["message"] == f'{field}: forbidden sysctl: "{name}" {problem}'
        assert "SysctlForbidden" in [event["reason"] for event in lone.events("refused")]
        assert containers(lone.podman) == []


@covers(
    "SecurityContext.appArmorProfile",
    "PodSecurityContext.appArmorProfile",
    "AppArmorProfile.type",
    "AppArmorProfile.localhostProfile",
)
def test_an_apparmor_profile_that_cannot_be_had_is_no_start(lone: LoneAgent) -> None:
    profile = {"type": "Localhost", "localhostProfile": "edge-test-missing"}
    for pod in (
        secured("armoured", {"appArmorProfile": profile}, appArmorProfile={"type": "Unconfined"}),
        secured("armoured", appArmorProfile=profile),
    ):
        with lone.running(pod, until=waits) as seen:
            message = waits(seen["status"])["message"]
            assert "apparmor" in message.lower()
            assert "edge-test-missing" in message
    pod = secured("armoured", {"appArmorProfile": {"type": "Unconfined"}}, appArmorProfile=profile)
    with lone.running(pod):
        assert lone.inspect("armoured")["AppArmorProfile"] in ("", "unconfined")


@covers(
    "SecurityContext.seLinuxOptions",
    "PodSecurityContext.seLinuxOptions",
    "SELinuxOptions.user",
    "SELinuxOptions.role",
    "SELinuxOptions.type",
    "SELinuxOptions.level",
)
def test_the_selinux_label_that_podman_is_asked_for_is_the_containers_or_else_the_pods(
    lone: LoneAgent,
) -> None:
    """What Podman noted down of the wish, since a kernel without SELinux labels nothing."""
    shared = {"user": "staff_u", "role": "staff_r", "type": "edge_t", "level": "s0:c123,c456"}
    pod = static_pod("labelled", *[["sleep", "3600"]] * 2, securityContext={"seLinuxOptions": shared})
    own = {"type": "spc_t", "level": "s0:c1"}
    pod["spec"]["containers"][1]["securityContext"] = {"seLinuxOptions": own}
    with lone.running(pod):
        assert labels(lone, "labelled") == shared
        assert labels(lone, "labelled", "c1") == own
    with lone.running(static_pod("labelled")):
        assert labels(lone, "labelled") == {}


def test_a_run_as_another_user_ends_well(lone: LoneAgent) -> None:
    pod = static_pod("once", ["id", "-u"], restartPolicy="Never", securityContext={"runAsUser": 1234})
    with lone.running(pod, until=has_phase("Succeeded")):
        assert lone.logs("once") == "1234\n"


def test_a_pod_of_another_user_may_share_its_processes(lone: LoneAgent) -> None:
    # The agent's umask lets nobody else into what it makes; what such a pod shares must be open to its user.
    user = {"runAsUser": 1234, "runAsGroup": 1234}
    with lone.running(
        static_pod("shared", ["sleep", "3333"], shareProcessNamespace=True, securityContext=user)
    ):
        assert lone.exec("shared", "id", "-u").stdout == "1234\n"
        assert "sleep 3333" in lone.exec("shared", "ps").stdout
