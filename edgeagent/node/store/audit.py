"""The audit log on disk: rows are added, never changed; the oldest go by whole segments, with an anchor kept.

Each row's place in the hub's queue is written in one transaction with the row: what the node remembers the
hub will be told, power cuts or not, for as long as the outbox has room.
"""

import secrets
from collections.abc import Iterator

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.node import AuditHead
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta
from edgeagent.node.store.outbox import Outbox
from edgeagent.wire.audit import MAX_TEXT, AuditRow, Verdict, first_previous, row_hash, walk
from edgeagent.wire.canonical import canonical_json

SEGMENT_ROWS = 500
MAX_SEGMENTS = 4
"""Two thousand rows, of some 400 bytes each: all of them are gone through when the agent starts."""
_PAGE = 500
_ANCHOR = "audit_anchor"


class AuditLog:
    """``head`` is the newest row by what the rows say; ``fault`` says what is wrong with them, if any."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        segment_rows: int = SEGMENT_ROWS,
        max_segments: int = MAX_SEGMENTS,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._segment_rows = segment_rows
        self._max_rows = segment_rows * max_segments
        self._anchor_is_kept = True
        self.anchor = self._load_anchor()
        """What the oldest row follows."""
        self.head, self.fault = walk(self.anchor, self._all())
        if not self.head.chain:
            # Nothing of the log could be read: it goes on under another name, which the hub notices.
            self.head = msgspec.structs.replace(self.head, chain=secrets.token_hex(8))

    def _load_anchor(self) -> AuditHead:
        text = get_meta(self._database, _ANCHOR)
        if text:
            try:
                return decode_json(text.encode(), AuditHead)
            except InvalidObjectError:
                # Rows that follow nothing show as a fault.
                return AuditHead()
        # Kept with the first row: a full disk must not keep an agent from starting.
        self._anchor_is_kept = False
        chain = secrets.token_hex(8)
        return AuditHead(chain=chain, hash=first_previous(chain))

    def append(
        self, operator: str, method: str, target: str, verdict: Verdict, reason: str, nonce: str, now: float
    ) -> AuditRow:
        """Add a row, on disk for good once this returns; TemporaryError where the disk takes nothing."""
        head = self.head
        row = AuditRow(
            chain=head.chain,
            sequence=head.sequence + 1,
            time=rfc3339(now),
            operator=operator[:MAX_TEXT],
            method=method[:MAX_TEXT],
            target=target[:MAX_TEXT],
            verdict=verdict,
            reason=reason[:MAX_TEXT],
            nonce=nonce[:MAX_TEXT],
            previous=head.hash,
        )
        body = canonical_json(row)
        anchor = self._next_anchor(row.sequence)
        keep = anchor or (None if self._anchor_is_kept else self.anchor)
        with self._database.durable() as connection:
            connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (row.sequence, row.nonce, body))
            if keep is not None:
                connection.execute("DELETE FROM audit WHERE sequence <= ?", (keep.sequence,))
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_ANCHOR, canonical_json(keep).decode())
                )
            growth = self._outbox.insert(connection, "audit", body)
        self._outbox.count(growth)
        self.head = AuditHead(chain=row.chain, sequence=row.sequence, hash=row_hash(row))
        self.anchor, self._anchor_is_kept = anchor or self.anchor, True
        return row

    def _next_anchor(self, sequence: int) -> AuditHead | None:
        """The anchor after the oldest segment is dropped; None while there is room for row ``sequence``."""
        if sequence - self.anchor.sequence <= self._max_rows:
            return None
        last = self.anchor.sequence + self._segment_rows
        query = "SELECT sequence, body FROM audit WHERE sequence <= ? ORDER BY sequence DESC LIMIT 1"
        for row in self._rows(query, (last,)):
            return AuditHead(chain=row.chain, sequence=row.sequence, hash=row_hash(row))
        return AuditHead(chain=self.anchor.chain, sequence=last, hash=self.anchor.hash)

    def seen(self, nonce: str) -> bool:
        """Whether a row has that nonce: the call was judged before."""
        return bool(self._database.rows("SELECT 1 FROM audit WHERE nonce = ? LIMIT 1", (nonce,)))

    def newest(self, count: int) -> list[AuditRow]:
        """The last ``count`` rows, the oldest of them first."""
        query = "SELECT sequence, body FROM audit ORDER BY sequence DESC LIMIT ?"
        return list(self._rows(query, (count,)))[::-1]

    def check(self) -> str:
        """Go through all rows on disk again; what is wrong with them, empty for nothing."""
        head, fault = walk(self.anchor, self._all())
        if not fault and head != self.head:
            fault = f"row {head.sequence} is the last one, but the log had come to row {self.head.sequence}"
        return fault

    def _all(self) -> Iterator[AuditRow]:
        """All rows, a page at a time: they are not in memory all at once."""
        last = -1
        while True:
            query = "SELECT sequence, body FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?"
            page = list(self._rows(query, (last, _PAGE)))
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].sequence

    def _rows(self, query: str, arguments: tuple[object, ...]) -> Iterator[AuditRow]:
        for sequence, body in self._database.rows(query, arguments):
            number = int(str(sequence))
            try:
                row = decode_json(body if isinstance(body, bytes) else b"", AuditRow)
            except InvalidObjectError:
                row = self._unreadable(number)
            yield row if row.sequence == number else self._unreadable(number)

    def _unreadable(self, sequence: int) -> AuditRow:
        """In place of a row that was damaged: it follows nothing, and nothing follows it."""
        return AuditRow(
            chain=self.anchor.chain, sequence=sequence, time="", operator="", method="", target="",
            verdict="refused", reason="this row was damaged", nonce="", previous="",
        )  # fmt: skip
