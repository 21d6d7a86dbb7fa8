"""The spool on a real file: budgets, cursors, positions, crashes, damage, and a disk that is full."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edgeagent.api.errors import TemporaryError
from edgeagent.node.store.spool import Chunk, Part, Spool, Usage

BUDGETS = {"logs": 1000, "metrics": 500}


def opened(path: Path, *, boot_id: str = "b1") -> Spool:
    return Spool(path, BUDGETS, boot_id=boot_id, now=1_800_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


def drained(spool: Spool, name: str, first: int = 0) -> list[Chunk]:
    found = []
    while (chunk := spool.after(name, first)) is not None:
        found.append(chunk)
        first = chunk.next
    return found


class Kept(NamedTuple):
    """A chunk as the model has it."""

    first: int
    items: int
    body: bytes


class SpoolMachine(RuleBasedStateMachine):
    """Against a model: a list by class, cursors, positions."""

    path: Path

    def __init__(self) -> None:
        super().__init__()
        self.chunks: dict[str, list[Kept]] = {"logs": [], "metrics": []}
        self.next = {"logs": 0, "metrics": 0}
        self.dropped = {"logs": 0, "metrics": 0}
        self.cursors: dict[str, dict[str, int]] = {"logs": {}, "metrics": {}}
        self.positions: dict[str, str] = {}

    @initialize()
    def begin(self) -> None:
        """An empty spool."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.spool = opened(self.path)
        self.stream = self.spool.stream

    def teardown(self) -> None:
        """Close it."""
        if hasattr(self, "spool"):
            self.spool.close()

    @rule(
        name=st.sampled_from(["logs", "metrics"]),
        size=st.integers(1, 600),
        items=st.integers(1, 5),
        positions=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]), max_size=2),
    )
    def append(self, name: str, size: int, items: int, positions: dict[str, str]) -> None:
        """A chunk, with positions."""
        body = bytes([items]) * size
        first = self.spool.append(name, body, items, 5.0, source="s", positions=positions)
        assert first == self.next[name]
        kept = self.chunks[name]
        while kept and sum(len(one.body) for one in kept) + size > BUDGETS[name]:
            self.dropped[name] += kept.pop(0).items
        kept.append(Kept(first, items, body))
        self.next[name] += items
        self.positions.update(positions)
        self.positions = {key: value for key, value in self.positions.items() if value}

    @rule(name=st.sampled_from(["logs", "metrics"]), sinks=st.sets(st.sampled_from("xyz"), min_size=1))
    def set_sinks(self, name: str, sinks: set[str]) -> None:
        """Other sinks."""
        self.spool.set_sinks(name, sinks)
        old = self.cursors[name]
        self.cursors[name] = {sink: old.get(sink, 0) for sink in sinks}
        if old.keys() != sinks:
            self.forget(name)

    @rule(data=st.data(), name=st.sampled_from(["logs", "metrics"]))
    def deliver(self, data: st.DataObject, name: str) -> None:
        """A sink gets what is next."""
        if not self.cursors[name]:
            return
        sink = data.draw(st.sampled_from(sorted(self.cursors[name])))
        chunks = self.spool.run_after(name, self.cursors[name][sink], data.draw(st.integers(0, 700)))
        waiting = [one for one in self.chunks[name] if one.first >= self.cursors[name][sink]]
        assert [(one.first, one.items, one.body) for one in chunks] == waiting[: len(chunks)]
        assert bool(chunks) == bool(waiting)
        if chunks:
            self.spool.advance(name, sink, chunks[-1].next)
            self.cursors[name][sink] = chunks[-1].next
            self.forget(name)

    def forget(self, name: str) -> None:
        """What all sinks have."""
        before = min(self.cursors[name].values())
        self.chunks[name] = [one for one in self.chunks[name] if one.first + one.items > before]

    @rule(boot=st.sampled_from(["b1", "b2"]))
    def crash_and_open(self, boot: str) -> None:
        """The connection is dropped as a killed program drops it: nothing is closed in order."""
        self.spool.close()
        self.spool = opened(self.path, boot_id=boot)
        self.dropped = {"logs": 0, "metrics": 0}

    @invariant()
    def is_as_the_model(self) -> None:
        """Everything that can be asked."""
        for name, kept in self.chunks.items():
            found = drained(self.spool, name)
            assert [(one.first, one.items, one.body) for one in found] == kept
            usage = self.spool.usage(name)
            assert (usage.chunks, usage.bytes, usage.items) == (
                len(kept), sum(len(one.body) for one in kept), sum(one.items for one in kept),
            )  # fmt: skip
            assert usage.bytes <= max(BUDGETS[name], max((len(one.body) for one in kept), default=0))
            assert self.spool.dropped[name] == self.dropped[name]
            assert self.spool.sinks(name) == self.cursors[name]
        assert self.spool.positions("s") == self.positions


