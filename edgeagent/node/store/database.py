"""The SQLite file: opening, checking, migrating, setting aside, snapshots. The one user of ``sqlite3`` here.

Two connections to one file in WAL mode: what must survive a power cut is written with
``synchronous=FULL``, telemetry and bookkeeping with ``NORMAL``, which costs an SD card far less.
https://www.sqlite.org/wal.html
"""

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.node.store.reserve import Reserve

log = logging.getLogger(__name__)

Row = tuple[object, ...]

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE object (digest TEXT PRIMARY KEY, body BLOB NOT NULL)",
        """CREATE TABLE desired (uid TEXT PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL,
           name TEXT NOT NULL, digest TEXT NOT NULL REFERENCES object (digest), size INTEGER NOT NULL)""",
        "CREATE TABLE pod_record (uid TEXT PRIMARY KEY, body BLOB NOT NULL)",
        """CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, class TEXT NOT NULL,
           size INTEGER NOT NULL, body BLOB NOT NULL)""",
    ),
    ("CREATE TABLE admitted (uid TEXT PRIMARY KEY, body BLOB NOT NULL)",),
    (
        "CREATE TABLE audit (sequence INTEGER PRIMARY KEY, nonce TEXT NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX audit_by_nonce ON audit (nonce)",
    ),
)
"""Statements that lead from schema version n to n+1. Entries are only ever added."""

SCHEMA_VERSION = len(MIGRATIONS)
WRITE_ROOM = 1 << 20
"""What a transaction may need: where less is free, the reserve is given up before it begins."""
KEPT_ASIDE = 2
"""How many damaged files are kept for whoever wants to look into them."""


class CorruptError(EdgeAgentError):
    """The file is not, or not wholly, a database that can be trusted."""


