"""The audit logs as the hub keeps them: its own, and each node's as the node told it, row by row.

A node's rows are held against each other and against the head in its status: what was left out, changed or
taken back is a finding, which stays until somebody acknowledges it. May not judge who may do what.
"""

import logging
import secrets

from edgeagent.api.clock import Clock, parse_rfc3339, rfc3339
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.node import AuditHead
from edgeagent.cluster.store import Store
from edgeagent.wire.audit import (
    MAX_TEXT,
    AuditReport,
    AuditResult,
    AuditRow,
    Verdict,
    first_previous,
    row_hash,
)
from edgeagent.wire.canonical import canonical_json, is_digest

log = logging.getLogger(__name__)

HUB = "hub"
"""The source of the hub's own rows; no node can be called that."""
MAX_REPORT_BYTES = 16_384
MAX_HUB_ROWS = 20_000
MAX_NODE_ROWS = 2_000
MAX_FINDINGS = 100
"""What is kept of each source; the oldest go first."""


class AuditLogs:
    """Takes rows and heads from nodes, adds the hub's own, and says what is wrong."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    # The hub's own

    def note(
        self, operator: str, method: str, target: str, verdict: Verdict, reason: str, nonce: str
    ) -> None:
        """Add a row of the hub's own. Inside a transaction."""
        head = self.head(HUB)
        if not head.chain:
            chain = secrets.token_hex(8)
            head = AuditHead(chain=chain, hash=first_previous(chain))
        self._put(
            HUB,
            AuditRow(
                chain=head.chain,
                sequence=head.sequence + 1,
                time=rfc3339(self._clock.now()),
                operator=operator[:MAX_TEXT],
                method=method[:MAX_TEXT],
                target=target[:MAX_TEXT],
                verdict=verdict,
                reason=reason[:MAX_TEXT],
                nonce=nonce[:MAX_TEXT],
                previous=head.hash,
            ),
            MAX_HUB_ROWS,
        )

    # What nodes say

    def receive(self, node: str, payload: bytes) -> bool:
        """A row out of a node's outbox; whether it is new. What cannot be read is a finding, too."""
        if self._store.node(node) is None:
            return False
        try:
            row = decode_json(payload, AuditReport, limit=MAX_REPORT_BYTES).audit
            _check(row)
        except EdgeAgentError as error:
            log.warning("a row of the audit log of node %s cannot be used: %s", node, error)
            return False
        with self._store.transaction():
            return self._take(node, row)

    def _take(self, node: str, row: AuditRow) -> bool:
        head, found = self.head(node), ""
        if self._hash_of(node, row.chain, row.sequence) == row_hash(row):
            return False
        if not head.chain:
            if row.sequence != 1:
                found = f"rows 1 to {row.sequence - 1} were never told"
            elif row.previous != first_previous(row.chain):
                found = "row 1 follows something that was never told"
        elif row.chain != head.chain:
            found = f"another log begins with row {row.sequence}, after row {head.sequence} of the one before"
        elif row.sequence <= head.sequence:
            if self._hash_of(node, row.chain, row.sequence) is None:
                return False  # it was told once, and is so old that it is not kept any more
            found = f"row {row.sequence} was told anew, as another one: the log was rewritten"
        elif row.sequence > head.sequence + 1:
            found = f"rows {head.sequence + 1} to {row.sequence - 1} never came"
        elif row.previous != head.hash:
            found = f"row {row.sequence} does not follow row {head.sequence} as it was told: it was rewritten"
        self._put(node, row, MAX_NODE_ROWS)
        if found:
            self._find(node, found)
        return True

    def see_head(self, node: str, said: AuditHead) -> None:
        """What the node's status says of its newest row: with another hash than was told, that is found."""
        known = self._hash_of(node, said.chain, said.sequence) if said.sequence else None
        if known is not None and known != said.hash:
            with self._store.transaction():
                self._find(
                    node,
                    f"the node's row {said.sequence} is another than the one that it told: it was changed",
                )

    def problem(self, node: str, said: AuditHead) -> tuple[str, str] | None:
        """Reason and message where the log is not all here and sound. ``said`` is the head in the status."""
        if findings := self.findings(node):
            more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
            return "Tampered", f"{findings[-1]}{more}: see `edgectl audit {node}`"
        head = self.head(node)
        if said.sequence and said.chain != head.chain:
            return "RowsMissing", f"row {said.sequence} of the node's log has not come yet"
        if said.sequence > head.sequence:
            return "RowsMissing", f"rows {head.sequence + 1} to {said.sequence} have not come yet"
        if said.sequence < head.sequence:
            return "CutBack", f"the node's log ends with row {said.sequence}, but it told row {head.sequence}"
        return None

    # What is kept

    def head(self, source: str) -> AuditHead:
        """The newest row that is kept of a source; empty where there is none."""
        rows = self._store.execute(
            "SELECT chain, sequence, hash FROM audit WHERE source = ? ORDER BY id DESC LIMIT 1", (source,)
        )
        return AuditHead(chain=rows[0][0], sequence=rows[0][1], hash=rows[0][2]) if rows else AuditHead()

    def result(self, source: str, count: int) -> AuditResult:
        """The last ``count`` rows of a source, the oldest of them first, and what was found."""
        rows = self._store.execute(
            "SELECT body FROM audit WHERE source = ? ORDER BY id DESC LIMIT ?", (source, count)
        )
        return AuditResult(
            rows=[decode_json(body, AuditRow) for (body,) in reversed(rows)],
            head=self.head(source),
            findings=self.findings(source),
        )

    def recent_calls(self, seconds: float) -> set[str]:
        """The nonces of the calls that the hub has in its own log from the last so many seconds."""
        since = self._clock.now() - seconds - 1  # a row's time is in whole seconds
        found = set()
        rows = self._store.execute("SELECT body FROM audit WHERE source = ? ORDER BY id DESC", (HUB,))
        for row in (decode_json(body, AuditRow) for (body,) in rows):
            if parse_rfc3339(row.time) < since:
                break
            found.add(row.nonce)
        return found

    def findings(self, source: str) -> list[str]:
        """What is wrong with a source's log, the oldest first, each with its time."""
        rows = self._store.execute(
            "SELECT time, text FROM audit_findings WHERE source = ? ORDER BY id", (source,)
        )
        return [f"{time}: {text}" for time, text in rows]

    def acknowledge(self, source: str) -> int:
        """Forget what was found; how much that was."""
        with self._store.transaction():
            return len(
                self._store.execute("DELETE FROM audit_findings WHERE source = ? RETURNING id", (source,))
            )

    def _hash_of(self, source: str, chain: str, sequence: int) -> str | None:
        """Of the row as it was told last."""
        rows = self._store.execute(
            "SELECT hash FROM audit WHERE source = ? AND chain = ? AND sequence = ? ORDER BY id DESC LIMIT 1",
            (source, chain, sequence),
        )
        return str(rows[0][0]) if rows else None

    def _put(self, source: str, row: AuditRow, limit: int) -> None:
        self._store.execute(
            "INSERT INTO audit (source, chain, sequence, hash, body) VALUES (?, ?, ?, ?, ?)",
            (source, row.chain, row.sequence, row_hash(row), canonical_json(row)),
        )
        self._store.execute(
            "DELETE FROM audit WHERE source = ? AND id <="
            " (SELECT id FROM audit WHERE source = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (source, source, limit),
        )

    def _find(self, source: str, text: str) -> None:
        known = self._store.execute(
            "SELECT 1 FROM audit_findings WHERE source = ? AND text = ? LIMIT 1", (source, text)
        )
        if known:
            return
        log.error("the audit log of node %s: %s", source, text)
        self._store.execute(
            "INSERT INTO audit_findings (source, time, text) VALUES (?, ?, ?)",
            (source, rfc3339(self._clock.now()), text),
        )
        self._store.execute(
            "DELETE FROM audit_findings WHERE source = ? AND id <="
            " (SELECT id FROM audit_findings WHERE source = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (source, source, MAX_FINDINGS),
        )


def _check(row: AuditRow) -> None:
    if not 0 < row.sequence < 2**53:
        raise InvalidObjectError("audit.sequence", "must be at least 1")
    if not is_digest(row.previous):
        raise InvalidObjectError("audit.previous", "must be a SHA-256 in lower-case hex")
    texts = (row.chain, row.time, row.operator, row.method, row.target, row.reason, row.nonce)
    if not row.chain or any(len(text) > MAX_TEXT for text in texts):
        raise InvalidObjectError("audit", f"a text is longer than {MAX_TEXT} characters, or the chain empty")
