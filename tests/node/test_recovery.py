"""What keeps a damaged, full or older store from costing a pod."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.lock import NodeLock
from edgeagent.node.store import database as database_module
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import Change, DesiredState
from edgeagent.node.store.outbox import GAP, Outbox
from edgeagent.node.sync.desired import DesiredSync
from edgeagent.node.sync.fetch import ObjectFetcher
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import digest
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.topics import Topics
from tests.node.indexes import (
    ANCHOR,
    CLUSTER,
    NODE,
    FixedRandom,
    SignedIndex,
    config_map,
    signed_index,
    simple_pod,
)
from tests.node.test_sync_machine import Shelf

NOW = 1_800_000_000.0


def switch(state: DesiredState, signed: SignedIndex) -> None:
    state.switch(signed.index, signed.digest, signed.bodies, ANCHOR)


def damaged(path: Path, generation: int = 3) -> None:
    """A store with a snapshot, and noise where its pages were."""
    database = Database(path, now=NOW)
    switch(DesiredState(database, now=NOW), signed_index(generation, [simple_pod("a")]))
    database.snapshot()
    database.close()
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(20_000))


def test_a_kill_between_setting_aside_and_restoring_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.db"
    damaged(path)
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(database_module, "_replace_by_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            Database(path, now=NOW)
    database = Database(path, now=NOW)
    assert DesiredState(database, now=NOW).generation == 3
    database.close()


def test_a_snapshot_as_damaged_as_the_store_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    damaged(path)
    snapshot = path.with_name("agent.db.snapshot")
    snapshot.write_bytes(os.urandom(9000))
    database = Database(path, now=NOW)
    assert DesiredState(database, now=NOW).generation == 0
    assert "damaged too" in database.recovered
    database.close()


def test_few_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    for number in range(5):
        path.write_bytes(os.urandom(5000))
        Database(path, now=NOW + number).close()
    assert len(list(tmp_path.glob("agent.db.corrupt-*[0-9]"))) == database_module.KEPT_ASIDE


def test_an_object_that_this_program_cannot_read_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "agent.db", now=NOW)
    switch(DesiredState(database, now=NOW), signed_index(3, [simple_pod("a"), simple_pod("b")]))
    body = b'{"kind":"Pod","from":"a later edgeagent"}'
    with database.durable() as connection:
        connection.execute("INSERT INTO object VALUES (?, ?)", (digest(body), body))
        connection.execute(
            "UPDATE desired SET digest = ?, size = ? WHERE uid = 'uid-a'", (digest(body), len(body))
        )
    state = DesiredState(database, now=NOW)
    assert (state.generation, set(state.objects), set(state.unreadable)) == (3, {"uid-b"}, {"uid-a"})
    assert database.recovered == ""
    database.close()


def test_an_old_snapshot_counts_once_the_hub_has_confirmed_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    damaged(path)
    database = Database(path, now=NOW)
    state = DesiredState(database, now=NOW)
    before = state.confirmed
    shelf, switched = Shelf(), list[Change]()
    sync = DesiredSync(
        cluster=CLUSTER, node=NODE, pinned=ANCHOR, desired=state,
        fetcher=ObjectFetcher(Topics(CLUSTER), shelf, patience=1), clock=SystemClock(), rng=FixedRandom(),
        on_switch=switched.append, on_problem=lambda: None,
    )  # fmt: skip
    asyncio.run(sync.accept(signed_index(3, [simple_pod("a")]).payload))
    assert (before, state.confirmed, switched) == (False, True, [Change()])
    database.close()


def test_another_enrolment_begins_at_generation_zero_and_keeps_the_pods(tmp_path: Path) -> None:
    database = Database(tmp_path / "agent.db", now=NOW)
    state = DesiredState(database, now=NOW)
    state.adopt_origin("first")
    switch(state, signed_index(7, [simple_pod("a")]))
    state.adopt_origin("first")
    assert state.generation == 7
    state.adopt_origin("second")
    assert (state.generation, set(state.objects), state.anchor) == (0, {"uid-a"}, None)
    database.close()


def test_the_pinned_key_of_a_new_enrolment_wins_over_the_stored_one(tmp_path: Path) -> None:
    database = Database(tmp_path / "agent.db", now=NOW)
    state = DesiredState(database, now=NOW)
    switch(state, signed_index(1, []))
    other = TrustAnchor(cluster=CLUSTER, serial=1, key=SigningKey(bytes(32)).public.raw)
    sync = DesiredSync(
        cluster=CLUSTER, node=NODE, pinned=other, desired=state,
        fetcher=ObjectFetcher(Topics(CLUSTER), Shelf(), patience=1), clock=SystemClock(), rng=FixedRandom(),
        on_switch=lambda change: None, on_problem=lambda: None,
    )  # fmt: skip
    assert sync.anchor == other
    database.close()


def test_sequences_leave_a_gap_after_a_power_cut(tmp_path: Path) -> None:
    database = Database(tmp_path / "agent.db", now=NOW)
    outbox = Outbox(database)
    outbox.append("events", b"one")
    outbox.skip_ahead()
    outbox.append("events", b"two")
    first, second = outbox.first(2)
    assert second.sequence == first.sequence + GAP + 1
    database.close()


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    lock = NodeLock(tmp_path / "agent.lock")
    with pytest.raises(PermanentError, match="another edgeagent runs"):
        NodeLock(tmp_path / "agent.lock")
    lock.release()
    NodeLock(tmp_path / "agent.lock").release()


def fill(path: Path) -> None:
    """Take what room there is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with pytest.raises(OSError, match="No space"):
            write_on(descriptor)
    finally:
        os.close(descriptor)


def write_on(descriptor: int) -> None:
    """Without end."""
    while True:
        os.write(descriptor, bytes(512))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True, timeout=10)
    yield path
    subprocess.run(["umount", str(path)], check=True, timeout=10)


def test_a_disk_without_room_for_anything_still_gives_its_pods(small_disk: Path, tmp_path: Path) -> None:
    path, spare = small_disk / "agent.db", tmp_path / "run" / "agent.db"
    database = Database(path, now=NOW)
    state = DesiredState(database, now=NOW)
    switch(state, signed_index(2, [simple_pod("a"), config_map("c")]))
    database.close()
    filler = small_disk / "filler"
    fill(filler)
    database = Database(path, now=NOW, spare=spare)
    state = DesiredState(database, now=NOW)
    assert (state.generation, set(state.objects)) == (2, {"uid-a", "uid-c"})
    with pytest.raises(TemporaryError, match="full") as raised:
        switch(state, signed_index(3, [simple_pod("b")]))
    assert raised.value.reason == "DiskFull"
    filler.unlink()
    switch(state, signed_index(3, [simple_pod("b")]))
    assert not spare.exists()
    database.close()
    database = Database(path, now=NOW, spare=spare)
    assert DesiredState(database, now=NOW).generation == 3
    database.close()