class Database:
    """An open store. ``recovered`` says in words what was lost and from where, empty where nothing was.

    Where the disk takes nothing, not even what opening needs, the store is read from a copy at ``spare``
    (in memory, under /run): pods must run all the same. Durable writes then fail until the disk has room.
    ``reserve`` is the space that is given up to those who write once the disk is full.
    """

    def __init__(
        self, path: Path, *, now: float, spare: Path | None = None, reserve: Reserve | None = None
    ) -> None:
        """Open or create ``path``. PermanentError where its schema is newer than this program's."""
        self.path = path
        self.recovered = ""
        self._spare = spare
        self._stands_in = False
        self._reserve = reserve
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_room()
        try:
            if not path.exists() and self.snapshot_path.exists():
                # The last start was cut off between setting a damaged file aside and using the snapshot.
                self._set_aside("it was missing", now)
            else:
                self._open(path)
        except CorruptError as error:
            self._set_aside(str(error), now)
        except TemporaryError as error:
            if spare is None or not path.exists():
                raise
            self._open_spare(spare, error)

    def _open(self, path: Path) -> None:
        _check(path)
        self._migrate_file(path)
        self._durable = _connect(path, "FULL")
        self._batched = _connect(path, "NORMAL")

    def _open_spare(self, spare: Path, problem: TemporaryError) -> None:
        log.error("%s: %s; a copy in %s stands in for it", self.path, problem, spare.parent)
        spare.parent.mkdir(parents=True, exist_ok=True)
        _remove(spare)
        for suffix in ("", "-wal"):
            if Path(f"{self.path}{suffix}").exists():
                shutil.copyfile(f"{self.path}{suffix}", f"{spare}{suffix}")
        self._open(spare)
        self._stands_in = True

    def _make_room(self) -> None:
        if self._reserve is not None:
            self._reserve.ensure_room(WRITE_ROOM)

    def _return_home(self) -> None:
        """Leave the stand-in, if the disk has room again; TemporaryError where it has not."""
        before = (self._durable, self._batched)
        try:
            self._open(self.path)
        except TemporaryError as error:
            raise TemporaryError(f"the disk is full: {error}", reason="DiskFull") from None
        for connection in before:
            connection.close()
        self._stands_in = False
        if self._spare is not None:
            _remove(self._spare)
        log.info("%s can be written again", self.path)

    def close(self) -> None:
        """Close both connections; what was written stays."""
        self._batched.close()
        self._durable.close()

    @contextmanager
    def durable(self) -> Iterator[sqlite3.Connection]:
        """A transaction that a power cut cannot undo once it has ended. All of it happens, or nothing."""
        self._make_room()
        if self._stands_in:
            self._return_home()
        with _transaction(self._durable, self._reserve):
            yield self._durable

    @contextmanager
    def batched(self) -> Iterator[sqlite3.Connection]:
        """A transaction that a crash of the program cannot undo, but a power cut may."""
        self._make_room()
        with _transaction(self._batched, self._reserve):
            yield self._batched

    def rows(self, query: str, arguments: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        with _translated():
            return self._durable.execute(query, arguments).fetchall()

    @property
    def snapshot_path(self) -> Path:
        """Where the last good copy lies."""
        return self.path.with_name(self.path.name + ".snapshot")

    def snapshot(self) -> None:
        """Copy the database beside itself, whole and synced, replacing the copy before it.

        Uses a connection of its own: may be called from another thread.
        """
        if self._stands_in or (self._reserve is not None and not self._reserve.held):
            return  # a copy must not take the room that was given up for what is written
        with _translated():
            _replace_by_copy(self.path, self.snapshot_path)

    def _migrate_file(self, path: Path) -> None:
        connection = _connect(path, "FULL")
        try:
            version = _version(connection)
            if version > SCHEMA_VERSION:
                raise PermanentError(
                    f"{path} has schema version {version}, but this edgeagent knows up to "
                    f"{SCHEMA_VERSION}. Install the newer edgeagent again, or move {path.name}* away.",
                    reason="SchemaTooNew",
                )
            if version < SCHEMA_VERSION:
                if version > 0:
                    _copy(path, path.with_name(f"{path.name}.v{version}"))
                with _transaction(connection):
                    for statements in MIGRATIONS[version:]:
                        for statement in statements:
                            connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
        finally:
            connection.close()

    def _set_aside(self, problem: str, now: float, *, use_snapshot: bool = True) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{int(now)}")
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        self._keep_few_aside()
        source = "it starts empty"
        if use_snapshot and self.snapshot_path.exists():
            try:
                _check(self.snapshot_path)
                _replace_by_copy(self.snapshot_path, self.path)
                source = "the last good snapshot was used"
            except CorruptError as error:
                source = f"its snapshot is damaged too ({error}), so it starts empty"
        self._open(self.path)
        self.recovered = f"the store was damaged ({problem}); it was moved to {aside.name} and {source}"
        log.error("%s", self.recovered)

    def _keep_few_aside(self) -> None:
        found = sorted(self.path.parent.glob(f"{self.path.name}.corrupt-*[0-9]"))
        for old in found[:-KEPT_ASIDE]:
            _remove(old)

    def restart_from_snapshot(self, problem: str, now: float) -> None:
        """As opening does with a damaged file, for damage that only its reader can see."""
        self.close()
        self._set_aside(problem, now)

    def restart_empty(self, problem: str, now: float) -> None:
        """As ``restart_from_snapshot``, where the snapshot turned out to be no better."""
        self.close()
        self._set_aside(problem, now, use_snapshot=False)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _replace_by_copy(source: Path, target: Path) -> None:
    """Put a copy of ``source`` in the place of ``target``, whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    _copy(source, partial)
    os.replace(partial, target)
    _sync_directory(target.parent)


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        os.chmod(path, 0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -256")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _meaning(error) from error
    return connection


def _check(path: Path) -> None:
    """Raises CorruptError; an absent file is sound."""
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(path)
        try:
            problems = connection.execute("PRAGMA quick_check(1)").fetchall()
            if problems != [("ok",)]:
                raise CorruptError(str(problems[0][0]).splitlines()[0])
            version = _version(connection)
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            if 0 < version <= SCHEMA_VERSION and "meta" not in tables:
                raise CorruptError("tables are missing")
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise _meaning(error) from error


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _copy(source: Path, target: Path) -> None:
    """A whole, synced copy of a database that may be in use."""
    target.unlink(missing_ok=True)
    reader = sqlite3.connect(source)
    writer = sqlite3.connect(target)
    try:
        os.chmod(target, 0o600)
        reader.backup(writer)
    except sqlite3.DatabaseError as error:
        raise _meaning(error) from error
    finally:
        writer.close()
        reader.close()
    with open(target, "rb") as copied:
        os.fsync(copied.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _transaction(connection: sqlite3.Connection, reserve: Reserve | None = None) -> Iterator[None]:
    with _translated():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            # After a full disk SQLite has rolled back by itself: the transaction cannot be committed again,
            # but its next try has the reserve's room.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if reserve is not None and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                reserve.release()
            raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _meaning(error) from error
    except OSError as error:
        raise TemporaryError(
            f"the store cannot be written: {error.strerror}", reason="StoreUnwritable"
        ) from error


def _meaning(error: sqlite3.DatabaseError) -> EdgeAgentError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(str(error))
    if code == sqlite3.SQLITE_FULL:
        return TemporaryError("the disk is full: the store cannot be written", reason="DiskFull")
    if isinstance(error, sqlite3.OperationalError):
        return TemporaryError(f"the store cannot be used: {error}", reason="StoreUnwritable")
    raise error
