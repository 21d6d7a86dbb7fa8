"""The outbox: what the node has to tell, kept on disk in order until the broker has taken it.

Each class of telemetry has a byte budget; when it is used up, the oldest of that class is dropped, and
counted. The classes do not compete: metrics can never push out events.
"""

import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta, set_meta

BUDGETS: Mapping[str, int] = {"events": 1_000_000, "audit": 1_000_000}
"""Bytes that each class may hold on disk."""
GAP = 1_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to send: ``sequence`` rises for ever, also over restarts; ``name`` is its class."""

    sequence: int
    name: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Growth:
    """What one item changes once its transaction has ended: bytes of its class, and how many were dropped."""

    name: str
    bytes: int
    dropped: int
    sequence: int


class Outbox:
    """A queue on disk. ``stream`` tells this queue from one in an earlier store of the same node."""

    def __init__(self, database: Database, budgets: Mapping[str, int] = BUDGETS) -> None:
        self._database = database
        self._budgets = budgets
        self.stream = get_meta(database, "stream")
        if not self.stream:
            self.stream = uuid.uuid4().hex
            set_meta(database, [("stream", self.stream)])
        query = "SELECT class, SUM(size) FROM outbox GROUP BY class"
        self._bytes = {str(name): int(str(total)) for name, total in database.rows(query)}
        self.dropped = 0

    def skip_ahead(self) -> None:
        """Leave a gap in the sequence: a power cut may have taken items that the hub has already seen."""
        with self._database.durable() as connection:
            connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'outbox'", (GAP,))

    def append(self, name: str, body: bytes, *, instead_of: int = 0) -> int:
        """Add to class ``name``; its sequence. TemporaryError where the disk takes nothing.

        The item of the sequence ``instead_of``, should it still wait, goes: the new one says all that it did.
        """
        with self._database.batched() as connection:
            growth = self.insert(connection, name, body, instead_of=instead_of)
        self.count(growth)
        return growth.sequence

    def insert(
        self, connection: sqlite3.Connection, name: str, body: bytes, *, instead_of: int = 0
    ) -> Growth:
        """Add to class ``name`` in a transaction of the caller's, who calls ``count`` once it has ended."""
        freed, victims = 0, []
        replaced = "DELETE FROM outbox WHERE sequence = ? AND class = ? RETURNING size"
        for (size,) in connection.execute(replaced, (instead_of, name)).fetchall():
            freed = int(size)
        excess = self._bytes.get(name, 0) - freed + len(body) - self._budgets[name]
        if excess > 0:
            query = "SELECT sequence, size FROM outbox WHERE class = ? ORDER BY sequence"
            for sequence, size in connection.execute(query, (name,)):
                victims.append((sequence,))
                freed += size
                excess -= size
                if excess <= 0:
                    break
            connection.executemany("DELETE FROM outbox WHERE sequence = ?", victims)
        added = connection.execute(
            "INSERT INTO outbox (class, size, body) VALUES (?, ?, ?)", (name, len(body), body)
        )
        return Growth(name, len(body) - freed, len(victims), added.lastrowid or 0)

    def count(self, growth: Growth) -> None:
        """What was inserted is on disk: what fails to get there would else be counted for ever."""
        self._bytes[growth.name] = self._bytes.get(growth.name, 0) + growth.bytes
        self.dropped += growth.dropped

    def first(self, count: int) -> list[Item]:
        """The oldest ``count`` items, oldest first."""
        query = "SELECT sequence, class, body FROM outbox ORDER BY sequence LIMIT ?"
        return [
            Item(int(str(sequence)), str(name), body if isinstance(body, bytes) else b"")
            for sequence, name, body in self._database.rows(query, (count,))
        ]

    def remove(self, through: int) -> None:
        """Forget everything up to and with sequence ``through``: the broker has it."""
        with self._database.batched() as connection:
            query = "SELECT class, SUM(size) FROM outbox WHERE sequence <= ? GROUP BY class"
            removed = connection.execute(query, (through,)).fetchall()
            connection.execute("DELETE FROM outbox WHERE sequence <= ?", (through,))
        for name, total in removed:
            self._bytes[name] -= total
