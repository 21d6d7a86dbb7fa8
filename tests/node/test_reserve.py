"""The store's reserve, on a real file system that is full, with a real SQLite."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.node.store.reserve import REMAKE_FACTOR, Reserve

SIZE = 256 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Take up everything but ``leave`` bytes."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        while (room := free(folder) - leave) > 0:
            file.write(bytes(min(room, 65536)))
    return path


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_the_space_is_really_taken_and_really_given_up(disk: Path) -> None:
    reserve = Reserve(disk / "reserve", SIZE)
    before = free(disk)
    assert reserve.restore()
    assert (disk / "reserve").stat().st_size == SIZE
    assert free(disk) == before - SIZE
    assert (disk / "reserve").stat().st_mode & 0o777 == 0o600
    assert reserve.restore(), "again changes nothing"
    fill(disk)
    assert free(disk) == 0
    assert reserve.release()
    assert free(disk) == SIZE
    assert not reserve.release(), "there is nothing more to give"


def test_it_is_made_anew_only_once_there_is_room_to_spare(disk: Path) -> None:
    reserve = Reserve(disk / "reserve", SIZE)
    fill(disk, leave=REMAKE_FACTOR * SIZE - 4096)
    assert not reserve.restore()
    assert not (disk / "reserve").exists()
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 4096)
    assert reserve.restore()


def test_room_is_made_before_it_is_needed(disk: Path) -> None:
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.restore()
    reserve.ensure_room(65536)
    assert (disk / "reserve").exists()
    fill(disk, leave=32768)
    reserve.ensure_room(65536)
    assert not (disk / "reserve").exists()
    reserve.ensure_room(1 << 30)


def test_a_file_of_holes_is_no_reserve(disk: Path) -> None:
    (disk / "reserve").touch()
    os.truncate(disk / "reserve", SIZE)
    assert not Reserve(disk / "reserve", SIZE).held
    reserve = Reserve(disk / "reserve", SIZE)
    assert reserve.restore()
    assert reserve.held
    assert free(disk) <= (2 << 20) - SIZE


def test_no_size_no_reserve_and_no_folder_no_harm(tmp_path: Path) -> None:
    nothing = Reserve(tmp_path / "reserve", 0)
    assert nothing.held
    assert nothing.restore()
    assert not nothing.release()
    assert list(tmp_path.iterdir()) == []
    astray = Reserve(tmp_path / "absent/reserve", SIZE)
    assert not astray.restore()
    assert not astray.release()
    astray.ensure_room(SIZE)


def test_a_symbolic_link_in_its_place_is_not_followed(disk: Path) -> None:
    (disk / "victim").write_text("precious")
    (disk / "reserve").symlink_to(disk / "victim")
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.restore()
    reserve.release()
    assert (disk / "victim").read_text() == "precious"


def test_sqlite_writes_again_once_the_reserve_is_given_up(disk: Path) -> None:
    """What the store does: release when SQLite finds the disk full, and do it once more."""
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.restore()
    connection = sqlite3.connect(disk / "agent.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE pod_record (uid TEXT PRIMARY KEY, body BLOB NOT NULL)")
        fill(disk)

        def put(uid: str) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    "INSERT OR REPLACE INTO pod_record VALUES (?, ?)", (uid, os.urandom(20_000))
                )
                connection.execute("COMMIT")
            except sqlite3.OperationalError:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        def put_many() -> None:
            for number in range(20):
                put(f"before-{number}")

        with pytest.raises(sqlite3.OperationalError) as full:
            put_many()
        assert full.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
        assert reserve.release()
        for number in range(5):
            put(f"after-{number}")
        rows = connection.execute("SELECT count(*) FROM pod_record WHERE uid LIKE 'after-%'").fetchone()
        assert rows == (5,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
