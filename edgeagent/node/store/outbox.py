"""The outbox: what the node has to tell, kept on disk in order until the broker has taken it.

Each class of telemetry has a byte budget; when it is used up, the oldest of that class is dropped, and
counted. The classes do not compete: metrics can never push out events.
"""

import sqlite3
import uuid
from collections import Counter
from collections.abc import Mapping

import msgspec

from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta, set_meta

BUDGETS: Mapping[str, int] = {"events": 1_000_000, "audit": 1_000_000}
"""Bytes that each class may hold on disk."""
GAP = 1_000_000
_TOTALS = "SELECT class, SUM(size), COUNT(*) FROM outbox {where} GROUP BY class"


class Item(msgspec.Struct, frozen=True):
    """One thing to send: ``sequence`` rises for ever, also over restarts; ``name`` is its class."""

    sequence: int
    name: str
    body: bytes


class Growth(msgspec.Struct, frozen=True):
    """What one item changes once its transaction has ended: bytes of its class, and how many were dropped."""

    name: str
    bytes: int
    items: int
    dropped: int
    sequence: int


class ClassUsage(msgspec.Struct, frozen=True):
    """What a class may hold and holds; ``dropped`` counts what had no room since the program began."""

    name: str
    budget: int
    bytes: int
    items: int
    dropped: int


class Outbox:
    """A queue on disk. ``stream`` tells this queue from one in an earlier store of the same node."""

    def __init__(self, database: Database, budgets: Mapping[str, int] = BUDGETS) -> None:
        self._database = database
        self._budgets = budgets
        self.stream = get_meta(database, "stream")
        if not self.stream:
            self.stream = uuid.uuid4().hex
            set_meta(database, [("stream", self.stream)])
        self._bytes: Counter[str] = Counter()
        self._items: Counter[str] = Counter()
        for name, total, count in database.rows(_TOTALS.format(where="")):
            self._bytes[str(name)], self._items[str(name)] = int(str(total)), int(str(count))
        self._dropped: Counter[str] = Counter()

    @property
    def dropped(self) -> int:
        """How many items had no room since this object was made."""
        return self._dropped.total()

    def usage(self) -> list[ClassUsage]:
        """What each class holds, in the order of the budgets."""
        return [
            ClassUsage(name, budget, self._bytes[name], self._items[name], self._dropped[name])
            for name, budget in self._budgets.items()
        ]

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
        freed, replaced_items, victims = 0, 0, []
        replaced = "DELETE FROM outbox WHERE sequence = ? AND class = ? RETURNING size"
        for (size,) in connection.execute(replaced, (instead_of, name)).fetchall():
            freed, replaced_items = int(size), 1
        excess = self._bytes[name] - freed + len(body) - self._budgets[name]
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
        items = 1 - replaced_items - len(victims)
        return Growth(name, len(body) - freed, items, len(victims), added.lastrowid or 0)

    def count(self, growth: Growth) -> None:
        """What was inserted is on disk: what fails to get there would else be counted for ever."""
        self._bytes[growth.name] += growth.bytes
        self._items[growth.name] += growth.items
        self._dropped[growth.name] += growth.dropped

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
            query = _TOTALS.format(where="WHERE sequence <= ?")
            removed = connection.execute(query, (through,)).fetchall()
            connection.execute("DELETE FROM outbox WHERE sequence <= ?", (through,))
        for name, total, count in removed:
            self._bytes[name] -= total
            self._items[name] -= count
