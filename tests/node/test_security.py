"""https://kubernetes.io/docs/tasks/configure-pod-container/security-context/"""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import ContainerSecurity, Image
from edgeagent.node.pods.security import SAFE_SYSCTLS, container_security, needs_image, pod_sysctls
from tests.node.podkit import main, make_pod

NOWHERE = Path("/nonexistent/seccomp")


def image(user: str) -> Image:
    return Image(id="sha256:1", reference="busybox:1", user=user)


def security(
    own: dict[str, Any],
    shared: dict[str, Any] | None = None,
    user: str | None = None,
    profiles: Path = NOWHERE,
) -> ContainerSecurity:
    pod = make_pod({"securityContext": own}, securityContext=shared or {})
    return container_security(pod, main(pod), None if user is None else image(user), profiles)


def test_nothing_set_is_the_runtimes_own() -> None:
    pod = make_pod()
    assert container_security(pod, main(pod), None, NOWHERE) == ContainerSecurity()
    assert not needs_image(pod, main(pod))


@pytest.mark.parametrize(
    ("own", "shared", "user"),
    [
        ({"runAsUser": 1000}, {}, "1000"),
        ({}, {"runAsUser": 1000}, "1000"),
        ({"runAsUser": 2000}, {"runAsUser": 1000, "runAsGroup": 3000}, "2000:3000"),
        ({"runAsUser": 0}, {"runAsUser": 1000}, "0"),
        ({"runAsUser": 1, "runAsGroup": 0}, {"runAsGroup": 5}, "1:0"),
        ({"runAsUser": 1000, "runAsNonRoot": True}, {}, "1000"),
        ({"runAsUser": 0, "runAsNonRoot": False}, {"runAsNonRoot": True}, "0"),
    ],
)
def test_user_and_group(own: dict[str, Any], shared: dict[str, Any], user: str) -> None:
    assert security(own, shared).user == user


@pytest.mark.parametrize(
    ("named", "user"), [("", "0:7"), ("1000", "1000:7"), ("1000:5", "1000:7"), ("app:app", "app:7")]
)
def test_a_group_without_a_user_goes_with_the_images_user(named: str, user: str) -> None:
    assert security({"runAsGroup": 7}, user=named).user == user


@pytest.mark.parametrize(
    ("own", "shared", "needed"),
    [
        ({}, {}, False),
        ({"runAsNonRoot": True}, {}, True),
        ({}, {"runAsNonRoot": True}, True),
        ({"runAsNonRoot": False}, {"runAsNonRoot": True}, False),
        ({"runAsNonRoot": True}, {"runAsUser": 5}, False),
        ({"runAsNonRoot": True, "runAsUser": 0}, {}, False),
        ({"runAsGroup": 5}, {}, True),
        ({"runAsGroup": 5, "runAsUser": 5}, {}, False),
    ],
)
def test_when_the_image_is_needed(own: dict[str, Any], shared: dict[str, Any], needed: bool) -> None:
    pod = make_pod({"securityContext": own}, securityContext=shared)
    assert needs_image(pod, main(pod)) is needed
    if needed:
        with pytest.raises(TemporaryError):
            container_security(pod, main(pod), None, NOWHERE)


@pytest.mark.parametrize("user", ["1000", "1000:0", "65532:65532", "1"])
def test_an_image_that_does_not_run_as_root(user: str) -> None:
    assert security({"runAsNonRoot": True}, user=user).user == ""


@pytest.mark.parametrize(
    ("own", "user", "message"),
    [
        ({}, "", "container has runAsNonRoot and image will run as root"),
        ({}, "0", "container has runAsNonRoot and image will run as root"),
        ({}, "0:1000", "container has runAsNonRoot and image will run as root"),
        ({}, "00", "container has runAsNonRoot and image will run as root"),
        (
            {},
            "root",
            r"and image has non-numeric user \(root\), cannot verify user is non-root \(pod",
        ),
        ({}, "app:1000", r"image has non-numeric user \(app\)"),
        ({}, "-1", r"image has non-numeric user \(-1\)"),
        ({}, "\u0661", "image has non-numeric user"),
        ({}, "0" * 5000, "image will run as root"),
        ({"runAsUser": 0}, None, "container's runAsUser breaks non-root policy"),
    ],
)
def test_what_would_run_as_root_and_must_not(own: dict[str, Any], user: str | None, message: str) -> None:
    with pytest.raises(PermanentError, match=message) as error:
        security({"runAsNonRoot": True, **own}, user=user)
    assert error.value.reason == "CreateContainerConfigError"
    assert str(error.value).endswith('(pod: "web_shop(u-1)", container: main)')


