"""What a hostile container may do in its volumes: links out of them, endless depth, swapped names."""

import asyncio
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.pods.volumes.mounter import SystemMounter
from edgeagent.node.pods.volumes.removal import remove_tree
from edgeagent.node.pods.volumes.subpath import open_below
from edgeagent.node.pods.volumes.usage import measure
from tests.support.leftovers import mounts_below

DEEP = 3000


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with a file in it, and a secret beside it."""
    (tmp_path / "volume/real").mkdir(parents=True)
    (tmp_path / "volume/real/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("kept")
    return tmp_path / "volume"


@pytest.fixture
def mounter(tmp_path: Path) -> Iterator[SystemMounter]:
    """The real mount table; what a test leaves mounted is unmounted."""
    mounter = SystemMounter()
    yield mounter

    async def clean() -> None:
        for point in await mounter.mounts_below(tmp_path):
            await mounter.unmount(point)

    asyncio.run(clean())


def opened(volume: Path, relative: str) -> str:
    """The real path of what was opened."""
    before = set(os.listdir("/proc/self/fd"))
    descriptor = open_below(volume, relative)
    try:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), volume)
    finally:
        os.close(descriptor)
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "target",
    ["..", "../secret", "real/../../secret", "../outside", "/", "/etc/passwd", "{}-not", "{}/../secret"],
)
def test_a_link_out_of_the_volume_is_refused(volume: Path, target: str) -> None:
    (volume / "link").symlink_to(target.format(volume))
    before = set(os.listdir("/proc/self/fd"))
    for relative in ("link", "link/file"):
        with pytest.raises(PermanentError, match="leads out of the volume") as caught:
            open_below(volume, relative)
        assert caught.value.reason == "CreateContainerConfigError"
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("relative", ["/etc", "..", "a/..", "../secret", "a\0b"])
def test_a_path_that_is_no_part_of_the_volume_is_refused(volume: Path, relative: str) -> None:
    with pytest.raises(PermanentError):
        open_below(volume, relative)


@pytest.mark.parametrize("target", ["real", "./real", "real/../real", "{}/real"])
def test_a_link_that_stays_in_the_volume_is_followed(volume: Path, target: str) -> None:
    (volume / "link").symlink_to(target.format(volume))
    assert opened(volume, "link/file") == "real/file"


def test_links_in_a_circle_end(volume: Path) -> None:
    (volume / "one").symlink_to("two")
    (volume / "two").symlink_to("one")
    with pytest.raises(TemporaryError, match="Too many levels of symbolic links"):
        open_below(volume, "one")


def test_a_file_in_the_way_is_named(volume: Path) -> None:
    with pytest.raises(TemporaryError, match="Not a directory"):
        open_below(volume, "real/file/below")


def test_what_is_missing_is_made_as_the_volume_is(volume: Path) -> None:
    volume.chmod(0o2777)
    os.chown(volume, -1, 777)
    before = os.umask(0o077)
    try:
        assert opened(volume, "new/below") == "new/below"
    finally:
        os.umask(before)
    for path in (volume / "new", volume / "new/below"):
        assert (path.stat().st_mode & 0o7777, path.stat().st_gid) == (0o2777, 777)


def test_a_bind_shows_what_was_opened_though_its_name_was_swapped(
    volume: Path, mounter: SystemMounter
) -> None:
    target = volume.parent / "target"
    target.mkdir()
    descriptor = open_below(volume, "real")
    try:
        (volume / "real").rename(volume / "moved")
        (volume / "real").symlink_to("../outside")
        asyncio.run(mounter.bind(f"/proc/{os.getpid()}/fd/{descriptor}", target))
    finally:
        os.close(descriptor)
    assert os.listdir(target) == ["file"]


def test_a_bind_goes_by_no_name_that_the_descriptor_has(volume: Path, mounter: SystemMounter) -> None:
    target = volume.parent / "target"
    target.touch()
    descriptor = open_below(volume, "real/file")
    try:
        (volume / "real/file").unlink()
        assert os.readlink(f"/proc/self/fd/{descriptor}").endswith("/real/file (deleted)")
        (volume / "real/file (deleted)").symlink_to("../../secret")
        with pytest.raises(TemporaryError):
            asyncio.run(mounter.bind(f"/proc/{os.getpid()}/fd/{descriptor}", target))
    finally:
        os.close(descriptor)
    assert mounts_below(target) == []


def test_a_removed_tree_takes_nothing_with_it_that_links_point_to(volume: Path) -> None:
    (volume / "out").symlink_to("../outside")
    (volume / "real/file2").symlink_to(volume.parent / "secret")
    remove_tree(volume)
    assert not volume.exists()
    assert (volume.parent / "outside/kept").read_text() == "kept"
    assert (volume.parent / "secret").read_text() == "outside"


def test_a_link_in_place_of_the_tree_is_removed_itself(volume: Path) -> None:
    link = volume.parent / "link"
    link.symlink_to("outside")
    remove_tree(link)
    remove_tree(link)
    assert (volume.parent / "outside/kept").exists()


@pytest.mark.parametrize("same_file_system", [True, False])
def test_what_is_mounted_in_a_tree_is_not_removed(
    volume: Path, mounter: SystemMounter, same_file_system: bool
) -> None:
    point = volume / "real/point"
    point.mkdir()
    kept = point / "kept"
    if same_file_system:
        asyncio.run(mounter.bind(str(volume.parent / "outside"), point))
    else:
        asyncio.run(mounter.mount_tmpfs(point, "size=65536"))
        kept.write_text("kept")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says which
        remove_tree(volume)
    assert caught.value.errno == errno.EBUSY
    (mounted,) = mounts_below(volume)
    assert (Path(mounted) / "kept").read_text() == "kept"


def deepen(volume: Path, depth: int) -> None:
    """Folders in folders, as deep as no path can name."""
    here = os.open(volume, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        with open(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as file:
            file.write(b"x")
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@pytest.fixture
def abyss() -> Iterator[Path]:
    """A folder outside of pytest's own, in which a later run could not remove what a killed one left."""
    folder = Path(tempfile.mkdtemp(prefix="edge-abyss-"))
    yield folder / "volume"
    subprocess.run(["rm", "-rf", folder], check=True)


