"""The node's store: atomic switches, damage, full disks, schema versions."""

import os
import sqlite3
from pathlib import Path

import pytest

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.node.store import database as database_module
from edgeagent.node.store.database import SCHEMA_VERSION, Database
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.pods import ContainerHistory, PodRecord, PodRecords
from tests.node.indexes import ANCHOR, SignedIndex, config_map, signed_index, simple_pod

NOW = 1_800_000_000.0


def opened(path: Path) -> tuple[Database, DesiredState]:
    database = Database(path, now=NOW)
    return database, DesiredState(database, now=NOW)


def switch(state: DesiredState, signed: SignedIndex) -> None:
    missing = {entry.digest for entry in state.missing(signed.index)}
    bodies = {name: body for name, body in signed.bodies.items() if name in missing}
    state.switch(signed.index, signed.digest, bodies, ANCHOR)


def test_what_was_switched_to_is_there_after_reopening(tmp_path: Path) -> None:
    database, state = opened(tmp_path / "agent.db")
    switch(state, signed_index(1, [simple_pod("a"), config_map("c", "1")]))
    switch(state, signed_index(2, [simple_pod("a"), config_map("c", "2")]))
    before = state.objects
    database.close()
    database, state = opened(tmp_path / "agent.db")
    assert state.generation == 2
    assert state.objects == before
    assert state.anchor == ANCHOR
    database.close()


def test_only_changed_objects_are_missing(tmp_path: Path) -> None:
    database, state = opened(tmp_path / "agent.db")
    many = [config_map(f"c{n}") for n in range(1000)]
    switch(state, signed_index(1, many))
    many[500] = config_map("c500", "changed")
    assert [entry.name for entry in state.missing(signed_index(2, many).index)] == ["c500"]
    database.close()


def test_a_body_that_is_not_what_the_index_names_changes_nothing(tmp_path: Path) -> None:
    database, state = opened(tmp_path / "agent.db")
    switch(state, signed_index(1, [simple_pod("a")]))
    bad = signed_index(2, [simple_pod("b")])
    (name,) = bad.bodies
    with pytest.raises(InvalidObjectError, match="digest"):
        state.switch(bad.index, bad.digest, {name: b'{"kind":"Pod"}'}, ANCHOR)
    assert (state.generation, list(state.entries)) == (1, ["uid-a"])
    database.close()


def test_a_full_disk_leaves_the_old_generation_whole(tmp_path: Path) -> None:
    database, state = opened(tmp_path / "agent.db")
    switch(state, signed_index(1, [simple_pod("a")]))
    [(pages,)] = database.rows("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {int(str(pages)) + 2}")
    large = [config_map(f"c{n}", os.urandom(3000).hex()) for n in range(30)]
    with pytest.raises(TemporaryError, match="disk is full") as raised:
        switch(state, signed_index(2, large))
    assert raised.value.reason == "DiskFull"
    assert state.generation == 1
    database.close()
    database, state = opened(tmp_path / "agent.db")
    assert (state.generation, list(state.entries)) == (1, ["uid-a"])
    switch(state, signed_index(2, large))
    assert state.generation == 2
    database.close()


@pytest.mark.parametrize("damage", ["noise", "cut", "empty-tail", "not-a-database"])
def test_a_damaged_file_is_set_aside_and_the_snapshot_used(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "agent.db"
    database, state = opened(path)
    switch(state, signed_index(7, [simple_pod("a"), *(config_map(f"c{n}", "x" * 500) for n in range(50))]))
    database.snapshot()
    database.close()
    data = bytearray(path.read_bytes())
    if damage == "noise":
        data[4096:] = os.urandom(len(data) - 4096)
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "empty-tail":
        data[4096:] = bytes(len(data) - 4096)
    else:
        data[:100] = b"this was a database once".ljust(100)
    path.write_bytes(data)
    database, state = opened(path)
    assert (state.generation, "uid-a" in state.entries) == (7, True)
    assert "snapshot" in database.recovered
    assert any(".corrupt-" in name.name for name in tmp_path.iterdir())
    database.close()


def test_damage_inside_an_object_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    database, state = opened(path)
    switch(state, signed_index(3, [simple_pod("a")]))
    database.snapshot()
    with database.durable() as connection:
        connection.execute("UPDATE object SET body = CAST(replace(body, 'image:1', 'image:2') AS BLOB)")
    database.close()
    database, state = opened(path)
    assert "digest" in database.recovered
    assert state.generation == 3
    database.close()


def test_damage_with_no_snapshot_starts_empty_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    path.write_bytes(os.urandom(10_000))
    database, state = opened(path)
    assert state.generation == 0
    assert "starts empty" in database.recovered
    database.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    database, _ = opened(path)
    with database.durable() as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(PermanentError, match=f"schema version {SCHEMA_VERSION + 1}"):
        Database(path, now=NOW)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)