def test_groups() -> None:
    found = security(
        {}, {"fsGroup": 2000, "supplementalGroups": [4000], "supplementalGroupsPolicy": "Strict"}
    )
    assert found.supplemental_groups == [2000, 4000]
    assert found.strict_groups
    assert security({}, {"fsGroup": 0}).supplemental_groups == [0]
    assert not security({}, {"supplementalGroupsPolicy": "Merge"}).strict_groups


def test_capabilities_stand_without_their_prefix() -> None:
    found = security({"capabilities": {"add": ["NET_ADMIN", "CAP_SYS_TIME", "net_raw"], "drop": ["all"]}})
    assert found.add_capabilities == ["NET_ADMIN", "SYS_TIME", "NET_RAW"]
    assert found.drop_capabilities == ["ALL"]


@pytest.mark.parametrize(
    ("own", "no_new_privileges"),
    [
        ({}, False),
        ({"allowPrivilegeEscalation": True}, False),
        ({"allowPrivilegeEscalation": False}, True),
        ({"allowPrivilegeEscalation": False, "capabilities": {"add": ["NET_ADMIN"]}}, True),
    ],
)
def test_privilege_escalation(own: dict[str, Any], no_new_privileges: bool) -> None:
    assert security(own).no_new_privileges is no_new_privileges


@pytest.mark.parametrize("more", [{"capabilities": {"add": ["SYS_ADMIN"]}}, {"privileged": True}])
def test_escalation_that_an_admission_plugin_forbids(more: dict[str, Any]) -> None:
    """It may do so where the manifest could not: whoever is not privileged loses it."""
    pod = make_pod({"securityContext": more})
    context = msgspec.structs.replace(main(pod).security_context, allow_privilege_escalation=False)  # type: ignore[type-var]
    container = msgspec.structs.replace(main(pod), security_context=context)
    found = container_security(pod, container, None, NOWHERE)
    assert found.no_new_privileges is ("privileged" not in more)


def test_privileged() -> None:
    found = security(
        {"privileged": True, "seccompProfile": {"type": "RuntimeDefault"}},
        {"seccompProfile": {"type": "Localhost", "localhostProfile": "missing.json"}},
    )
    assert found == ContainerSecurity(privileged=True, seccomp_profile="unconfined")


def test_the_rest() -> None:
    found = security({"readOnlyRootFilesystem": True, "procMount": "Unmasked"})
    assert found == ContainerSecurity(read_only_root=True, unmasked_proc=True)
    assert not security({"procMount": "Default"}).unmasked_proc


def test_selinux_options_of_the_container_replace_the_pods() -> None:
    shared = {"seLinuxOptions": {"user": "u", "level": "s0:c123,c456"}}
    assert security({}, shared).selinux_options == {"user": "u", "level": "s0:c123,c456"}
    assert security({"seLinuxOptions": {"type": "t"}}, shared).selinux_options == {"type": "t"}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"type": "RuntimeDefault"}, ""),
        ({"type": "Unconfined"}, "unconfined"),
        ({"type": "Localhost", "localhostProfile": "k8s-deny-write"}, "k8s-deny-write"),
    ],
)
def test_apparmor(profile: dict[str, str], expected: str) -> None:
    assert security({"appArmorProfile": profile}).apparmor_profile == expected
    assert security({}, {"appArmorProfile": profile}).apparmor_profile == expected
    assert (
        security({"appArmorProfile": profile}, {"appArmorProfile": {"type": "Unconfined"}}).apparmor_profile
        == expected
    )


def localhost(path: str) -> dict[str, Any]:
    return {"seccompProfile": {"type": "Localhost", "localhostProfile": path}}


def test_seccomp(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "audit.json").write_text("{}")
    path = str((tmp_path / "profiles" / "audit.json").resolve())
    assert security(localhost("profiles/audit.json"), profiles=tmp_path).seccomp_profile == path
    assert security({}, localhost("profiles/audit.json"), profiles=tmp_path).seccomp_profile == path
    unconfined = {"seccompProfile": {"type": "Unconfined"}}
    assert security(unconfined, localhost("none"), profiles=tmp_path).seccomp_profile == "unconfined"
    default = {"seccompProfile": {"type": "RuntimeDefault"}}
    assert security(default, unconfined).seccomp_profile == ""


