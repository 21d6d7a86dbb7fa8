"""Events: said once, counted when they repeat, never in the way of what they tell of."""

import asyncio
import random
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.event import Event
from edgeagent.node.events import REMEMBERED, EventRecorder
from edgeagent.node.store.database import CorruptError, Database
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.streams.events import EventsService
from edgeagent.node.streams.service import StreamRequest
from edgeagent.testing.clock import ManualClock, settle
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.localevents import EVENTS, EventsParams
from tests.cli.channelpair import served

ABOUT = ObjectReference(kind="Pod", namespace="default", name="a", uid="u1")


class Recording:
    """A recorder with its outbox."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.database = Database(directory / "agent.db", now=0)
        self.outbox = Outbox(self.database)
        self.appended = 0
        self.recorder = EventRecorder(
            node="n1", outbox=self.outbox, clock=self.clock, rng=random.Random(1), on_append=self._append
        )

    def _append(self) -> None:
        self.appended += 1

    def events(self) -> list[Event]:
        """Everything in the outbox."""
        return [decode_json(item.body, Event) for item in self.outbox.first(10_000)]


def test_a_repeat_raises_the_count_of_the_same_event(tmp_path: Path) -> None:
    line = Recording(tmp_path)
    seen: list[Event] = []
    for _ in range(3):
        line.recorder.record(ABOUT, "Warning", "BackOff", "again")
        seen += line.events()
        line.clock.set_wall_clock(60)
    first, _, last = seen
    assert (first.count, last.count, line.appended) == (1, 3, 3)
    assert first.metadata.name == last.metadata.name
    assert first.first_timestamp == last.first_timestamp == first.last_timestamp
    assert last.last_timestamp == rfc3339(line.clock.now() - 60)
    assert (last.type, last.source.host, last.involved_object) == ("Warning", "n1", ABOUT)
    line.database.close()


def test_repeats_that_wait_take_the_room_of_one_and_push_nothing_out(tmp_path: Path) -> None:
    """A container that fails for days, on a node without a network, costs no other event its place."""
    line = Recording(tmp_path)
    line.outbox = Outbox(line.database, {"events": 10_000})
    line.recorder = EventRecorder(
        node="n1", outbox=line.outbox, clock=line.clock, rng=random.Random(1), on_append=line._append
    )
    line.recorder.record(ABOUT, "Normal", "Pulled", "once")
    for _ in range(500):
        line.recorder.record(ABOUT, "Warning", "BackOff", "again")
    assert [(event.reason, event.count) for event in line.events()] == [("Pulled", 1), ("BackOff", 500)]
    assert line.outbox.dropped == 0
    sent = line.outbox.first(10)[-1].sequence
    line.outbox.remove(sent)
    line.recorder.record(ABOUT, "Warning", "BackOff", "again")
    assert [(event.reason, event.count) for event in line.events()] == [("BackOff", 501)]
    assert line.outbox.first(10)[-1].sequence > sent
    line.database.close()


def test_what_differs_is_another_event(tmp_path: Path) -> None:
    line = Recording(tmp_path)
    other = ObjectReference(kind="Pod", namespace="default", name="a", uid="u2")
    part = ObjectReference(kind="Pod", namespace="default", name="a", uid="u1", field_path="spec")
    for about, reason, message in (
        (ABOUT, "R", "m"), (other, "R", "m"), (part, "R", "m"), (ABOUT, "Q", "m"), (ABOUT, "R", "n"),
    ):  # fmt: skip
        line.recorder.record(about, "Normal", reason, message)
    assert {event.count for event in line.events()} == {1}
    assert len({event.metadata.name for event in line.events()}) == 5
    line.database.close()


def test_memory_and_messages_are_bounded(tmp_path: Path) -> None:
    line = Recording(tmp_path)
    for number in range(REMEMBERED + 50):
        line.recorder.record(ABOUT, "Normal", "R", f"message {number}")
    line.recorder.record(ABOUT, "Normal", "R", "message 0")
    assert line.events()[-1].count == 1, "forgotten long ago"
    line.recorder.record(ABOUT, "Normal", "R", "x" * 1_000_000)
    assert len(line.events()[-1].message) == 1024
    line.database.close()


@pytest.mark.parametrize("error", [TemporaryError("the disk is full"), CorruptError("malformed")])
def test_an_event_that_cannot_be_kept_is_logged_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: EdgeAgentError
) -> None:
    line = Recording(tmp_path)

    def refuse(name: str, body: bytes, *, instead_of: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(line.outbox, "append", refuse)
        line.recorder.record(ABOUT, "Warning", "Failed", "it broke")
    assert "it broke" in caplog.text
    assert str(error) in caplog.text
    assert line.appended == 0
    line.recorder.record(ABOUT, "Warning", "Failed", "it broke")
    assert line.events()[-1].count == 2
    line.database.close()


def test_a_really_full_disk(tmp_path: Path) -> None:
    line = Recording(tmp_path)
    [(pages,)] = line.database.rows("PRAGMA page_count")
    with line.database.batched() as connection:
        connection.execute(f"PRAGMA max_page_count = {int(str(pages))}")
    for number in range(200):
        line.recorder.record(ABOUT, "Normal", "R", f"{number} " + "x" * 1000)
    kept = len(line.events())
    assert line.appended == kept < 200
    line.database.close()


def test_whoever_follows_gets_what_is_known_and_then_each_change_once(tmp_path: Path) -> None:
    line = Recording(tmp_path)

    def record(reason: str, times: int = 1) -> None:
        for _ in range(times):
            line.recorder.record(ABOUT, "Normal", reason, "message")

    async def main() -> None:
        record("First")
        record("Second", 2)
        async with aclosing(line.recorder.follow()) as news:

            async def told(count: int) -> list[tuple[str, int]]:
                return [(event.reason, event.count) for event in [await anext(news) for _ in range(count)]]

            assert await told(2) == [("First", 1), ("Second", 2)]
            waiting = asyncio.create_task(told(1))
            await settle()
            assert not waiting.done()
            record("First")
            assert await waiting == [("First", 2)]
            # Nobody takes these for a while.
            record("First", 100)
            record("Third")
            record("Second", 50)
            assert await told(3) == [("First", 102), ("Third", 1), ("Second", 52)]
            waiting = asyncio.create_task(told(1))
            await settle()
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert not line.recorder._followers

    asyncio.run(main())
    line.database.close()


def test_the_stream_of_events_tells_of_one_namespace_or_of_all(tmp_path: Path) -> None:
    line = Recording(tmp_path)
    other = ObjectReference(kind="Pod", namespace="shop", name="b", uid="u2")

    async def lines(namespace: str, count: int) -> list[tuple[str, str]]:
        params = msgspec.Raw(canonical_json(EventsParams(namespace=namespace)))
        async with served(await EventsService(line.recorder).open(StreamRequest(params))) as pair:
            channel = await pair.mine.accept()
            assert channel.kind == EVENTS
            channel.accept()
            text = b""
            while text.count(b"\n") < count:
                text += await channel.read()
            found = [decode_json(one, Event) for one in text.splitlines()]
            return [(one.metadata.namespace, one.reason) for one in found]

    async def main() -> None:
        line.recorder.record(ABOUT, "Normal", "Started", "one")
        line.recorder.record(other, "Warning", "Failed", "two")
        async with asyncio.timeout(20):
            assert await lines("", 2) == [("default", "Started"), ("shop", "Failed")]
            following = asyncio.create_task(lines("shop", 2))
            await settle()
            line.recorder.record(ABOUT, "Normal", "Killing", "three")
            line.recorder.record(other, "Normal", "Killing", "four")
            assert await following == [("shop", "Failed"), ("shop", "Killing")]

    asyncio.run(main())
    line.database.close()