def test_migration_goes_forward_and_keeps_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.db"
    database, state = opened(path)
    switch(state, signed_index(4, [simple_pod("a")]))
    database.close()
    steps = (*database_module.MIGRATIONS, ("ALTER TABLE pod_record ADD COLUMN extra TEXT",))
    monkeypatch.setattr(database_module, "MIGRATIONS", steps)
    monkeypatch.setattr(database_module, "SCHEMA_VERSION", len(steps))
    database, state = opened(path)
    assert state.generation == 4
    assert database.rows("SELECT extra FROM pod_record") == []
    database.close()
    copy = sqlite3.connect(tmp_path / f"agent.db.v{len(steps) - 1}")
    assert copy.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone() == ("4",)
    copy.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.db"
    database, state = opened(path)
    switch(state, signed_index(4, [simple_pod("a")]))
    database.close()
    steps = (*database_module.MIGRATIONS, ("CREATE TABLE half (a)", "ALTER TABLE absent ADD COLUMN b"))
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "MIGRATIONS", steps)
        patch.setattr(database_module, "SCHEMA_VERSION", len(steps))
        with pytest.raises(TemporaryError):
            Database(path, now=NOW)
    database, state = opened(path)
    assert state.generation == 4
    assert database.rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    database.close()


def test_the_outbox_keeps_order_and_its_budget(tmp_path: Path) -> None:
    database, _ = opened(tmp_path / "agent.db")
    outbox = Outbox(database, {"events": 1000})
    for number in range(30):
        outbox.append("events", b"%03d" % number * 33)
    kept = [item.body[:3] for item in outbox.first(100)]
    assert kept == [b"%03d" % number for number in range(20, 30)]
    assert outbox.dropped == 20
    stream, last = outbox.stream, outbox.first(100)[4].sequence
    outbox.remove(last)
    database.close()
    database, _ = opened(tmp_path / "agent.db")
    outbox = Outbox(database, {"events": 1000})
    assert outbox.stream == stream
    assert [item.body[:3] for item in outbox.first(2)] == [b"025", b"026"]
    outbox.append("events", b"new")
    assert outbox.first(100)[-1].sequence > last + 5
    database.close()


def test_an_item_may_take_the_place_of_one_that_waits(tmp_path: Path) -> None:
    database = Database(tmp_path / "agent.db", now=0)
    outbox = Outbox(database, {"events": 300, "audit": 300})
    first = outbox.append("events", bytes(100))
    audit = outbox.append("audit", bytes(100))
    for _ in range(20):
        first = outbox.append("events", bytes(150), instead_of=first)
    outbox.append("events", b"no other class's", instead_of=audit)
    assert [(item.name, len(item.body)) for item in outbox.first(9)] == [
        ("audit", 100), ("events", 150), ("events", 16),
    ]  # fmt: skip
    assert outbox.dropped == 0
    outbox.append("events", bytes(290), instead_of=first)
    assert [len(item.body) for item in outbox.first(9)] == [100, 290]
    assert outbox.dropped == 1
    assert Outbox(database, {"events": 300, "audit": 300})._bytes == outbox._bytes
    database.close()


def test_the_outbox_keeps_its_budget_after_deletes_that_failed(tmp_path: Path) -> None:
    database, _ = opened(tmp_path / "agent.db")
    outbox = Outbox(database, {"events": 1000})
    for _ in range(9):
        outbox.append("events", bytes(100))
    with database.batched() as connection:
        connection.execute(
            "CREATE TRIGGER broken BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    for _ in range(3):
        with pytest.raises((EdgeAgentError, sqlite3.Error)):
            outbox.remove(9)
        with pytest.raises((EdgeAgentError, sqlite3.Error)):
            outbox.append("events", bytes(200))
    assert outbox.dropped == 0
    with database.batched() as connection:
        connection.execute("DROP TRIGGER broken")
    for _ in range(50):
        outbox.append("events", bytes(100))
    assert database.rows("SELECT SUM(size) FROM outbox") == [(1000,)]
    outbox.remove(outbox.first(100)[-1].sequence)
    outbox.append("events", bytes(1000))
    assert len(outbox.first(2)) == 1
    database.close()


def test_sequences_are_never_used_twice(tmp_path: Path) -> None:
    database, _ = opened(tmp_path / "agent.db")
    outbox = Outbox(database)
    outbox.append("events", b"one")
    (first,) = outbox.first(1)
    outbox.remove(first.sequence)
    database.close()
    database, _ = opened(tmp_path / "agent.db")
    outbox = Outbox(database)
    outbox.append("events", b"two")
    assert outbox.first(1)[0].sequence == first.sequence + 1
    database.close()


def test_a_record_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    database, _ = opened(tmp_path / "agent.db")
    records = PodRecords(database)
    good = PodRecord(uid="u1", namespace="d", name="a", containers={"c": ContainerHistory(restart_count=3)})
    records.put(good)
    with database.durable() as connection:
        connection.execute("INSERT INTO pod_record VALUES ('u2', X'ff00')")
    assert PodRecords(database).by_uid == {"u1": good}
    database.close()


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    database, _ = opened(tmp_path / "state" / "agent.db")
    database.snapshot()
    for path in (database.path, database.snapshot_path):
        assert path.stat().st_mode & 0o777 == 0o600
    database.close()
