"""Making, refreshing, showing and removing the volumes of pods."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from math import ceil
from pathlib import Path
from typing import TypeVar

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.security import PodSecurityContext
from edgeagent.api.objects.volume import Volume, VolumeMount
from edgeagent.api.quantity import parse_quantity
from edgeagent.api.runtime import Mount
from edgeagent.node.pods.expansion import expand_strict
from edgeagent.node.pods.lookup import Lookup, PodFacts
from edgeagent.node.pods.volumes.atomic import shown_folder, write_payload
from edgeagent.node.pods.volumes.hostpath import check_host_path
from edgeagent.node.pods.volumes.hostthreads import HostThreads
from edgeagent.node.pods.volumes.mounter import Mounter, file_system_of
from edgeagent.node.pods.volumes.ownership import give_to_group
from edgeagent.node.pods.volumes.payload import Payload, holds_secret, payload_of
from edgeagent.node.pods.volumes.removal import remove_tree
from edgeagent.node.pods.volumes.subpath import open_below
from edgeagent.node.pods.volumes.usage import VolumeUsage, measure

_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}
_THREADS = 4
HOST_PATH_SECONDS = 10.0
"""How long a path of the node may take to answer."""
_T = TypeVar("_T")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class _Part(msgspec.Struct, frozen=True):
    """What was opened of a volume, as a descriptor; ``folder``: whether it is one."""

    descriptor: int
    folder: bool

    def close(self) -> None:
        os.close(self.descriptor)


def _forget(_: object) -> None:
    """What nobody waits for any more and needs no care."""


class Volumes:
    """The volumes of all pods. Calls for one pod must not overlap.

    ``disk`` is ``<state_dir>/pods``, ``memory`` is ``<run_dir>/pods``; ``host`` is where hostPath begins, and
    ``host_seconds`` how long it is waited for.
    """

    def __init__(
        self,
        *,
        disk: Path,
        memory: Path,
        host: Path,
        mounter: Mounter,
        host_seconds: float = HOST_PATH_SECONDS,
    ) -> None:
        self._disk = disk
        self._memory = memory
        self._host = host
        self._mounter = mounter
        self._threads = asyncio.Semaphore(_THREADS)
        self._host_threads = HostThreads(host_seconds)

    async def prepare(self, facts: PodFacts, lookup: Lookup) -> bool:
        """Make what is missing and bring what is live up to date; says whether any file changed.

        One volume that fails holds up no other, and keeps the files that it shows. The first PermanentError
        or TemporaryError is then raised, with reason ``FailedMount``, and names volume and problem.
        """
        changed, problem = False, None
        for volume in facts.pod.spec.volumes:
            try:
                with _explained(f'volume "{volume.name}"'):
                    changed |= await self._prepare(facts, lookup, volume)
            except EdgeAgentError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return changed

    async def _prepare(self, facts: PodFacts, lookup: Lookup, volume: Volume) -> bool:
        payload = await payload_of(volume, facts, lookup)
        if payload is not None:
            return await self._show(facts.pod, volume, payload)
        if volume.host_path is not None:
            check = partial(check_host_path, volume.host_path, self._host)
            await self._host_threads.run(facts.pod.metadata.uid, volume.host_path.path, check, _forget)
        else:
            await self._empty(facts.pod, volume)
        return False

    async def _show(self, pod: Pod, volume: Volume, payload: Payload) -> bool:
        folder = self._folder(pod.metadata.uid, volume)
        folder.mkdir(parents=True, exist_ok=True)
        if holds_secret(volume) and not await self._has_tmpfs(pod, volume):
            await self._mounter.mount_tmpfs(folder, "mode=0755", swap=False)
        context = pod.spec.security_context
        group = context.fs_group if context is not None else None
        return await self._in_thread(partial(write_payload, folder, payload, group))

    async def _has_tmpfs(self, pod: Pod, volume: Volume) -> bool:
        folder = self._folder(pod.metadata.uid, volume)
        if folder.resolve() in await self._mounter.mounts_below(folder):
            return True
        # An earlier agent made do with the run folder's: what is shown to a container already stays there.
        return shown_folder(folder) != folder and file_system_of(folder) in _IN_MEMORY

    async def _empty(self, pod: Pod, volume: Volume) -> None:
        folder = self._folder(pod.metadata.uid, volume)
        if volume.empty_dir is None or volume.empty_dir.medium != "Memory":
            await self._in_thread(partial(_make_shared, folder, pod.spec.security_context))
            return
        folder.mkdir(parents=True, exist_ok=True)
        if folder.resolve() in await self._mounter.mounts_below(folder):
            return
        context = pod.spec.security_context
        group = context.fs_group if context is not None else None
        options = "mode=0777" if group is None else f"mode=2777,gid={group}"
        size = self._size(pod, volume)
        await self._mounter.mount_tmpfs(folder, f"{options},size={size}" if size else options)

    async def _in_thread(self, work: Callable[[], _T], discard: Callable[[_T], None] = _forget) -> _T:
        """Do ``work`` on the disk. Whoever is cancelled meanwhile goes on once it has come to its end.

        ``discard`` then gets what came of it.
        """
        async with self._threads:
            task = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                if task.exception() is None:
                    discard(task.result())
                raise

    def _size(self, pod: Pod, volume: Volume) -> int:
        """How large an emptyDir in memory may grow: its own limit, else the pod's; 0: no limit."""
        limits = [parse_quantity(c.resources.limits.get("memory", 0)) for c in pod.spec.containers]
        together = sum(limits) if limits and all(limits) else 0.0
        own = parse_quantity(volume.empty_dir.size_limit or 0) if volume.empty_dir is not None else 0.0
        return ceil(min(own, together) if own and together else own or together)

    def _folder(self, uid: str, volume: Volume) -> Path:
        in_memory = holds_secret(volume) or (
            volume.empty_dir is not None and volume.empty_dir.medium == "Memory"
        )
        return _safe(self._memory if in_memory else self._disk, uid) / "volumes" / volume.name

    async def mounts(self, pod: Pod, container: Container, environment: Mapping[str, str]) -> list[Mount]:
        """How ``container`` sees the pod's volumes; PermanentError (``CreateContainerConfigError``)."""
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        found = []
        for number, mount in enumerate(container.volume_mounts):
            if (volume := volumes.get(mount.name)) is None:
                raise PermanentError(f'volume "{mount.name}" not found', reason="CreateContainerConfigError")
            with _explained(f'volume "{mount.name}"', "CreateContainerConfigError"):
                found.append(await self._mount(pod, container, volume, mount, number, environment))
        return found

    async def _mount(
        self,
        pod: Pod,
        container: Container,
        volume: Volume,
        mount: VolumeMount,
        number: int,
        environment: Mapping[str, str],
    ) -> Mount:
        uid = pod.metadata.uid
        if volume.host_path is not None:
            source = self._host / volume.host_path.path.lstrip("/")
        else:
            source = self._folder(uid, volume)
        below = expand_strict(mount.sub_path_expr, environment) if mount.sub_path_expr else mount.sub_path
        made_of_files = not (volume.host_path or volume.empty_dir)
        if below:
            base = shown_folder(source) if made_of_files else source
            name = f"{container.name}.{number}"  # no container has a dot in its name
            source = await self._bound(uid, base, below, name, on_host=volume.host_path is not None)
        return Mount(
            source=str(source),
            destination=mount.mount_path,
            read_only=mount.read_only or made_of_files,
            propagation=_PROPAGATION.get(mount.mount_propagation, "private"),  # type: ignore[arg-type]
        )

    async def _bound(self, uid: str, volume: Path, below: str, name: str, *, on_host: bool) -> Path:
        """A mount point that shows the part ``below`` of a volume, whatever becomes of the way to it."""
        target = _safe(self._memory, uid) / "subpaths" / name
        for point in await self._mounter.mounts_below(target):
            await self._mounter.unmount(point)
        find = partial(_open_part, volume, below)
        if on_host:
            found = await self._host_threads.run(uid, str(volume), find, _Part.close)
        else:
            found = await self._in_thread(find, _Part.close)
        with closing(found):
            _make_mount_point(target, folder=found.folder)
            await self._mounter.bind(f"/proc/{os.getpid()}/fd/{found.descriptor}", target)
        return target

    async def tear_down(self, uid: str) -> None:
        """Unmount and remove all volumes of a pod; what is not there is no error."""
        for base in (self._memory, self._disk):
            folder = _safe(base, uid)
            if not folder.is_dir():
                continue
            for part in ("subpaths", "volumes"):
                if not (folder / part).is_dir():
                    continue
                for point in await self._mounter.mounts_below(folder / part):
                    await self._mounter.unmount(point)
                with _explained("the pod's volumes cannot be removed", "FailedUnmount"):
                    await self._in_thread(partial(remove_tree, folder / part))
            if not any(folder.iterdir()):
                folder.rmdir()

    def leftovers(self) -> set[str]:
        """The uids of all pods that have anything here."""
        bases = [base for base in (self._disk, self._memory) if base.is_dir()]
        return {entry.name for base in bases for entry in base.iterdir() if entry.is_dir()}

    async def usage(self, pod: Pod) -> VolumeUsage:
        """What the pod's emptyDir volumes on disk hold, and its other files."""
        folders = {
            volume.name: self._folder(pod.metadata.uid, volume)
            for volume in pod.spec.volumes
            if volume.empty_dir is not None and volume.empty_dir.medium != "Memory"
        }
        return await self._in_thread(partial(measure, folders, _safe(self._disk, pod.metadata.uid)))


