"""Events at the hub: repeats are added up over restarts and outages, and bounded by number and age."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.objects.base import ObjectMeta, ObjectReference
from edgeagent.api.objects.event import Event
from edgeagent.cluster.events import (
    EVENT_SECONDS,
    MAX_COUNT,
    MAX_EVENTS,
    MAX_EVENTS_PER_NODE,
    MAX_STREAMS_PER_NODE,
    EventLog,
)
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.store import MIGRATIONS, Store
from edgeagent.node.events import EventRecorder
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Item, Outbox
from edgeagent.testing.clock import ManualClock

WEB = ObjectReference(kind="Pod", namespace="default", name="web", uid="u1")


def event(
    name: str, message: str = "", *, count: int = 1, at: str = "2026-01-01T00:00:00Z", **more: Any
) -> Event:
    return Event(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="default"),
        involved_object=more.pop("about", WEB),
        reason=more.pop("reason", "BackOff"),
        message=message,
        count=count,
        first_timestamp=more.pop("first", at),
        last_timestamp=at,
        **more,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "hub.db", create=True)
    made._db.execute("PRAGMA synchronous = OFF")
    return made


def test_repeats_after_a_restart_of_the_agent_are_the_same_event(store: Store) -> None:
    log = EventLog(store, ManualClock())
    key = log.add("gw-1", "s", 1, event("web.1", "again"))
    assert key == ("default", "web.1")
    log.add(
        "gw-1",
        "s",
        3,
        event("web.1", "again", count=3, first="2026-01-01T00:00:00Z", at="2026-01-01T00:05:00Z"),
    )
    # The agent was started anew: another name, and a count that begins with 1.
    assert log.add("gw-1", "s", 4, event("web.2", "again", at="2026-01-01T02:00:00Z")) == key
    assert log.add("gw-1", "s", 5, event("web.2", "again", count=2, at="2026-01-01T03:00:00Z")) == key
    [one] = log.select()
    assert (one.metadata.name, one.count) == ("web.1", 5)
    assert (one.first_timestamp, one.last_timestamp) == ("2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z")
    log.add("gw-1", "s", 6, event("web.3", "again", at="2026-01-01T04:00:00Z"))
    assert [one.count for one in log.select()] == [6]
    store.close()


@pytest.mark.parametrize(
    "other",
    [
        event("web.2", "another message"),
        event("web.2", "again", reason="Started"),
        event("web.2", "again", type="Warning"),
        event("web.2", "again", about=msgspec.structs.replace(WEB, uid="u2")),
        event("web.2", "again", about=msgspec.structs.replace(WEB, field_path="spec.containers{a}")),
    ],
)
def test_what_differs_in_more_than_time_is_another_event(store: Store, other: Event) -> None:
    log = EventLog(store, ManualClock())
    log.add("gw-1", "s", 1, event("web.1", "again"))
    log.add("gw-1", "s", 2, other)
    assert [one.count for one in log.select()] == [1, 1]
    store.close()


def test_what_comes_twice_counts_once_and_another_stream_is_another(store: Store) -> None:
    log = EventLog(store, ManualClock())
    assert log.add("gw-1", "s", 7, event("web.1"))
    assert log.add("gw-1", "s", 7, event("web.1")) is None
    assert log.add("gw-1", "s", 6, event("web.0")) is None
    assert log.add("gw-2", "s", 7, event("web.9"))
    assert log.add("gw-1", "t", 1, event("web.1", "begun anew"))
    for number in range(MAX_STREAMS_PER_NODE * 2):
        log.add("gw-1", f"more-{number}", 1, event(f"web.m{number}", str(number)))
    [[streams]] = store.execute("SELECT count(*) FROM event_streams WHERE node = 'gw-1'")
    assert streams == MAX_STREAMS_PER_NODE
    store.close()


def test_no_node_takes_the_place_of_another_ones_event(store: Store) -> None:
    log = EventLog(store, ManualClock())
    assert log.add("gw-1", "s", 1, event("web.1", "true")) == ("default", "web.1")
    key = log.add("gw-2", "s", 1, event("web.1", "false"))
    assert key is not None
    assert key != ("default", "web.1")
    assert log.add("gw-2", "s", 2, event("web.1", "false", count=2)) == key
    assert [(one.message, one.count) for one in log.select()] == [("true", 1), ("false", 2)]
    assert [one.message for one in log.select("default", "web.1")] == ["true"]
    store.close()


def test_an_event_under_the_same_name_with_other_words_is_that_event_changed(store: Store) -> None:
    log = EventLog(store, ManualClock())
    log.add("gw-1", "s", 1, event("web.1", "1 of 2"))
    log.add("gw-1", "s", 2, event("web.1", "2 of 2", count=2))
    assert [(one.message, one.count) for one in log.select()] == [("2 of 2", 2)]
    store.close()


def test_what_was_told_of_longest_ago_goes_first(store: Store) -> None:
    clock = ManualClock()
    log = EventLog(store, clock)
    log.add("quiet", "s", 1, event("quiet.1", "quiet"))
    log.add("loud", "s", 1, event("loud.first", "said again and again"))
    for number in range(MAX_EVENTS_PER_NODE + 50):
        log.add("loud", "s", 2 * number + 2, event(f"loud.{number}", str(number)))
        log.add("loud", "s", 2 * number + 3, event("loud.first", "said again and again", count=number + 2))
    kept = log.select("default")
    assert len(kept) == MAX_EVENTS_PER_NODE + 1
    assert kept[0].message == "quiet"
    assert kept[-1].count == MAX_EVENTS_PER_NODE + 51
    assert "0" not in {one.message for one in kept}
    store.close()


def test_all_nodes_together_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_EVENTS >= MAX_EVENTS_PER_NODE
    monkeypatch.setattr("edgeagent.cluster.events.MAX_EVENTS", 20)
    log = EventLog(store, ManualClock())
    for number in range(30):
        log.add(f"gw-{number}", "s", 1, event(f"web.{number}", str(number)))
    assert [one.message for one in log.select()] == [str(number) for number in range(10, 30)]
    store.close()


def test_events_age_by_when_they_were_told_of_last_though_nothing_happens(store: Store) -> None:
    clock = ManualClock()
    log = EventLog(store, clock)
    log.add("gw-1", "s", 1, event("web.1", "once"))
    log.add("gw-1", "s", 2, event("web.2", "again"))
    clock.set_wall_clock(EVENT_SECONDS / 2)
    log.add("gw-1", "s", 3, event("web.3", "again"))
    clock.set_wall_clock(EVENT_SECONDS / 2 + 1)
    assert [(one.message, one.count) for one in log.select()] == [("again", 2)]
    clock.set_wall_clock(EVENT_SECONDS)
    assert log.select() == []
    log.add("gw-2", "s", 1, event("other.1"))
    assert store.execute("SELECT count(*) FROM events") == [(1,)]
    assert store.execute("SELECT node FROM event_streams") == [("gw-2",)]
    store.close()


def test_they_are_found_by_the_object_that_they_are_about(store: Store) -> None:
    log = EventLog(store, ManualClock())
    log.add("gw-1", "s", 1, event("web.1"))
    log.add("gw-1", "s", 2, event("gw-1.1", about=ObjectReference(kind="Node", name="gw-1")))
    log.add("gw-1", "s", 3, event("web.2", about=ObjectReference(kind="Node", name="web")))
    assert [one.metadata.name for one in log.select(about_kind="Pod", about_name="web")] == ["web.1"]
    assert [one.metadata.name for one in log.select(about_kind="Node")] == ["gw-1.1", "web.2"]
    assert log.select("other", about_name="web") == []
    store.close()


@pytest.mark.parametrize("count", [0, -5, 2**31, 2**62])
def test_a_count_that_no_event_can_have_is_bounded(store: Store, count: int) -> None:
    log = EventLog(store, ManualClock())
    log.add("gw-1", "s", 1, event("web.1", count=count))
    log.add("gw-1", "s", 2, event("web.2", count=count))
    assert 1 <= log.select()[0].count <= MAX_COUNT
    store.close()


@pytest.mark.parametrize("sequence", [-1, 2**63, 10**30])
def test_a_sequence_out_of_range_changes_nothing(store: Store, sequence: int) -> None:
    observer = Observer(
        store, ManualClock(), on_change=lambda *_: None, on_gone=lambda *_: None, on_node=lambda _: None
    )
    text = json.dumps(
        {"stream": "s", "sequence": sequence, "event": json.loads(msgspec.json.encode(event("web.1")))}
    )
    observer.receive("gw-1", ["events"], text.encode())
    observer.receive("gw-1", ["events"], text.replace('"s"', f'"{"s" * 100}"').encode())
    assert observer.events.select() == []
    observer.receive("gw-1", ["events"], text.replace(f'"sequence": {sequence}', '"sequence": 1').encode())
    assert len(observer.events.select()) == 1
    store.close()


def test_events_of_an_older_hub_are_kept_and_go_on(tmp_path: Path) -> None:
    before = Store(tmp_path / "hub.db", create=True, migrations=MIGRATIONS[:-1])
    with before.transaction():
        for sequence, (node, name, count) in enumerate(
            [("gw-1", "web.1", 1), ("gw-1", "web.1", 2), ("gw-2", "other.1", 1)], start=1
        ):
            before.execute(
                "INSERT INTO events (node, stream, sequence, namespace, name, seen, body)"
                " VALUES (?, 's', ?, 'default', ?, 1799999000.0, ?)",
                (node, sequence, name, msgspec.json.encode(event(name, "again", count=count))),
            )
    before.close()
    store = Store(tmp_path / "hub.db")
    log = EventLog(store, ManualClock())
    assert [(one.metadata.name, one.count) for one in log.select()] == [("web.1", 2), ("other.1", 1)]
    assert [one.count for one in log.select(about_kind="Pod", about_name="web")] == [2, 1]
    assert log.add("gw-1", "s", 2, event("web.1", "again", count=2)) is None
    assert log.add("gw-1", "s", 3, event("web.1", "again", count=3)) == ("default", "web.1")
    assert log.add("gw-1", "s", 4, event("web.7", "again")) == ("default", "web.1")
    assert [one.count for one in log.select()] == [1, 4]
    store.close()


class _Node:
    """An agent's recorder and outbox, started anew at will, and a hub that may be out of reach."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.database = Database(directory / "agent.db", now=self.clock.now())
        self.store = Store(directory / "hub.db", create=True)
        self.store._db.execute("PRAGMA synchronous = OFF")
        self.observer = self._observer()
        self.said: dict[str, int] = {}
        self.start()

    def _observer(self) -> Observer:
        return Observer(
            self.store, self.clock, on_change=lambda *_: None, on_gone=lambda *_: None, on_node=lambda _: None
        )

    def start(self) -> None:
        self.outbox = Outbox(self.database)
        self.recorder = EventRecorder(
            node="gw-1", outbox=self.outbox, clock=self.clock, rng=random.Random(1), on_append=lambda: None
        )

    def restart_hub(self) -> None:
        self.observer = self._observer()

    def record(self, reason: str) -> None:
        self.clock.set_wall_clock(1.0)
        self.recorder.record(WEB, "Normal", reason, "message")
        self.said[reason] = self.said.get(reason, 0) + 1

    def deliver(self, *, forget: bool) -> None:
        """Everything that waits; with ``forget`` False the acknowledgement is lost: it comes again."""
        items: list[Item] = self.outbox.first(1000)
        for item in items:
            found = json.loads(item.body)
            report = {"stream": self.outbox.stream, "sequence": item.sequence, "event": found}
            self.observer.receive("gw-1", ["events"], json.dumps(report).encode())
        if items and forget:
            self.outbox.remove(items[-1].sequence)


_STEPS = st.lists(
    st.sampled_from(
        ["Pulled", "Started", "BackOff", "deliver", "lost acknowledgement", "restart", "hub restart"]
    ),
    max_size=30,
)


@given(steps=_STEPS)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_each_event_is_counted_as_often_as_it_happened(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    node = _Node(tmp_path_factory.mktemp("events"))
    for step in steps:
        match step:
            case "deliver":
                node.deliver(forget=True)
            case "lost acknowledgement":
                node.deliver(forget=False)
            case "restart":
                node.start()
            case "hub restart":
                node.restart_hub()
            case reason:
                node.record(reason)
    node.deliver(forget=True)
    kept = node.observer.events.select()
    assert {one.reason: one.count for one in kept} == node.said
    assert all(one.first_timestamp <= one.last_timestamp for one in kept)
    node.store.close()
    node.database.close()
