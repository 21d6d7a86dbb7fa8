"""What the containers of a pod share: hostname, hosts and resolver files, System V IPC and ``/dev/shm``.

There is no infra container to hold it: the files lie on disk, and the IPC namespace and its shared memory
are mounts below the run folder, where a restarted agent finds them and which a reboot takes away.
"""

import asyncio
import errno
import os
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import msgspec

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.runtime import Mount
from edgeagent.node.pods.hosts import (
    CLUSTER_DOMAIN,
    MAX_HOST_FILE_BYTES,
    STUB_NAMESERVER,
    hostname,
    hosts_file,
    misses_cluster_dns,
    parse_resolv_conf,
    resolv_conf,
)
from edgeagent.node.pods.termination import pod_folder, remove_all_messages
from edgeagent.node.pods.volumes.mounter import Mounter

SHM_BYTES = 64 * 1024 * 1024
"""The size of a shared ``/dev/shm``, which is what container runtimes give a single container."""
PROGRAM_SECONDS = 30.0
REASON = "FailedCreatePodSandBox"

RunProgram = Callable[[Sequence[str]], Awaitable[None]]
"""Runs a program, given as its argument list, to its end; TemporaryError where that fails."""


class Sandbox(msgspec.Struct, frozen=True):
    """What every container of a pod is made with.

    ``hostname`` is empty for the node's. ``ipc_namespace`` is ``private``, ``host`` or a path, as in
    ``ContainerConfig``. ``needs_pause``: a container must hold the process namespace that all join.
    ``misses_cluster_dns``: the pod asks for the cluster's DNS, and gets the node's.
    """

    hostname: str
    mounts: list[Mount]
    ipc_namespace: str
    needs_pause: bool
    misses_cluster_dns: bool = False


def container_mounts(sandbox: Sandbox, container: Container) -> list[Mount]:
    """The sandbox's mounts that ``container`` gets: those where it has no volume mount of its own."""
    own = {PurePosixPath(mount.mount_path) for mount in container.volume_mounts}
    return [mount for mount in sandbox.mounts if PurePosixPath(mount.destination) not in own]


def shares_ipc(spec: PodSpec) -> bool:
    """Whether two or more containers run at one time, in an IPC namespace that is not the node's."""
    sidecars = [container for container in spec.init_containers if container.restart_policy == "Always"]
    return len(spec.containers) + len(sidecars) > 1 and not spec.host_ipc