def test_the_spool_does_as_a_list_would(path: Path) -> None:
    SpoolMachine.path = path
    run_state_machine_as_test(SpoolMachine, settings=settings(max_examples=40, stateful_step_count=30))


def test_of_a_group_the_class_that_holds_most_gives_way(path: Path) -> None:
    spool = opened(path)
    for name in ("logs", "logs/1", "logs/2"):
        spool.set_sinks(name, {"x"})
    size = BUDGETS["logs"] // 10
    for n in range(3):
        spool.append_all(
            [Part("logs", bytes([n]) * size, 1), Part("logs/1", bytes([n]) * (2 * size), 2)],
            5.0,
            group="logs",
        )
    assert spool.held("logs") == Usage(6, 9 * size, 9)
    spool.append("logs/2", b"x" * (3 * size), 4, 5.0, source="s", positions={"c": "1"})
    assert [len(drained(spool, name)) for name in ("logs", "logs/1", "logs/2")] == [3, 2, 1]
    assert spool.held("logs") == Usage(6, 10 * size, 11)
    assert (spool.dropped["logs"], spool.dropped["logs/1"]) == (2, 0)
    assert [spool.next(name) for name in ("logs", "logs/1", "logs/2", "logs/3")] == [3, 6, 4, 0]
    spool.close()
    again = opened(path)
    assert again.held("logs") == Usage(6, 10 * size, 11)
    assert again.next("logs/1") == 6
    again.close()


def test_chunks_of_several_classes_are_kept_together_or_not_at_all(path: Path) -> None:
    spool = opened(path)
    spool.set_sinks("logs", {"x"})
    twice = [Part("logs", b"a", 1), Part("logs", b"b", 1)]
    with pytest.raises(TemporaryError):
        spool.append_all(twice, 5.0, group="logs", source="s", positions={"c": "1"})
    assert drained(spool, "logs") == []
    assert spool.positions("s") == {}
    assert (spool.next("logs"), spool.held("logs")) == (0, Usage())
    spool.close()


def test_a_stream_lives_as_long_as_the_boot(path: Path) -> None:
    first = opened(path)
    stream = first.stream
    first.close()
    again = opened(path)
    assert again.stream == stream
    again.close()
    after_a_power_cut = opened(path, boot_id="b2")
    assert after_a_power_cut.stream != stream
    after_a_power_cut.close()


def test_a_killed_program_loses_no_chunk_and_no_position(path: Path) -> None:
    """The file is copied as it lies while the connection is open: what a kill leaves."""
    spool = opened(path)
    spool.set_sinks("logs", {"x"})
    spool.append("logs", b"one", 1, 5.0, source="s", positions={"c": "10"})
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    spool.close()
    found = opened(copy)
    assert [one.body for one in drained(found, "logs")] == [b"one"]
    assert found.positions("s") == {"c": "10"}
    found.close()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "noise": lambda body: b"no database" * (len(body) // 11),
    "cut short": lambda body: body[:5000],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_moved_aside(path: Path, damage: Callable[[bytes], bytes]) -> None:
    spool = opened(path)
    for _ in range(3):
        spool.append("logs", b"x" * 300, 1, 5.0)
    spool.close()
    Path(f"{path}-wal").unlink(missing_ok=True)
    path.write_bytes(damage(path.read_bytes()))
    found = opened(path)
    assert drained(found, "logs") == []
    assert found.append("logs", b"new", 1, 5.0) == 0
    assert found.stream
    assert len(list(path.parent.glob("telemetry.db.corrupt-*"))) >= 1
    found.close()


def test_without_a_sink_nothing_is_kept(path: Path) -> None:
    spool = opened(path)
    spool.set_sinks("logs", {"x"})
    spool.append("logs", b"one", 1, 5.0)
    spool.set_sinks("logs", set())
    assert drained(spool, "logs") == []
    assert spool.usage("logs").bytes == 0
    spool.close()


def test_what_a_backlog_took_is_given_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    spool = Spool(path, {"logs": 100_000_000}, boot_id="b", now=5.0)
    spool.set_sinks("logs", {"x"})
    for _ in range(40):
        spool.append("logs", bytes(200_000), 1, 5.0)
    spool.close()
    spool = Spool(path, {"logs": 100_000_000}, boot_id="b", now=5.0)
    full = path.stat().st_size
    assert full > 8_000_000
    spool.advance("logs", "x", 40)
    spool.close()
    assert path.stat().st_size < 1_000_000
