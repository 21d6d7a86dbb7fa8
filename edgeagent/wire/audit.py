"""The audit log: a row for each operation that an operator asked for, each with the hash of the row before.

The node keeps its own rows and tells the hub of each, and of the newest one's hash with its status: a row
that is changed, left out or taken back shows. May not know where rows are kept.
"""

from collections.abc import Iterable
from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.node import AuditHead
from edgeagent.wire.canonical import canonical_json, digest

MAX_TEXT = 512
"""How many characters of a text a row keeps at most."""

Verdict = Literal["allowed", "refused"]


class AuditRow(KubernetesStruct, frozen=True, omit_defaults=False):
    """One operation. ``time`` is RFC 3339, ``target`` what it was about, ``reason`` why it was refused.

    ``chain`` names the log, which begins with row 1; ``previous`` is the hash of the row before, of the
    first one the digest of the chain's name. ``nonce`` is that of the operator's signed request.
    """

    chain: str
    sequence: int
    time: str
    operator: str
    method: str
    target: str
    verdict: Verdict
    reason: str
    nonce: str
    previous: str


class AuditReport(KubernetesStruct, frozen=True, omit_defaults=False):
    """A row out of a node's outbox. Repeats are known by the row itself."""

    stream: str
    sequence: int
    audit: AuditRow


class AuditResult(KubernetesStruct, frozen=True, omit_defaults=False):
    """Rows, the oldest first, the newest row's head, and what is wrong with the log, a sentence each."""

    rows: list[AuditRow] = []
    head: AuditHead = AuditHead()
    findings: list[str] = []


def row_hash(row: AuditRow) -> str:
    """SHA-256 of the row's canonical JSON, in lower-case hex."""
    return digest(canonical_json(row))


def first_previous(chain: str) -> str:
    """What stands in for a row before the first one."""
    return digest(chain.encode())


def walk(head: AuditHead, rows: Iterable[AuditRow]) -> tuple[AuditHead, str]:
    """The head that ``rows``, which follow ``head``, lead to, and the first fault; empty for none.

    The head is that of what the rows say, whatever stands beside them.
    """
    fault = ""
    for row in rows:
        if not fault and row.chain != head.chain:
            fault = f"row {row.sequence} is of another log"
        if not fault and row.sequence != head.sequence + 1:
            fault = f"row {head.sequence + 1} is missing: row {row.sequence} comes next"
        if not fault and row.previous != head.hash:
            fault = f"row {row.sequence} does not follow what is before it: something there was changed"
        head = AuditHead(chain=row.chain, sequence=row.sequence, hash=row_hash(row))
    return head, fault