@pytest.mark.parametrize("name", ["none.json", "folder", "out", "loop", "x" * 300, "out/secret"])
def test_a_seccomp_profile_that_is_not_there(tmp_path: Path, name: str) -> None:
    profiles = tmp_path / "seccomp"
    (profiles / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_text("{}")
    (profiles / "out").symlink_to(tmp_path)
    (profiles / "loop").symlink_to(profiles / "loop")
    with pytest.raises(PermanentError, match="seccomp profile") as error:
        security(localhost(name), profiles=profiles)
    assert error.value.reason == "CreateContainerConfigError"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    profiles = tmp_path / "seccomp"
    profiles.mkdir()
    (tmp_path / "outside.json").write_text("{}")
    (profiles / "a.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(PermanentError, match="is not below"):
        security(localhost("a.json"), profiles=profiles)


def sysctls(
    *names: str, network: bool = False, ipc: bool = False, unsafe: tuple[str, ...] = ()
) -> dict[str, str]:
    context = {"sysctls": [{"name": name, "value": "1"} for name in names]}
    pod = make_pod(securityContext=context, hostNetwork=network, hostIPC=ipc)
    return pod_sysctls(pod, allowed_unsafe=unsafe)


def test_safe_sysctls() -> None:
    assert sysctls(*SAFE_SYSCTLS) == dict.fromkeys(SAFE_SYSCTLS, "1")
    assert sysctls() == {}
    assert pod_sysctls(make_pod(), allowed_unsafe=()) == {}


@pytest.mark.parametrize(
    ("name", "dotted"),
    [
        ("net/ipv4/tcp_syncookies", "net.ipv4.tcp_syncookies"),
        ("net/ipv4/conf/eth0.1/rp_filter", "net.ipv4.conf.eth0/1.rp_filter"),
        ("net.ipv4.conf.eth0/1.rp_filter", "net.ipv4.conf.eth0/1.rp_filter"),
    ],
)
def test_names_with_slashes(name: str, dotted: str) -> None:
    assert sysctls(name, unsafe=("net.*",)) == {dotted: "1"}


@pytest.mark.parametrize(
    ("name", "unsafe"),
    [
        ("net.core.somaxconn", ()),
        ("net.core.somaxconn", ("net.core.somaxconn2", "net.ipv4.*", "kernel.*")),
        ("kernel.msgmax", ()),
        ("kernel.pid_max", ("kernel.*",)),
        ("vm.swappiness", ("*", "vm.swappiness")),
        ("fs.file-max", ("fs.*",)),
        ("kernel.semantics", ("*",)),
    ],
)
def test_what_is_not_allowed_or_not_the_pods_own(name: str, unsafe: tuple[str, ...]) -> None:
    with pytest.raises(PermanentError) as error:
        sysctls("kernel.shm_rmid_forced", name, unsafe=unsafe)
    field = "spec.securityContext.sysctls[1].name"
    assert str(error.value) == f'{field}: forbidden sysctl: "{name}" not allowlisted'
    assert error.value.reason == "SysctlForbidden"


@pytest.mark.parametrize(
    "name", ["kernel.sem", "kernel.shmmax", "kernel.msgmax", "fs.mqueue.msg_max", "net.core.somaxconn"]
)
def test_unsafe_ones_that_are_allowed(name: str) -> None:
    assert sysctls(name, unsafe=(name,)) == {name: "1"}
    assert sysctls(name, unsafe=(name[:5] + "*",)) == {name: "1"}


@pytest.mark.parametrize("name", ["net.ipv4.tcp_syncookies", "kernel.shm_rmid_forced"])
def test_shared_with_the_node(name: str) -> None:
    is_net = name.startswith("net.")
    assert sysctls(name, network=not is_net, ipc=is_net)
    with pytest.raises(PermanentError, match="not allowed with host") as error:
        sysctls(name, network=is_net, ipc=not is_net)
    assert error.value.reason == "SysctlForbidden"


@given(name=st.from_regex(r"(vm|fs|kernel|dev|user|debug)(\.[a-z]{1,6}){1,2}", fullmatch=True))
def test_only_sysctls_of_a_namespace_get_through(name: str) -> None:
    try:
        found = sysctls(name, unsafe=("*",))
    except PermanentError:
        return
    assert set(found) == {name}
    assert name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or name == "kernel.sem"