def _open_part(volume: Path, below: str) -> _Part:
    descriptor = open_below(volume, below)
    try:
        return _Part(descriptor, stat.S_ISDIR(os.fstat(descriptor).st_mode))
    except BaseException:
        os.close(descriptor)
        raise


def _make_mount_point(target: Path, *, folder: bool) -> None:
    if target.is_dir():
        target.rmdir()
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    target.mkdir() if folder else target.touch()


def _safe(base: Path, uid: str) -> Path:
    if not uid or "/" in uid or uid.startswith("."):
        raise PermanentError(f"{uid[:80]!r} cannot be a folder's name", reason="InvalidArgument")
    return base / uid


def _make_shared(folder: Path, context: PodSecurityContext | None) -> None:
    """A folder that every user of the pod may write to; it gets its name once it is all that it will be."""
    if folder.is_dir():
        return
    made = folder.with_name(f".{folder.name}")
    made.mkdir(parents=True, exist_ok=True)
    made.chmod(0o777)
    give_to_group(made, context)
    made.rename(folder)


@contextmanager
def _explained(what: str, reason: str = "FailedMount") -> Iterator[None]:
    """Errors of the disk, and of what a volume is made of, in terms of the volume."""
    try:
        yield
    except OSError as error:
        raise TemporaryError(f"{what}: {error.strerror}", reason=reason) from None
    except TemporaryError as error:
        raise TemporaryError(_about(what, error), delay=error.delay, reason=reason) from None
    except PermanentError as error:
        raise PermanentError(_about(what, error), reason=reason) from None


def _about(what: str, error: EdgeAgentError) -> str:
    return str(error) if str(error).startswith(what) else f"{what}: {error}"
