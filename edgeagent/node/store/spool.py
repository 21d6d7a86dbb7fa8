"""The spool: logs and metrics on disk, in chunks, until every sink has them. A file beside the store.

Telemetry is much, and may be lost when nothing else is: so it has neither the store's file nor its syncs. A
crash of the program loses nothing of it, a power cut the last seconds at most; then the positions of the
log source go back together with the chunks, and the stream gets another name, so that no number stands for
two things. May not know what is in a chunk.
"""

import logging
import os
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeagent.api.errors import TemporaryError

log = logging.getLogger(__name__)

PAGE_BYTES = 4096
VERSION = 1
_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE chunk (class TEXT NOT NULL, first INTEGER NOT NULL, items INTEGER NOT NULL,
       made REAL NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (class, first))""",
    """CREATE TABLE sink (class TEXT NOT NULL, name TEXT NOT NULL, next INTEGER NOT NULL,
       PRIMARY KEY (class, name)) WITHOUT ROWID""",
    """CREATE TABLE position (source TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
       PRIMARY KEY (source, key)) WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION:d}",
)
FREE_BYTES_KEPT = 1 << 20
"""Room in the file that nothing uses and that is not given back to the disk."""
DROP_FIRST = ("metrics", "logs")
"""What makes room where the disk has none: these groups, in this order."""


class Chunk(msgspec.Struct, frozen=True):
    """Items ``first`` to ``first + items - 1`` of their class; ``made`` in seconds since the epoch."""

    first: int
    items: int
    made: float
    body: bytes

    @property
    def next(self) -> int:
        """The number of the item after this chunk."""
        return self.first + self.items


class Usage(msgspec.Struct, frozen=True):
    """What a class holds at the moment."""

    chunks: int = 0
    bytes: int = 0
    items: int = 0


class Part(NamedTuple):
    """A chunk to be kept: its class, and what is in it."""

    name: str
    body: bytes
    items: int


def group_of(name: str) -> str:
    """The classes ``logs``, ``logs/1`` and so on are one group."""
    return name.partition("/")[0]