class Sandboxes:
    """Makes, finds again and removes what surrounds the containers of each pod.

    ``disk`` is ``<state_dir>/pods``, ``run`` is ``<run_dir>/pods`` (on a file system that a reboot empties),
    ``root`` is where the node's ``/etc`` lies. ``cluster_dns`` gives the addresses at the moment, empty for
    none, None while that is not known: a pod keeps what it has then. Calls for one pod must not overlap.
    """

    def __init__(
        self,
        *,
        disk: Path,
        run: Path,
        root: Path,
        mounter: Mounter,
        runner: RunProgram,
        cluster_dns: Callable[[], Sequence[str] | None] = tuple,
        cluster_domain: str = CLUSTER_DOMAIN,
    ) -> None:
        self._disk = disk
        self._run = run
        self._root = root
        self._mounter = mounter
        self._runner = runner
        self._cluster_dns = cluster_dns
        self._cluster_domain = cluster_domain

    async def prepare(self, pod: Pod, ips: Sequence[str]) -> Sandbox:
        """Make what is missing, and bring the files up to date, which running containers see at once.

        ``ips`` are the pod's addresses. TemporaryError or PermanentError, mostly with the reason
        ``FailedCreatePodSandBox``, where something cannot be made; a later call then goes on.
        """
        name, _ = hostname(pod, self._cluster_domain)
        cluster_dns = self._cluster_dns()
        with _explained("the pod's files cannot be written"):
            mounts = self._write_files(pod, ips, cluster_dns)
        ipc = "private"
        if pod.spec.host_ipc:
            ipc = "host"
            mounts.append(Mount(source="/dev/shm", destination="/dev/shm"))  # noqa: S108 - the node's own
        elif shares_ipc(pod.spec):
            namespace, memory = await self._share_ipc(pod.metadata.uid)
            ipc = str(namespace)
            mounts.append(Mount(source=str(memory), destination="/dev/shm"))  # noqa: S108 - in the container
        return Sandbox(
            name,
            mounts,
            ipc,
            needs_pause=pod.spec.share_process_namespace,
            misses_cluster_dns=cluster_dns is not None and misses_cluster_dns(pod, cluster_dns),
        )

    async def tear_down(self, uid: str) -> None:
        """Remove all of it, whole or half made; TemporaryError where something stays for now.

        The pod's folders stay where others still have something in them.
        """
        namespace, memory = self._ipc_paths(uid)
        for point in await self._mounter.mounts_below(memory.parent):
            if point in (namespace, memory):
                await self._mounter.unmount(point)
        remove_all_messages(self._disk, uid)
        disk = pod_folder(self._disk, uid)
        with _explained("the pod's files cannot be removed"):
            for file in (namespace, disk / "etc-hosts", disk / "resolv.conf"):
                file.unlink(missing_ok=True)
            for folder in (memory, memory.parent, disk):
                _remove_if_empty(folder)

    def _write_files(self, pod: Pod, ips: Sequence[str], cluster_dns: Sequence[str] | None) -> list[Mount]:
        folder = pod_folder(self._disk, pod.metadata.uid)
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        hosts = hosts_file(pod, ips, self._node_file("etc/hosts"), self._cluster_domain)
        resolver = resolv_conf(pod, self._node_resolver(pod), cluster_dns or (), self._cluster_domain)
        _write_if_changed(folder / "etc-hosts", hosts.encode())
        if cluster_dns is not None or not (folder / "resolv.conf").exists():
            _write_if_changed(folder / "resolv.conf", resolver.encode())
        return [
            Mount(source=str(folder / "etc-hosts"), destination="/etc/hosts"),
            Mount(source=str(folder / "resolv.conf"), destination="/etc/resolv.conf"),
        ]

    def _node_resolver(self, pod: Pod) -> str:
        text = self._node_file("etc/resolv.conf")
        if not pod.spec.host_network and parse_resolv_conf(text).nameservers == (STUB_NAMESERVER,):
            # In a network namespace of its own nobody answers there: take the servers behind it.
            return self._node_file("run/systemd/resolve/resolv.conf") or text
        return text

    def _node_file(self, path: str) -> str:
        """The beginning of one of the node's files, empty where there is none."""
        try:
            with open(self._root / path, "rb") as file:
                return file.read(MAX_HOST_FILE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""

    async def _share_ipc(self, uid: str) -> tuple[Path, Path]:
        namespace, memory = self._ipc_paths(uid)
        with _explained("the folder of the pod's IPC namespace cannot be made"):
            memory.mkdir(parents=True, exist_ok=True)
            memory.parent.chmod(0o700)
            if not namespace.exists():  # a namespace that is mounted there already may not be touched
                namespace.touch()
        mounted = await self._mounter.mounts_below(memory.parent)
        if memory not in mounted:
            await self._mounter.mount_tmpfs(memory, f"size={SHM_BYTES},mode=1777,noexec")
        if namespace not in mounted:
            await self._runner(["unshare", f"--ipc={namespace}", "true"])
        return namespace, memory

    def _ipc_paths(self, uid: str) -> tuple[Path, Path]:
        """Where the namespace and its shared memory are mounted: without links, as the kernel lists them."""
        folder = pod_folder(self._run.resolve(), uid)
        return folder / "ipc", folder / "shm"


def _write_if_changed(path: Path, content: bytes) -> None:
    """Write in place: a container has this very file mounted, and would not see another in its stead."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(descriptor, "r+b", buffering=0) as file:
        if file.read(len(content) + 1) == content:
            return
        os.fchmod(descriptor, 0o644)
        os.pwrite(descriptor, content, 0)
        file.truncate(len(content))


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TemporaryError(f"{problem}: {error}", reason=REASON) from error


async def run_program(argv: Sequence[str]) -> None:
    """Run a program that says nothing when all is well, at most for ``PROGRAM_SECONDS``.

    TemporaryError, with the beginning of what it wrote to stderr, where it fails or cannot be run.
    """
    # A pipe of our own: one of asyncio's would read without bound, or keep the program's end from being seen.
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        try:
            with _explained(f"{argv[0]} cannot be run"):
                process = await asyncio.create_subprocess_exec(
                    *argv, stdin=DEVNULL, stdout=DEVNULL, stderr=writing
                )
        finally:
            os.close(writing)
        if code := await _exit_code(process, argv[0]):
            said = ""
            with suppress(BlockingIOError):  # it left a child that may still write
                said = os.read(reading, 4096).decode(errors="replace").strip()
            raise TemporaryError(f"{argv[0]} ended with status {code}: {said}", reason=REASON)
    finally:
        os.close(reading)


async def _exit_code(process: Process, name: str) -> int:
    try:
        async with asyncio.timeout(PROGRAM_SECONDS):
            return await process.wait()
    except TimeoutError:
        raise TemporaryError(f"{name} took more than {PROGRAM_SECONDS:g} s", reason=REASON) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
