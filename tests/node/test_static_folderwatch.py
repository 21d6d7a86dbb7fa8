"""inotify on the loop: everything that may change a folder is told, whatever becomes of the folder itself."""

import asyncio
import os
import random
import shutil
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api import inotify
from edgeagent.api.errors import TemporaryError
from edgeagent.api.inotify import parse_events
from edgeagent.node.static.folderwatch import FolderWatch
from tests.support.waiting import wait_for_async


class Seen:
    """Counts calls."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.watch = FolderWatch(folder, self._add, matters=lambda name: name.endswith(".yaml"))

    def _add(self) -> None:
        self.count += 1

    async def after(self, change: Callable[[], object]) -> None:
        """There is news after ``change``, and all of it has come."""
        await self.quiet()
        before = self.count
        change()
        await wait_for_async(lambda: self.count > before, 5, "news")
        await self.quiet()

    async def quiet(self) -> None:
        """Return once the kernel has nothing more to tell."""
        for _ in range(3):
            await asyncio.sleep(0)

    async def nothing_after(self, change: Callable[[], object]) -> None:
        """There is no news after ``change``: what is told next is told of something else."""
        await self.quiet()
        before = self.count
        change()
        # The kernel queues events before the call that makes them returns: two turns of the loop read them.
        for _ in range(5):
            await asyncio.sleep(0)
        assert self.count == before


def watching(folder: Path, scenario: Callable[[Seen], Awaitable[None]]) -> None:
    async def main() -> None:
        seen = Seen(folder)
        seen.watch.start()
        try:
            await scenario(seen)
        finally:
            seen.watch.stop()

    asyncio.run(main())


def test_files_that_come_change_and_go_are_told(tmp_path: Path) -> None:
    async def scenario(seen: Seen) -> None:
        file = tmp_path / "a.yaml"
        await seen.after(lambda: file.write_text("a"))
        await seen.after(lambda: file.write_text("b"))
        elsewhere = tmp_path / ".a.yaml.tmp~"
        elsewhere.write_text("c")
        await seen.after(lambda: elsewhere.rename(file))
        await seen.after(lambda: file.rename(elsewhere))
        await seen.after(lambda: elsewhere.rename(file))
        await seen.after(file.unlink)

    watching(tmp_path, scenario)


def test_names_that_do_not_matter_are_passed_over(tmp_path: Path) -> None:
    async def scenario(seen: Seen) -> None:
        await seen.nothing_after(lambda: (tmp_path / ".a.yaml.swp").write_text("a"))
        await seen.nothing_after(lambda: (tmp_path / "4913").write_text(""))
        await seen.nothing_after((tmp_path / "4913").unlink)

    watching(tmp_path, scenario)


def test_a_folder_that_is_missing_is_awaited_from_its_nearest_parent(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "edgeagent" / "manifests"

    async def scenario(seen: Seen) -> None:
        await seen.nothing_after((tmp_path / "other").mkdir)
        await seen.after((tmp_path / "etc").mkdir)
        await seen.after(lambda: folder.mkdir(parents=True))
        await seen.after(lambda: (folder / "a.yaml").write_text("a"))
        await seen.after(lambda: shutil.rmtree(tmp_path / "etc"))
        await seen.after(lambda: folder.mkdir(parents=True))
        await seen.after(lambda: (folder / "a.yaml").write_text("a"))

    watching(folder, scenario)


@pytest.mark.parametrize("part", ["manifests", "edgeagent", "etc"])
def test_a_folder_on_the_way_that_is_renamed_and_made_anew_is_followed(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "etc" / "edgeagent" / "manifests"
    folder.mkdir(parents=True)
    moved = next(path for path in (folder, *folder.parents) if path.name == part)

    async def scenario(seen: Seen) -> None:
        await seen.after(lambda: moved.rename(tmp_path / "away"))
        await seen.nothing_after(
            lambda: (next((tmp_path / "away").rglob("manifests"), tmp_path / "away") / "b.yaml").write_text(
                ""
            )
        )
        await seen.after(lambda: folder.mkdir(parents=True))
        await seen.after(lambda: (folder / "a.yaml").write_text("a"))
        shutil.rmtree(moved)
        await seen.after(lambda: (tmp_path / "away").rename(moved))
        await seen.after(lambda: (folder / "c.yaml").write_text("a"))

    watching(folder, scenario)


def test_a_folder_that_somebody_stands_in_is_seen_to_go(tmp_path: Path) -> None:
    """The kernel keeps such a folder, and tells nothing of its own end until nobody uses it."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)

    async def scenario(seen: Seen) -> None:
        await seen.after(folder.rmdir)
        await seen.after(folder.mkdir)
        await seen.after(lambda: (folder / "a.yaml").write_text("a"))

    try:
        watching(folder, scenario)
    finally:
        os.close(held)


def test_a_file_in_the_folders_place_is_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.write_text("")

    async def scenario(seen: Seen) -> None:
        assert seen.watch.alive
        folder.unlink()
        await seen.after(folder.mkdir)
        await seen.after(lambda: (folder / "a.yaml").write_text("a"))

    watching(folder, scenario)


def test_an_overflow_is_news_and_the_watch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(seen: Seen) -> None:
        real = inotify.Inotify.read
        overflow = [inotify.Event(-1, inotify.IN_Q_OVERFLOW, "")]
        with monkeypatch.context() as patch:
            patch.setattr(inotify.Inotify, "read", lambda self: (real(self), overflow)[1])
            await seen.after(lambda: (tmp_path / "not-told").write_text(""))
        await seen.after(lambda: (tmp_path / "a.yaml").write_text("a"))

    watching(tmp_path, scenario)


def test_a_kernel_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        seen = Seen(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(inotify.Inotify, "watch", _no_room)
            with pytest.raises(TemporaryError, match="No space"):
                seen.watch.start()
            assert [seen.watch.alive] == [False]
        descriptors = len(os.listdir("/proc/self/fd"))
        seen.watch.start()
        assert [seen.watch.alive] == [True]
        seen.watch.stop()
        seen.watch.stop()
        assert len(os.listdir("/proc/self/fd")) == descriptors

    asyncio.run(main())


def _no_room(self: inotify.Inotify, path: Path, mask: int) -> int:
    raise TemporaryError(f"{path} cannot be watched: No space left on device")


def test_no_descriptor_is_lost_over_many_folders(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"

    async def scenario(seen: Seen) -> None:
        before = len(os.listdir("/proc/self/fd"))
        rng = random.Random(3)
        for _ in range(30):
            if folder.exists():
                await seen.after(lambda: shutil.rmtree(rng.choice((folder, folder.parent))))
            else:
                await seen.after(lambda: folder.mkdir(parents=True))
        assert len(os.listdir("/proc/self/fd")) == before

    watching(folder, scenario)


names = st.binary(max_size=20).filter(lambda name: b"\0" not in name)


@given(st.lists(st.tuples(st.integers(-1, 1000), st.integers(0, 2**32 - 1), names)))
def test_events_are_read_as_the_kernel_writes_them(events: list[tuple[int, int, bytes]]) -> None:
    data = b""
    for watch, mask, name in events:
        padded = name.ljust((len(name) + 16) // 16 * 16, b"\0") if name else b""
        data += struct.pack("iIII", watch, mask, 0, len(padded)) + padded
    assert [(e.watch, e.mask, os.fsencode(e.name)) for e in parse_events(data)] == events


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    assert len(list(parse_events(data))) <= len(data) // 16