class Spool:
    """Chunks by class, each group of classes with a budget in bytes. Where there is no room, the oldest go of
    the class of the group that holds most, and are counted in ``dropped``, by group.

    Not thread-safe: one thread uses it at a time, whichever. Every method raises TemporaryError where the
    disk does not do as it should. ``boot_id``: of the boot that the program runs in.
    """

    def __init__(self, path: Path, budgets: Mapping[str, int], *, boot_id: str, now: float) -> None:
        """Open or create ``path``; a file that cannot be read is moved aside, for there is worse to lose."""
        self._path = path
        self._budgets = budgets
        self.dropped: Counter[str] = Counter()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._open(boot_id)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _temporary(error) from error
            aside = path.with_name(f"{path.name}.corrupt-{int(now)}")
            log.error("the spool %s is damaged (%s); it begins anew, the old one is %s", path, error, aside)
            for old in path.parent.glob(f"{path.name}.corrupt-*"):
                old.unlink()
            for suffix in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    os.replace(f"{path}{suffix}", f"{aside}{suffix}")
            self._open(boot_id)

    def _open(self, boot_id: str) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            os.chmod(self._path, 0o600)
            self._prepare(connection, boot_id)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _prepare(self, connection: sqlite3.Connection, boot_id: str) -> None:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES:d}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -256")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"its version is {version}, this program knows {VERSION}")
        if version == VERSION and connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise sqlite3.DatabaseError("it does not hold together")
        connection.execute("BEGIN IMMEDIATE")
        if version == 0:
            for statement in _TABLES:
                connection.execute(statement)
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        if meta.get("boot_id") != boot_id or not meta.get("stream"):
            # A power cut may have taken numbers back that sinks have seen.
            meta = {**meta, "boot_id": boot_id, "stream": uuid.uuid4().hex}
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
        connection.execute("COMMIT")
        self.stream: str = meta["stream"]
        rows = connection.execute(
            "SELECT class, COUNT(*), SUM(size), SUM(items), MAX(first + items) FROM chunk GROUP BY class"
        ).fetchall()
        self._usage = {name: Usage(chunks, size, items) for name, chunks, size, items, _ in rows}
        self._next = {key.removeprefix("next:"): int(meta[key]) for key in meta if key.startswith("next:")}

    def close(self) -> None:
        """What was written stays."""
        self._connection.close()

    def usage(self, name: str) -> Usage:
        """What class ``name`` holds."""
        return self._usage.get(name, Usage())

    def held(self, group: str) -> Usage:
        """What all classes of a group hold."""
        found = [usage for name, usage in [*self._usage.items()] if group_of(name) == group]
        chunks, size = sum(one.chunks for one in found), sum(one.bytes for one in found)
        return Usage(chunks, size, sum(one.items for one in found))

    def next(self, name: str) -> int:
        """The number of the class's next item."""
        return self._next.get(name, 0)

    def append(
        self,
        name: str,
        body: bytes,
        items: int,
        made: float,
        *,
        source: str = "",
        positions: Mapping[str, str] | None = None,
    ) -> int:
        """Keep a chunk of class ``name``, and with it how far ``source`` has come; the number of its first
        item.

        Without ``items`` the positions alone are kept, as ``append_all`` keeps them.
        """
        first = self.next(name)
        parts = [Part(name, body, items)] if items else []
        self.append_all(parts, made, group=group_of(name), source=source, positions=positions)
        return first

    def append_all(
        self,
        parts: Sequence[Part],
        made: float,
        *,
        group: str,
        source: str = "",
        positions: Mapping[str, str] | None = None,
    ) -> None:
        """Keep chunks of classes of ``group``, none of a class twice, and how far ``source`` has come: all of
        it or nothing.

        A position that is empty is forgotten. On a full disk older chunks make room, metrics before logs;
        metrics make none of logs.
        """
        try:
            self._append(parts, made, group, source, positions or {})
            return
        except TemporaryError as error:
            size = sum(len(part.body) for part in parts)
            if error.reason != "DiskFull" or not self._give_way(group, 2 * size + PAGE_BYTES):
                raise
        self._append(parts, made, group, source, positions or {})

    def _append(
        self, parts: Sequence[Part], made: float, group: str, source: str, positions: Mapping[str, str]
    ) -> None:
        size = sum(len(part.body) for part in parts)
        with self._transaction() as connection:
            excess = self.held(group).bytes + size - self._budgets[group]
            gone = self._free(connection, group, excess) if parts else {}
            for name, body, items in parts:
                first = self.next(name)
                connection.execute(
                    "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)", (name, first, items, made, len(body), body)
                )
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"next:{name}", str(first + items))
                )
            for key, value in positions.items():
                if value:
                    connection.execute(
                        "INSERT OR REPLACE INTO position VALUES (?, ?, ?)", (source, key, value)
                    )
                else:
                    connection.execute("DELETE FROM position WHERE source = ? AND key = ?", (source, key))
        self._dropped(gone)
        for name, body, items in parts:
            self._next[name] = self.next(name) + items
            self._changed(name, 1, len(body), items)

    def after(self, name: str, first: int) -> Chunk | None:
        """The oldest chunk of the class that has items from number ``first`` on."""
        with _translated():
            row = self._connection.execute(
                "SELECT first, items, made, body FROM chunk WHERE class = ? AND first + items > ?"
                " ORDER BY first LIMIT 1",
                (name, first),
            ).fetchone()
        return Chunk(*row) if row is not None else None

    def run_after(
        self, name: str, first: int, limit: int, weigh: Callable[[Chunk], int] = lambda chunk: len(chunk.body)
    ) -> list[Chunk]:
        """As ``after``, with the chunks that follow without a gap: of weight ``limit``, one at the least."""
        found: list[Chunk] = []
        while (chunk := self.after(name, found[-1].next if found else first)) is not None:
            limit -= weigh(chunk)
            if found and (limit < 0 or chunk.first != found[-1].next):
                break
            found.append(chunk)
        return found

    def replace(self, name: str, first: int, end: int, body: bytes) -> None:
        """The chunks with the items ``first`` to ``end - 1`` are now one, ``body``, with the same numbers.

        Nothing is done where they are not all there any more.
        """
        with self._transaction() as connection:
            span = name, first, end
            chunks, size, items, made = connection.execute(
                "SELECT COUNT(*), SUM(size), SUM(items), MAX(made) FROM chunk"
                " WHERE class = ? AND first >= ? AND first + items <= ?",
                span,
            ).fetchone()
            if items != end - first:
                return
            connection.execute(
                "DELETE FROM chunk WHERE class = ? AND first >= ? AND first + items <= ?", span
            )
            connection.execute(
                "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)", (name, first, items, made, len(body), body)
            )
        self._changed(name, 1 - chunks, len(body) - size, 0)

    def positions(self, source: str) -> dict[str, str]:
        """How far the source has come."""
        with _translated():
            return dict(
                self._connection.execute("SELECT key, value FROM position WHERE source = ?", (source,))
            )

    def sinks(self, name: str) -> dict[str, int]:
        """By sink of the class, the number of the item that it gets next."""
        with _translated():
            return dict(self._connection.execute("SELECT name, next FROM sink WHERE class = ?", (name,)))

    def set_sinks(self, name: str, sinks: set[str]) -> None:
        """These are the sinks of the class. A new one begins with the oldest chunk that is there."""
        known = self.sinks(name)
        if known.keys() == sinks:
            return
        with self._transaction() as connection:
            for gone in known.keys() - sinks:
                connection.execute("DELETE FROM sink WHERE class = ? AND name = ?", (name, gone))
            for new in sinks - known.keys():
                connection.execute("INSERT INTO sink VALUES (?, ?, 0)", (name, new))
            delivered = self._delete_delivered(connection, name)
        self._delivered(name, delivered)

    def advance(self, name: str, sink: str, next_item: int) -> None:
        """The sink has everything before number ``next_item``. What all sinks have is forgotten."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE sink SET next = ? WHERE class = ? AND name = ?", (next_item, name, sink)
            )
            gone = self._delete_delivered(connection, name)
        self._delivered(name, gone)

    def _delete_delivered(self, connection: sqlite3.Connection, name: str) -> tuple[int, int, int]:
        query = "SELECT MIN(next) FROM sink WHERE class = ?"
        (before,) = connection.execute(query, (name,)).fetchone()
        if before is None:  # nobody is there to get anything
            before = self._next.get(name, 0)
        return self._delete(connection, name, "first + items <= ?", before)

    def _delivered(self, name: str, gone: tuple[int, int, int]) -> None:
        chunks, size, items = gone
        self._changed(name, -chunks, -size, -items)
        if any(usage.chunks for usage in self._usage.values()):
            return
        with _translated():
            (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if pages * PAGE_BYTES > FREE_BYTES_KEPT:
                # A backlog is gone; its room is given back once, not page by page. ``execute`` would stop
                # after the first page, for the statement has no columns.
                self._connection.executescript("PRAGMA incremental_vacuum")

    def _free(self, connection: sqlite3.Connection, group: str, size: int) -> dict[str, Usage]:
        """Delete chunks of ``size`` bytes, the oldest of the class that holds most; what went, by class."""
        left = {
            name: usage.bytes
            for name, usage in self._usage.items()
            if group_of(name) == group and usage.chunks
        }
        gone: dict[str, Usage] = {}
        while size > 0 and left:
            name = max(left, key=left.__getitem__)
            (first,) = connection.execute("SELECT MIN(first) FROM chunk WHERE class = ?", (name,)).fetchone()
            if first is None:
                del left[name]
                continue
            chunks, freed, items = self._delete(connection, name, "first <= ?", first)
            old = gone.get(name, Usage())
            gone[name] = Usage(old.chunks + chunks, old.bytes + freed, old.items + items)
            left[name] -= freed
            size -= freed
        return gone

    def _dropped(self, gone: Mapping[str, Usage]) -> None:
        for name, usage in gone.items():
            self._changed(name, -usage.chunks, -usage.bytes, -usage.items)
            self.dropped[group_of(name)] += usage.items

    @staticmethod
    def _delete(connection: sqlite3.Connection, name: str, which: str, number: int) -> tuple[int, int, int]:
        """Chunks, bytes and items that went."""
        rows = connection.execute(
            f"DELETE FROM chunk WHERE class = ? AND {which} RETURNING size, items",  # noqa: S608 - ours alone
            (name, number),
        ).fetchall()
        return len(rows), sum(size for size, _ in rows), sum(items for _, items in rows)

    def _changed(self, name: str, chunks: int, size: int, items: int) -> None:
        old = self.usage(name)
        self._usage[name] = Usage(old.chunks + chunks, old.bytes + size, old.items + items)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _give_way(self, for_group: str, size: int) -> bool:
        """Drop ``size`` bytes of what matters least, whose pages are used again; False if there is none.

        Nothing is dropped that matters more than ``for_group``.
        """
        for group in DROP_FIRST[: DROP_FIRST.index(for_group) + 1]:
            if self.held(group).chunks:
                with self._transaction() as connection:
                    gone = self._free(connection, group, size)
                self._dropped(gone)
                return True
        return False


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _temporary(error) from error


def _temporary(error: sqlite3.Error) -> TemporaryError:
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    what = "the disk is full" if full else str(error)
    return TemporaryError(f"the spool cannot be used: {what}", reason="DiskFull" if full else "SpoolUnusable")
