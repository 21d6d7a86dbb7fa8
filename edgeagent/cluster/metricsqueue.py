"""MetricsQueue: metrics of all nodes on the hub's disk until they are passed on. A file beside the store.

The broker is told that the hub has a message once it is here. May not know how metrics are passed on.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.wire.metricblock import MetricBlock
from edgeagent.wire.metricparts import without

log = logging.getLogger(__name__)

VERSION = 1
MAX_STREAMS = 4
"""A node's streams of which is remembered how far they came: those of its last starts."""
_TABLES = f"""
CREATE TABLE message (id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE seen (node TEXT NOT NULL, stream TEXT NOT NULL, id INTEGER NOT NULL, progress BLOB NOT NULL,
    PRIMARY KEY (node, stream)) WITHOUT ROWID;
PRAGMA user_version = {VERSION:d};
"""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message as it came."""

    id: int
    node: str
    body: bytes


class Progress(msgspec.Struct, array_like=True):
    """How far a stream was passed on: all before ``next``, and some ``parts`` of ``moment`` after that."""

    next: int = 0
    moment: tuple[int, int, int] = (0, 0, 0)
    parts: list[int] = []

    def news(self, block: MetricBlock) -> MetricBlock | None:
        """What of the block is new, None where nothing is; it counts as passed on from now on."""
        if block.next <= self.next:
            return None
        if block.parts == 1:
            rest = without(block, self.next)
            self.next = block.next
            return rest
        moment = block.first, block.next, block.parts
        if moment != self.moment:
            self.moment, self.parts = moment, []
        if block.part in self.parts:
            return None
        self.parts.append(block.part)
        if len(self.parts) == block.parts:
            self.next = block.next
        return block


@dataclass(slots=True)
class _Usage:
    bytes: int = 0
    messages: int = 0


@dataclass(slots=True)
class MetricsQueue:
    """Oldest first; at most ``limit`` bytes, of which the oldest go, counted in ``dropped``. On the loop."""

    path: Path
    limit: int
    dropped: int = 0
    _usage: _Usage = field(default_factory=_Usage)
    _connection: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        """PermanentError where the file cannot be used."""
        self.path.touch(mode=0o600)
        self._connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"its version is {version}, this program knows {VERSION}")
            if version == 0:
                self._connection.executescript(f"BEGIN;{_TABLES}COMMIT;")
            held = self._connection.execute("SELECT COALESCE(SUM(LENGTH(body)), 0), COUNT(*) FROM message")
            self._usage = _Usage(*held.fetchone())
        except sqlite3.Error as error:
            self._connection.close()
            problem = f"{self.path} cannot be used: {error}; without it, metrics begin anew: remove it"
            raise PermanentError(problem) from None

    @property
    def size(self) -> int:
        """The bytes that wait."""
        return self._usage.bytes

    def close(self) -> None:
        """What is there stays."""
        self._connection.close()

    def add(self, node: str, body: bytes) -> None:
        """Keep a message; the oldest go where there is no room. TemporaryError where the disk has none."""
        with self._disk(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            excess = self._usage.bytes + len(body) - self.limit
            gone = self._oldest(excess) if excess > 0 else []
            self._delete(one for one, _ in gone)
            self._connection.execute("INSERT INTO message (node, body) VALUES (?, ?)", (node, body))
        self._usage.bytes += len(body) - sum(size for _, size in gone)
        self._usage.messages += 1 - len(gone)
        if gone and not self.dropped:
            log.warning(
                "metrics that wait for remote_write need more than %d bytes: the oldest go", self.limit
            )
        self.dropped += len(gone)

    def _oldest(self, size: int) -> list[tuple[int, int]]:
        found = []
        for one, length in self._connection.execute("SELECT id, LENGTH(body) FROM message ORDER BY id"):
            found.append((one, length))
            size -= length
            if size <= 0:
                break
        return found

    def first(self, size: int) -> list[Queued]:
        """The oldest messages, of about ``size`` bytes together."""
        found = []
        for row in self._connection.execute("SELECT id, node, body FROM message ORDER BY id"):
            found.append(Queued(*row))
            size -= len(found[-1].body)
            if size <= 0:
                break
        return found

    def progress(self, node: str, stream: str) -> Progress:
        """How far that stream was passed on."""
        row = self._connection.execute(
            "SELECT progress FROM seen WHERE node = ? AND stream = ?", (node, stream)
        ).fetchone()
        return msgspec.msgpack.decode(row[0], type=Progress) if row is not None else Progress()

    def done(self, messages: list[Queued], progress: dict[tuple[str, str], Progress]) -> None:
        """These were passed on: forget them, and remember how far their streams came.

        TemporaryError where that cannot be written down.
        """
        with self._disk(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            gone = self._delete(one.id for one in messages)
            for (node, stream), how_far in progress.items():
                self._connection.execute(
                    "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)",
                    (node, stream, messages[-1].id, msgspec.msgpack.encode(how_far)),
                )
                self._connection.execute(
                    "DELETE FROM seen WHERE node = ? AND stream NOT IN"
                    " (SELECT stream FROM seen WHERE node = ? ORDER BY id DESC LIMIT ?)",
                    (node, node, MAX_STREAMS),
                )
        self._usage.bytes -= gone[1]
        self._usage.messages -= gone[0]
        if not self._usage.messages:
            with self._disk():
                self._connection.executescript("PRAGMA incremental_vacuum")

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise TemporaryError(f"{self.path} cannot be written: {error}", reason="DiskError") from error

    def _delete(self, ids: Iterable[int]) -> tuple[int, int]:
        """How many messages went, and their bytes: some may have made room meanwhile."""
        count = size = 0
        for one in ids:
            query = "DELETE FROM message WHERE id = ? RETURNING LENGTH(body)"
            for (length,) in self._connection.execute(query, (one,)).fetchall():
                count, size = count + 1, size + length
        return count, size

    def forget(self, node: str) -> None:
        """It is no member any more: a node that gets its name later is another.

        TemporaryError as of ``done``.
        """
        with self._disk():
            self._connection.execute("DELETE FROM seen WHERE node = ?", (node,))
