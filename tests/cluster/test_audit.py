"""Nodes' audit logs as the hub hears of them: gaps, rewrites and new beginnings are found, repeats not."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.api.objects.node import AuditHead
from edgeagent.cluster.audit import HUB, MAX_FINDINGS, MAX_NODE_ROWS, AuditLogs
from edgeagent.cluster.store import Store, StoredNode
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.audit import AuditReport, AuditRow, first_previous, row_hash
from edgeagent.wire.canonical import canonical_json


class Hub:
    """Logs in a store that knows the node ``gw-1``, and a log of that node."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "hub.db", create=True)
        with self.store.transaction():
            self.store.put_node(StoredNode("gw-1", "u", "", bytes(32), "1", 0))
        self.logs = AuditLogs(self.store, ManualClock())
        self.rows = chain(8)

    def hear(self, *rows: AuditRow, node: str = "gw-1") -> list[bool]:
        """Rows as the node's outbox brings them; which are new."""
        return [self.logs.receive(node, canonical_json(AuditReport("s", 1, row))) for row in rows]

    def findings(self) -> list[str]:
        """What was found, without the times."""
        return [text.partition(": ")[2] for text in self.logs.findings("gw-1")]

    def problem(self, row: AuditRow) -> str:
        """The reason of the condition, the status saying that this row is the newest; empty for none."""
        head = AuditHead(chain=row.chain, sequence=row.sequence, hash=row_hash(row))
        self.logs.see_head("gw-1", head)
        return (self.logs.problem("gw-1", head) or ("", ""))[0]


def chain(count: int, name: str = "c", **fields: Any) -> list[AuditRow]:
    """A log as a node keeps it."""
    rows: list[AuditRow] = []
    previous = first_previous(name)
    for number in range(1, count + 1):
        known: dict[str, Any] = {
            "chain": name, "sequence": number, "time": "2027-01-15T08:00:00Z", "operator": "ann",
            "method": "logs", "target": "", "verdict": "allowed", "reason": "", "nonce": "",
            "previous": previous,
        }  # fmt: skip
        rows.append(AuditRow(**(known | fields)))
        previous = row_hash(rows[-1])
    return rows


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """A hub that has heard nothing yet."""
    return Hub(tmp_path)


def test_rows_in_order_are_kept_once(hub: Hub) -> None:
    assert hub.hear(*hub.rows[:3]) == [True] * 3
    assert hub.hear(*hub.rows[:3]) == [False] * 3
    assert hub.hear(*hub.rows[3:]) == [True] * 5
    assert hub.findings() == []
    found = hub.logs.result("gw-1", 3)
    assert (found.rows, found.head.sequence) == (hub.rows[5:], 8)
    assert hub.problem(hub.rows[7]) == ""


def test_a_gap_is_found_and_stays_until_it_is_acknowledged(hub: Hub) -> None:
    hub.hear(hub.rows[0], hub.rows[1], hub.rows[5], hub.rows[6])
    assert hub.findings() == ["rows 3 to 5 never came"]
    assert hub.problem(hub.rows[6]) == "Tampered"
    assert hub.logs.acknowledge("gw-1") == 1
    assert hub.problem(hub.rows[6]) == ""


def test_a_rewritten_log_is_found(hub: Hub) -> None:
    hub.hear(*hub.rows[:5])
    other = chain(8, operator="ben")
    hub.hear(other[5])
    assert hub.findings() == ["row 6 does not follow row 5 as it was told: it was rewritten"]
    hub.hear(other[2])
    assert hub.findings()[1] == "row 3 was told anew, as another one: the log was rewritten"


def test_a_head_with_another_hash_is_found(hub: Hub) -> None:
    hub.hear(*hub.rows[:5])
    assert hub.problem(chain(4, operator="ben")[3]) == "Tampered"
    assert hub.findings() == ["the node's row 4 is another than the one that it told: it was changed"]
    assert hub.problem(chain(4, operator="ben")[3]) == "Tampered"
    assert len(hub.findings()) == 1, "said once"


def test_rows_that_are_under_way_or_taken_back_show_for_as_long_as_that_lasts(hub: Hub) -> None:
    assert hub.problem(hub.rows[1]) == "RowsMissing"
    hub.hear(*hub.rows[:2])
    assert hub.problem(hub.rows[1]) == ""
    assert hub.problem(hub.rows[4]) == "RowsMissing"
    assert hub.problem(hub.rows[0]) == "CutBack"
    assert (hub.logs.problem("gw-1", AuditHead()) or ("", ""))[0] == "CutBack"
    hub.hear(*hub.rows[2:5])
    assert hub.problem(hub.rows[4]) == ""
    assert hub.findings() == []


def test_a_log_that_begins_anew_or_in_the_middle_is_found(hub: Hub) -> None:
    hub.hear(*hub.rows[2:4])
    assert hub.findings() == ["rows 1 to 2 were never told"]
    hub.hear(*chain(2, "d"))
    assert hub.findings()[1:] == ["another log begins with row 1, after row 4 of the one before"]
    assert hub.logs.head("gw-1").chain == "d"


def test_what_makes_no_sense_is_passed_over(hub: Hub) -> None:
    row = hub.rows[0]
    for payload in (
        b"", b"{", b"[" * 100_000, canonical_json({"stream": "s", "sequence": 1, "audit": {}}),
        *(
            canonical_json(AuditReport("s", 1, msgspec.structs.replace(row, **changes)))
            for changes in (
                {"sequence": 0}, {"sequence": 2**60}, {"previous": "x"}, {"chain": ""},
                {"operator": "o" * 1000}, {"reason": "r" * 20_000},
            )
        ),
    ):  # fmt: skip
        assert not hub.logs.receive("gw-1", payload)
    assert not hub.hear(row, node="gw-2")[0], "a node speaks for itself, and must be a member"
    assert (hub.logs.result("gw-1", 9).rows, hub.findings()) == ([], [])


def test_all_of_it_is_bounded(hub: Hub) -> None:
    with hub.store.transaction():
        for row in chain(MAX_NODE_ROWS + 5):
            hub.logs._take("gw-1", row)
        for number in range(MAX_FINDINGS + 5):
            hub.logs._find("gw-1", f"finding {number}")
    rows = hub.logs.result("gw-1", 10_000).rows
    assert (len(rows), rows[0].sequence) == (MAX_NODE_ROWS, 6)
    assert len(hub.findings()) == MAX_FINDINGS
    # One that was told long ago is no rewrite.
    assert hub.hear(chain(1)[0]) == [False]
    assert len(hub.findings()) == MAX_FINDINGS


def test_the_hubs_own_rows_are_a_chain_too(hub: Hub) -> None:
    for number in range(3):
        with hub.store.transaction():
            hub.logs.note("ann", "apply", f"pods/p{number}", "allowed", "", "n")
    rows = hub.logs.result(HUB, 10).rows
    assert [row.previous for row in rows] == [
        first_previous(rows[0].chain),
        row_hash(rows[0]),
        row_hash(rows[1]),
    ]
    with hub.store.transaction(dry_run=True):
        hub.logs.note("ann", "apply", "undone", "allowed", "", "n")
    assert len(hub.logs.result(HUB, 10).rows) == 3
