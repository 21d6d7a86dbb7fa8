"""Mounting and unmounting, with util-linux; the one module that does.

``mount`` and ``umount`` are run as programs: they know every kernel's ways, which a call of mount(2) through
ctypes would have to learn, and a pod has one or two mounts in its life.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgeagent.api.errors import TemporaryError

log = logging.getLogger(__name__)

MAX_OUTPUT = 500
PROGRAM_SECONDS = 30.0
NOSWAP = "noswap"
_REFUSALS = ("bad option", "Invalid argument", "Unknown parameter", "unsupported")
"""What mount(8) says, by its version, where the kernel does not take an option."""


class _Refused(TemporaryError):
    """The kernel does not take an option."""


class Mounter(Protocol):
    """What volumes and sandboxes ask of the node's mount table. Each raises TemporaryError."""

    async def mount_tmpfs(self, target: Path, options: str, *, swap: bool = True) -> None:
        """A new file system in memory at ``target``; ``options`` as in ``size=1048576,mode=0755``.

        ``swap``: whether it may go to the node's swap space. Not, is as far as the kernel can (from 6.4 on).
        """

    async def bind(self, source: str, target: Path) -> None:
        """Show ``source`` at ``target`` too."""

    async def unmount(self, target: Path) -> None:
        """Take away what is mounted at ``target``, even while it is in use."""

    async def mounts_below(self, folder: Path) -> list[Path]:
        """The mount points at and below ``folder``, those mounted last first."""


class SystemMounter:
    """The real mount table."""

    def __init__(self) -> None:
        self._knows_noswap = True

    async def mount_tmpfs(self, target: Path, options: str, *, swap: bool = True) -> None:
        """mount(8)."""
        if not swap and self._knows_noswap:
            try:
                return await self._mount_tmpfs(target, f"{options},{NOSWAP}")
            except _Refused as error:
                await self._mount_tmpfs(target, options)
                # It works without, so the option it was.
                self._knows_noswap = False
                log.warning("files in memory may go to the swap space: %s", error)
                return
        await self._mount_tmpfs(target, options)

    async def _mount_tmpfs(self, target: Path, options: str) -> None:
        await _run(["mount", "-t", "tmpfs", "-o", f"nosuid,nodev,{options}", "tmpfs", str(target)])

    async def bind(self, source: str, target: Path) -> None:
        """mount(8). Not made canonical, ``/proc/<pid>/fd/<n>`` stays what was opened, whoever swaps names."""
        await _run(["mount", "--no-canonicalize", "--bind", source, str(target)])

    async def unmount(self, target: Path) -> None:
        """umount(8), lazily."""
        await _run(["umount", "--lazy", "--no-canonicalize", str(target)])

    async def mounts_below(self, folder: Path) -> list[Path]:
        """From the kernel's own table."""
        wanted = _resolved(folder)
        return [point for point, _ in _table() if point == wanted or wanted in point.parents][::-1]


def file_system_of(folder: Path) -> str:
    """The type (``ext4``, ``tmpfs``) of the file system that ``folder`` lies on."""
    wanted = _resolved(folder)
    above = [(point, kind) for point, kind in _table() if point == wanted or point in wanted.parents]
    return max(reversed(above), key=lambda entry: len(entry[0].parts))[1] if above else ""


def _resolved(folder: Path) -> Path:
    return folder.resolve()


def _table() -> list[tuple[Path, str]]:
    """Mount points and types out of ``/proc/self/mountinfo`` (proc(5)), where some characters are octal."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        raw = before.split(b" ")[4].decode("unicode_escape").encode("latin-1")
        found.append((Path(os.fsdecode(raw)), after.split(b" ")[0].decode()))
    return found


async def _run(argv: Sequence[str]) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise TemporaryError(f"{argv[0]} cannot be run: {error.strerror}", reason="FailedMount") from None
    try:
        async with asyncio.timeout(PROGRAM_SECONDS):
            _, said = await process.communicate()
    except TimeoutError:
        raise TemporaryError(f"{' '.join(argv)} takes too long", reason="FailedMount") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        text = said[:MAX_OUTPUT].decode(errors="replace").strip()
        kind = _Refused if any(refusal in text for refusal in _REFUSALS) else TemporaryError
        raise kind(f"{' '.join(argv)}: {text}", reason="FailedMount")