def test_a_tree_deeper_than_any_path_is_counted_and_removed(abyss: Path) -> None:
    abyss.mkdir()
    deepen(abyss, DEEP)
    found = measure({"v": abyss})
    assert found.inodes == 2 * DEEP
    assert found.bytes["v"] >= 4096 * DEEP
    remove_tree(abyss)
    assert not abyss.exists()


def test_names_that_removal_would_use_are_no_hindrance(volume: Path) -> None:
    for index in range(4):
        (volume / f".{index}").mkdir() if index % 2 else (volume / f".{index}").write_text("")
        (volume / f"real/.{index}/below/more").mkdir(parents=True)
    remove_tree(volume)
    assert not volume.exists()


def test_usage_counts_a_file_once_and_follows_no_link(volume: Path) -> None:
    (volume / "big").write_bytes(bytes(1_000_000))
    once = measure({"v": volume})
    for index in range(5):
        os.link(volume / "big", volume / f"real/name{index}")
    (volume / "out").symlink_to("/usr")
    after = measure({"v": volume})
    assert once.bytes["v"] >= 1_000_000
    assert after.bytes["v"] - once.bytes["v"] < 100_000
    assert after.inodes == once.inodes + 1


@pytest.mark.parametrize("broken", ["listing", "entry"])
def test_usage_leaves_out_what_cannot_be_read(
    volume: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """As on a disk with a bad sector, or where a dead server is mounted."""
    (volume / "bad").mkdir()
    (volume / "bad/file").write_bytes(bytes(500_000))
    (volume / "good").write_bytes(bytes(1_000_000))
    bad = (volume / "bad").stat().st_ino
    opened = set(os.listdir("/proc/self/fd"))
    real = os.scandir

    class Entry:
        def __init__(self, entry: "os.DirEntry[str]") -> None:
            self.name, self._entry = entry.name, entry

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            if self.name == "bad":
                raise OSError(107, "Transport endpoint is not connected")
            return self._entry.stat(follow_symlinks=follow_symlinks)

    @contextmanager
    def scandir(folder: int) -> Iterator[Iterator[Entry]]:
        if broken == "listing" and os.fstat(folder).st_ino == bad:
            raise OSError(5, "Input/output error")
        with real(folder) as entries:
            yield (Entry(entry) if broken == "entry" else entry for entry in entries)  # type: ignore[misc]

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        found = measure({"v": volume})
    assert 1_000_000 <= found.bytes["v"] < 1_300_000
    assert set(os.listdir("/proc/self/fd")) == opened


def test_usage_of_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert measure({"v": tmp_path / "none"}).bytes == {"v": 0}
