"""What surrounds a pod's containers: files, IPC namespace and shared memory, with real mounts."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.volume import VolumeMount
from edgeagent.api.runtime import Mount
from edgeagent.node.pods.sandbox import Sandboxes, container_mounts, run_program, shares_ipc
from edgeagent.node.pods.termination import prepare_message
from edgeagent.node.pods.volumes.mounter import SystemMounter
from tests.node.podkit import make_pod
from tests.support.leftovers import files_below, mounts_below
from tests.support.podman import BUSYBOX_TAG, PodmanService

T = TypeVar("T")

IPS = ["10.0.0.7"]
UID = "u-1"
SIDECAR = {"name": "side", "image": "busybox:1", "restartPolicy": "Always"}
INIT = {"name": "init", "image": "busybox:1"}


class FullMounter(SystemMounter):
    """The real mount table, which takes no more while it is ``full``."""

    full = False

    async def mount_tmpfs(self, target: Path, options: str, *, swap: bool = True) -> None:
        """Mount, or do not."""
        if self.full:
            raise TemporaryError("no room for a mount")
        await super().mount_tmpfs(target, options, swap=swap)


class Node:
    """A node's folders, and the sandboxes on it; a ``restart`` forgets all that is not on the node."""

    def __init__(self, folder: Path) -> None:
        self.root, self.disk, self.run = folder / "root", folder / "state/pods", folder / "run/pods"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n192.0.2.9 node1\n")
        (self.root / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
        self.mounter = FullMounter()
        self.programs: list[Sequence[str]] = []
        self.fails = False
        self.dns: list[str] | None = []
        self.restart()

    def restart(self) -> None:
        """Begin again, knowing nothing."""
        self.sandboxes = Sandboxes(
            disk=self.disk, run=self.run, root=self.root, mounter=self.mounter, runner=self._run_program,
            cluster_dns=lambda: self.dns, cluster_domain="edge.example",
        )  # fmt: skip

    def prepare(self, pod: Pod) -> tuple[str, dict[str, str]]:
        """The IPC namespace, and the mounts' sources by destination."""
        made = asyncio.run(self.sandboxes.prepare(pod, IPS))
        return made.ipc_namespace, {mount.destination: mount.source for mount in made.mounts}

    def tear_down(self, uid: str = UID) -> None:
        """Remove one pod's."""
        asyncio.run(self.sandboxes.tear_down(uid))

    def mounts(self) -> list[str]:
        """All mount points below the run folder."""
        return mounts_below(self.run)

    async def _run_program(self, argv: Sequence[str]) -> None:
        self.programs.append(argv)
        if self.fails:
            raise TemporaryError("out of namespaces")
        await run_program(argv)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts")
    yield Node(tmp_path)
    for point in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", point], check=True)


def namespace_of(path: str) -> str:
    """The namespace that a process sees which has entered the one at ``path``."""
    argv = ["nsenter", f"--ipc={path}", "readlink", "/proc/self/ns/ipc"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


# Files


def test_hosts_and_resolver_files(node: Node) -> None:
    ipc, mounts = node.prepare(make_pod(subdomain="sub"))
    assert ipc == "private"
    assert mounts == {
        "/etc/hosts": str(node.disk / UID / "etc-hosts"),
        "/etc/resolv.conf": str(node.disk / UID / "resolv.conf"),
    }
    hosts, resolver = map(Path, mounts.values())
    assert hosts.read_text().endswith("10.0.0.7\tweb.sub.shop.svc.edge.example\tweb\n")
    assert resolver.read_text() == "nameserver 192.0.2.1\n"
    assert [path.stat().st_mode & 0o777 for path in (hosts, resolver)] == [0o644, 0o644]


def test_a_strict_umask_does_not_matter(node: Node) -> None:
    before = os.umask(0o077)
    try:
        _, mounts = node.prepare(make_pod())
    finally:
        os.umask(before)
    assert {Path(source).stat().st_mode & 0o777 for source in mounts.values()} == {0o644}


def test_files_are_written_only_when_they_change_and_stay_the_same_file(node: Node) -> None:
    _, mounts = node.prepare(make_pod())
    resolver = Path(mounts["/etc/resolv.conf"])
    os.utime(resolver, ns=(1, 1))
    node.prepare(make_pod())
    assert resolver.stat().st_mtime_ns == 1
    inode = resolver.stat().st_ino
    for text in ("nameserver 192.0.2.1\nsearch lan\n", "nameserver ::1\n"):  # longer, then shorter
        (node.root / "etc/resolv.conf").write_text(text)
        node.prepare(make_pod())
        assert (resolver.read_text(), resolver.stat().st_ino) == (text, inode)


def test_the_clusters_dns_may_come_while_a_pod_runs(node: Node) -> None:
    pod = make_pod()
    assert asyncio.run(node.sandboxes.prepare(pod, IPS)).misses_cluster_dns
    node.dns = ["169.254.20.10"]
    made = asyncio.run(node.sandboxes.prepare(pod, IPS))
    assert not made.misses_cluster_dns
    resolver = next(mount.source for mount in made.mounts if mount.destination == "/etc/resolv.conf")
    assert Path(resolver).read_text() == (
        "nameserver 169.254.20.10\n"
        "search shop.svc.edge.example svc.edge.example edge.example\n"
        "options ndots:5\n"
    )


def test_a_pod_keeps_its_dns_while_an_agent_that_begins_does_not_know_it(node: Node) -> None:
    pod = make_pod()
    node.dns = ["169.254.20.10"]
    _, mounts = node.prepare(pod)
    before = Path(mounts["/etc/resolv.conf"]).read_text()
    node.dns = None
    node.restart()
    assert not asyncio.run(node.sandboxes.prepare(pod, IPS)).misses_cluster_dns
    assert Path(mounts["/etc/resolv.conf"]).read_text() == before
    node.dns = []
    assert asyncio.run(node.sandboxes.prepare(pod, IPS)).misses_cluster_dns
    assert Path(mounts["/etc/resolv.conf"]).read_text() != before


def test_on_the_nodes_network(node: Node) -> None:
    _, mounts = node.prepare(make_pod(hostNetwork=True))
    assert "192.0.2.9 node1" in Path(mounts["/etc/hosts"]).read_text()
    assert asyncio.run(node.sandboxes.prepare(make_pod(hostNetwork=True), [])).hostname == ""


def test_the_servers_behind_the_nodes_stub(node: Node) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/dns-debugging-resolution/#known-issues"""
    (node.root / "etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    resolver = node.disk / UID / "resolv.conf"
    node.prepare(make_pod())
    assert resolver.read_text() == "nameserver 127.0.0.53\n"
    real = node.root / "run/systemd/resolve/resolv.conf"
    real.parent.mkdir(parents=True)
    real.write_text("nameserver 192.0.2.53\n")
    node.prepare(make_pod())
    assert resolver.read_text() == "nameserver 192.0.2.53\n"
    node.prepare(make_pod(hostNetwork=True))
    assert resolver.read_text() == "nameserver 127.0.0.53\n"


def test_a_node_without_such_files(node: Node) -> None:
    for name in ("hosts", "resolv.conf"):
        (node.root / "etc" / name).unlink()
    node.prepare(make_pod(hostNetwork=True))
    assert (node.disk / UID / "resolv.conf").read_text() == ""


def test_a_link_in_the_place_of_a_file_is_not_followed(node: Node, tmp_path: Path) -> None:
    (node.disk / UID).mkdir(parents=True)
    (node.disk / UID / "etc-hosts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TemporaryError) as caught:
        node.prepare(make_pod())
    assert caught.value.reason == "FailedCreatePodSandBox"
    assert not (tmp_path / "elsewhere").exists()


def test_a_container_may_bring_its_own_hosts_file(node: Node) -> None:
    sandbox = asyncio.run(node.sandboxes.prepare(make_pod(), IPS))
    own = Container(name="c", image="i", volume_mounts=[VolumeMount(name="v", mount_path="/etc/hosts/")])
    assert [mount.destination for mount in container_mounts(sandbox, own)] == ["/etc/resolv.conf"]
    assert container_mounts(sandbox, Container(name="c", image="i")) == sandbox.mounts


def test_the_pause_container_is_for_a_shared_process_namespace(node: Node) -> None:
    for wanted in (True, False):
        pod = make_pod(shareProcessNamespace=wanted)
        assert asyncio.run(node.sandboxes.prepare(pod, IPS)).needs_pause == wanted


# IPC


@pytest.mark.parametrize(
    ("pod", "shares"),
    [
        (make_pod({}), False),
        (make_pod({}, {}), True),
        (make_pod({}, initContainers=[SIDECAR]), True),
        (make_pod({}, initContainers=[INIT]), False),
        (make_pod({}, {}, hostIPC=True), False),
    ],
)
def test_containers_that_run_together_share_ipc(pod: Pod, shares: bool) -> None:
    assert shares_ipc(pod.spec) == shares


def test_a_shared_ipc_namespace_and_shared_memory(node: Node) -> None:
    ipc, mounts = node.prepare(make_pod({}, {}))
    assert ipc == str(node.run / UID / "ipc")
    assert namespace_of(ipc) != os.readlink("/proc/self/ns/ipc")
    memory = os.statvfs(mounts["/dev/shm"])  # noqa: S108
    assert memory.f_blocks * memory.f_frsize == 64 * 1024 * 1024
    assert os.stat(mounts["/dev/shm"]).st_mode & 0o7777 == 0o1777  # noqa: S108
    assert sorted(node.mounts()) == [ipc, mounts["/dev/shm"]]  # noqa: S108


def test_an_agent_that_restarts_finds_them_again(node: Node) -> None:
    ipc, mounts = node.prepare(make_pod({}, {}))
    Path(mounts["/dev/shm"], "kept").touch()  # noqa: S108
    before = namespace_of(ipc)
    node.restart()
    assert node.prepare(make_pod({}, {})) == (ipc, mounts)
    assert namespace_of(ipc) == before
    assert os.listdir(mounts["/dev/shm"]) == ["kept"]  # noqa: S108
    assert len(node.mounts()) == 2
    assert len(node.programs) == 1


def test_the_run_folder_may_be_reached_by_a_link(node: Node, tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to(tmp_path / "run")
    node.run = tmp_path / "var/pods"
    node.restart()
    for _ in range(2):
        node.prepare(make_pod({}, {}))
    assert len(mounts_below(tmp_path)) == 2
    node.tear_down()
    assert mounts_below(tmp_path) == []


def test_after_a_reboot_both_are_made_anew(node: Node) -> None:
    """Even where the run folder outlived it, with the bare mount points."""
    ipc, mounts = node.prepare(make_pod({}, {}))
    Path(mounts["/dev/shm"], "old").touch()  # noqa: S108
    for point in reversed(node.mounts()):
        subprocess.run(["umount", point], check=True)
    node.restart()
    assert node.prepare(make_pod({}, {})) == (ipc, mounts)
    assert len(node.mounts()) == 2
    assert os.listdir(mounts["/dev/shm"]) == []  # noqa: S108


def test_host_ipc(node: Node) -> None:
    ipc, mounts = node.prepare(make_pod({}, {}, hostIPC=True))
    assert (ipc, mounts["/dev/shm"]) == ("host", "/dev/shm")  # noqa: S108
    assert node.programs == []


def test_containers_talk_through_shared_memory(node: Node, podman: PodmanService) -> None:
    sandbox = asyncio.run(node.sandboxes.prepare(make_pod({}, {}), IPS))
    words = ["--network=host", f"--ipc=ns:{sandbox.ipc_namespace}"]
    words += [f"--volume={mount.source}:{mount.destination}" for mount in sandbox.mounts]

    def run(command: str) -> list[str]:
        return podman.run("run", "--rm", *words, BUSYBOX_TAG, "sh", "-c", command).stdout.splitlines()

    see = "readlink /proc/self/ns/ipc; grep -c 'web$' /etc/hosts; cat /etc/resolv.conf"
    first = run(f"{see}; echo hello > /dev/shm/word")
    second = run(f"{see}; cat /dev/shm/word")
    assert first == [namespace_of(sandbox.ipc_namespace), "1", "nameserver 192.0.2.1"]
    assert second == [*first, "hello"]
    node.tear_down()
    assert node.mounts() == []


# Tearing down


def test_nothing_is_left(node: Node) -> None:
    node.prepare(make_pod({}, {}))
    prepare_message(node.disk, UID, "main", 0)
    for _ in range(2):
        node.tear_down()
        assert node.mounts() == []
        assert list(files_below(node.disk, node.run)) == []


def test_what_is_not_its_own_stays(node: Node) -> None:
    node.prepare(make_pod({}, {}))
    kept = [node.disk / UID / "volumes", node.run / UID / "volumes"]
    for folder in kept:
        folder.mkdir()
    node.tear_down()
    assert list(files_below(node.disk / UID, node.run / UID)) == [str(folder) for folder in kept]


def test_half_made_is_taken_up_or_removed(node: Node) -> None:
    for again in (True, False):
        node.mounter.full = True
        with pytest.raises(TemporaryError, match="no room"):
            node.prepare(make_pod({}, {}))
        node.mounter.full, node.fails = False, True
        with pytest.raises(TemporaryError, match="out of namespaces"):
            node.prepare(make_pod({}, {}))
        node.fails = False
        if again:
            node.prepare(make_pod({}, {}))
            assert len(node.mounts()) == 2
        node.tear_down()
        assert list(files_below(node.disk, node.run)) == []


def test_a_mount_over_a_mount_goes_too(node: Node) -> None:
    _, mounts = node.prepare(make_pod({}, {}))
    asyncio.run(node.mounter.mount_tmpfs(Path(mounts["/dev/shm"]), "size=4096"))  # noqa: S108
    node.tear_down()
    assert node.mounts() == []


def test_a_uid_leads_nowhere_else(node: Node) -> None:
    pod = make_pod(metadata={"uid": "../../root"})
    with pytest.raises(PermanentError):
        node.prepare(pod)
    with pytest.raises(PermanentError):
        node.tear_down("../../root")
    assert (node.root / "etc/hosts").exists()


# Running programs


def finished(work: Awaitable[T]) -> T:
    async def wait() -> T:
        return await work

    return asyncio.run(wait())


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match=r"umount ended with status 32: umount: .*not mounted"):
        finished(run_program(["umount", str(tmp_path)]))
    with pytest.raises(TemporaryError, match="no-such-program cannot be run"):
        finished(run_program(["no-such-program"]))


def test_a_program_that_talks_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.pods.sandbox.PROGRAM_SECONDS", 0.2)
    with pytest.raises(TemporaryError, match=r"took more than 0\.2 s"):
        finished(run_program(["sh", "-c", "exec yes >&2"]))


def test_mounts_are_those_of_the_runtime_protocol(node: Node) -> None:
    mounts = asyncio.run(node.sandboxes.prepare(make_pod(), IPS)).mounts
    assert mounts[0] == Mount(source=str(node.disk / UID / "etc-hosts"), destination="/etc/hosts")
