"""The audit log on disk: a chain that shows what was changed, in bounded space."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.objects.node import AuditHead
from edgeagent.node.store.audit import AuditLog
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Outbox
from edgeagent.wire.audit import AuditRow, first_previous, row_hash, walk

SEGMENT, SEGMENTS = 5, 3


class Kept:
    """A log in a file, of three segments of five rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        """As an agent that begins."""
        self.database = Database(self.folder / "agent.db", now=0.0)
        self.outbox = Outbox(self.database)
        self.log = AuditLog(self.database, self.outbox, segment_rows=SEGMENT, max_segments=SEGMENTS)

    def reopen(self) -> None:
        """The agent ends and begins."""
        self.database.close()
        self.open()

    def add(self, count: int) -> None:
        """Operations."""
        for _ in range(count):
            number = self.log.head.sequence + 1
            self.log.append("ann", "logs", f"pods/log/shop/p{number}", "allowed", "", f"nonce-{number}", 1e9)

    def change(self, statement: str, *values: object) -> None:
        """Whoever has the disk."""
        with self.database.durable() as connection:
            connection.execute(statement, values)


def test_rows_follow_each_other_and_outlive_the_agent(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert (kept.log.head.sequence, kept.log.check(), kept.log.newest(9)) == (0, "", [])
    kept.add(3)
    rows = kept.log.newest(9)
    assert [row.sequence for row in rows] == [1, 2, 3]
    assert rows[0].previous == first_previous(rows[0].chain)
    assert [row.previous for row in rows[1:]] == [row_hash(row) for row in rows[:-1]]
    assert kept.log.head == AuditHead(chain=rows[0].chain, sequence=3, hash=row_hash(rows[-1]))
    head = kept.log.head
    kept.reopen()
    assert (kept.log.head, kept.log.fault) == (head, "")
    assert (kept.log.seen("nonce-2"), kept.log.seen("nonce-9")) == (True, False)
    assert [row.sequence for row in kept.log.newest(2)] == [2, 3]


def test_every_row_is_for_the_hub_in_order(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add(3)
    items = kept.outbox.first(10)
    assert [item.name for item in items] == ["audit"] * 3
    assert [msgspec.json.decode(item.body, type=AuditRow) for item in items] == kept.log.newest(3)


def test_whole_segments_go_and_what_stays_can_be_checked_from_the_anchor(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add(SEGMENT * SEGMENTS)
    rows = kept.log.newest(99)
    assert len(rows) == 15
    kept.add(1)
    assert [row.sequence for row in kept.log.newest(99)] == list(range(6, 17))
    assert (kept.log.anchor.sequence, kept.log.anchor.hash) == (5, row_hash(rows[4]))
    assert kept.log.check() == ""
    kept.reopen()
    assert kept.log.fault == ""
    kept.add(100)
    assert SEGMENT * (SEGMENTS - 1) < len(kept.log.newest(999)) <= SEGMENT * SEGMENTS
    kept.reopen()
    assert (kept.log.fault, kept.log.head.sequence) == ("", 116)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "UPDATE audit SET body = CAST(replace(body, 'ann', 'bob') AS BLOB) WHERE sequence = 4",
            "row 5 does not follow what is before it",
        ),
        (
            "UPDATE audit SET body = (SELECT body FROM audit WHERE sequence = 2) WHERE sequence = 4",
            "row 4 does not follow what is before it",
        ),
        ("UPDATE audit SET body = 'noise' WHERE sequence = 4", "row 4 does not follow what is before it"),
        ("DELETE FROM audit WHERE sequence = 4", "row 4 is missing: row 5 comes next"),
        ("DELETE FROM audit WHERE sequence = 1", "row 1 is missing: row 2 comes next"),
    ],
)  # fmt: skip
def test_a_change_shows_at_once_and_when_the_agent_begins(tmp_path: Path, statement: str, fault: str) -> None:
    kept = Kept(tmp_path)
    kept.add(8)
    kept.change(statement)
    assert fault in kept.log.check()
    kept.reopen()
    assert fault in kept.log.fault
    kept.add(1)
    assert fault in kept.log.check(), "and is not covered up by what comes after"


@pytest.mark.parametrize("statement", ["DELETE FROM meta", "UPDATE meta SET value = '?'"])
def test_a_lost_anchor_shows(tmp_path: Path, statement: str) -> None:
    kept = Kept(tmp_path)
    kept.add(3)
    kept.change(f"{statement} WHERE key = 'audit_anchor'")
    kept.reopen()
    assert "row 1 is of another log" in kept.log.fault
    kept.add(1)
    assert kept.log.head.sequence == 4


def test_a_log_that_nothing_can_be_read_of_goes_on(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add(2)
    chain = kept.log.head.chain
    kept.change("UPDATE meta SET value = '?' WHERE key = 'audit_anchor'")
    kept.change("UPDATE audit SET body = 'noise'")
    kept.reopen()
    kept.add(1)
    assert (kept.log.head.sequence, kept.log.head.chain not in ("", chain)) == (3, True)
    kept.reopen()
    assert kept.log.fault


def test_taking_the_last_row_away_shows_in_the_head(tmp_path: Path) -> None:
    """Only somebody who remembers the head can tell: the running agent does, and the hub."""
    kept = Kept(tmp_path)
    kept.add(3)
    kept.change("DELETE FROM audit WHERE sequence = 3")
    assert kept.log.check() == "row 2 is the last one, but the log had come to row 3"


def test_a_changed_last_row_gives_another_head(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add(3)
    before = kept.log.head
    kept.change("UPDATE audit SET body = CAST(replace(body, 'ann', 'bob') AS BLOB) WHERE sequence = 3")
    kept.reopen()
    assert (kept.log.fault, kept.log.head.sequence) == ("", 3)
    assert kept.log.head.hash != before.hash


def test_texts_of_any_length_are_bounded(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    row = kept.log.append(
        "o" * 10_000, "m" * 10_000, "t" * 10_000, "refused", "r" * 10_000, "n" * 10_000, 0.0
    )
    assert len(msgspec.json.encode(row)) < 4_000
    assert kept.log.check() == ""


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=5), st.sampled_from(["allowed", "refused"])), min_size=1, max_size=8),
    st.data(),
)
def test_no_row_can_be_changed_unseen(operations: list[tuple[str, str]], data: st.DataObject) -> None:
    rows: list[AuditRow] = []
    previous = first_previous("c")
    for number, (operator, verdict) in enumerate(operations, 1):
        row = AuditRow(
            chain="c", sequence=number, time="", operator=operator, method="logs", target="",
            verdict=verdict, reason="", nonce="", previous=previous,  # type: ignore[arg-type]
        )  # fmt: skip
        rows.append(row)
        previous = row_hash(row)
    anchor = AuditHead(chain="c", hash=first_previous("c"))
    head, fault = walk(anchor, rows)
    assert (head, fault) == (AuditHead(chain="c", sequence=len(rows), hash=previous), "")
    place = data.draw(st.integers(0, len(rows) - 1))
    changed = msgspec.structs.replace(rows[place], operator=rows[place].operator + "x")
    other = [*rows[:place], changed, *rows[place + 1 :]]
    assert walk(anchor, other) != (head, "")
    assert walk(anchor, [*rows[:place], *rows[place + 1 :]]) != (head, "")
