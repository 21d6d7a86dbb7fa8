"""What a node tells the hub: states as they are now, events in their order, and nothing lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.sync.report import DRAIN_BATCH, DRAIN_PER_SECOND, Reporter
from edgeagent.testing.clock import ManualClock
from tests.node.indexes import FixedRandom


class Broker:
    """Takes what is published, or fails as told."""

    def __init__(self) -> None:
        self.connected = True
        self.taken: list[tuple[str, bytes, bool]] = []
        self.failures: list[EdgeAgentError] = []
        self.before: Callable[[str], None] = lambda topic: None
        self.has_readers = True

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, heard: bool = False) -> None:
        """With QoS 1."""
        await asyncio.sleep(0)
        self.before(topic)
        if not self.connected:
            raise TemporaryError("no connection")
        if self.failures:
            raise self.failures.pop(0)
        if heard and not self.has_readers:
            raise TemporaryError(f"nobody reads {topic}", reason="NobodyReads")
        self.taken.append((topic, payload, retain))

    def topics(self) -> list[str]:
        """What was taken, by topic."""
        return [topic for topic, _, _ in self.taken]


class Line:
    """A reporter on a broker, with an outbox in a file."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.broker = Broker()
        self.database = Database(directory / "agent.db", now=0)
        self.outbox = Outbox(self.database)
        self.reporter = Reporter(
            session=self.broker, connected=lambda: self.broker.connected, outbox=self.outbox,
            topics={"events": "events", "audit": "audit"}, clock=self.clock, rng=FixedRandom(),
        )  # fmt: skip

    def sequences(self) -> list[int]:
        """Of the events that the broker has."""
        reports = [msgspec.json.decode(body) for topic, body, _ in self.broker.taken if topic == "events"]
        assert all(report["stream"] == self.outbox.stream for report in reports)
        return [report["sequence"] for report in reports]


def on_line(directory: Path, scenario: Callable[[Line], Awaitable[None]]) -> None:
    async def main() -> None:
        line = Line(directory)
        task = asyncio.get_running_loop().create_task(line.reporter.run())
        try:
            await scenario(line)
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.wait([task])
            line.database.close()

    asyncio.run(main())


def test_states_go_first_and_in_the_order_they_were_set(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        line.outbox.append("events", b"1")
        for topic in ("status", "pods/b", "pods/a"):
            line.reporter.set(topic, {"topic": topic})
        await line.clock.settle()
        assert line.broker.topics() == ["status", "pods/b", "pods/a", "events"]
        assert [retain for _, _, retain in line.broker.taken] == [True, True, True, False]
        line.reporter.set("status", {"topic": "status"})
        line.reporter.wake()
        await line.clock.settle()
        assert len(line.broker.taken) == 4, "what the broker has is not sent again"

    on_line(tmp_path, scenario)


def test_only_the_newest_state_is_sent_after_a_time_without_connection(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        line.broker.connected = False
        for value in range(1000):
            line.reporter.set("status", value)
            await asyncio.sleep(0)
        await line.clock.advance(3600)
        line.broker.connected = True
        line.reporter.reconnected()
        await line.clock.settle()
        assert line.broker.taken == [("status", b"999", True)]

    on_line(tmp_path, scenario)


def test_a_state_that_changes_while_it_is_sent_is_sent_again(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        later = [2, 3]

        def change(topic: str) -> None:
            if later:
                line.reporter.set(topic, later.pop(0))

        line.broker.before = change
        line.reporter.set("status", 1)
        await line.clock.settle()
        assert [payload for _, payload, _ in line.broker.taken] == [b"1", b"2", b"3"]

    on_line(tmp_path, scenario)


def test_everything_is_said_anew_after_a_reconnection(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        line.reporter.set("status", 1)
        line.reporter.set("pods/a", 2)
        await line.clock.settle()
        line.reporter.reconnected()
        await line.clock.settle()
        assert line.broker.topics() == ["status", "pods/a"] * 2

    on_line(tmp_path, scenario)


def test_a_cleared_topic_is_forgotten_once_the_broker_knows(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        told: list[str] = []
        line.reporter.set("pods/a", 1)
        await line.clock.settle()
        line.broker.connected = False
        line.reporter.clear("pods/a", lambda: told.append("a"))
        await line.clock.advance(3600)
        assert told == []
        line.broker.connected = True
        line.reporter.reconnected()
        await line.clock.settle()
        assert told == ["a"]
        assert line.broker.taken[-1] == ("pods/a", b"", True)
        line.reporter.reconnected()
        await line.clock.settle()
        assert (told, len(line.broker.taken)) == (["a"], 2)

    on_line(tmp_path, scenario)


def test_a_topic_with_a_new_owner_tells_of_the_end_of_the_old(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        told: list[str] = []
        line.reporter.clear("pods/a", lambda: told.append("old"))
        line.reporter.set("pods/a", "new")
        await line.clock.settle()
        assert told == ["old"]
        assert line.broker.taken == [("pods/a", b'"new"', True)]

    on_line(tmp_path, scenario)


def test_a_clearing_that_the_broker_refuses_is_not_taken_for_done(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        told: list[str] = []
        line.broker.failures = [PermanentError("not authorized")]
        line.reporter.clear("pods/a", lambda: told.append("a"))
        await line.clock.advance(600)
        assert told == []
        line.reporter.reconnected()
        await line.clock.settle()
        assert told == ["a"]

    on_line(tmp_path, scenario)


def test_one_state_that_is_refused_holds_back_nothing(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        line.broker.failures = [PermanentError("too large")]
        line.outbox.append("events", b"1")
        line.reporter.set("status", 1)
        line.reporter.set("pods/a", 2)
        await line.clock.advance(600)
        assert line.broker.topics() == ["pods/a", "events"]

    on_line(tmp_path, scenario)


def test_a_backlog_is_drained_in_order_and_not_all_at_once(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        line.broker.connected = False
        for number in range(10 * DRAIN_BATCH):
            line.outbox.append("events", b"%d" % number)
        line.reporter.wake()
        await line.clock.advance(60)
        line.broker.connected = True
        line.reporter.reconnected()
        await line.clock.settle()
        assert len(line.sequences()) == 1 + DRAIN_BATCH, "one ahead of the first batch"
        line.reporter.set("status", 1)
        await line.clock.advance(DRAIN_BATCH / DRAIN_PER_SECOND)
        assert "status" in line.broker.topics(), "a state does not wait for the backlog"
        await line.clock.advance(60)
        sequences = line.sequences()
        assert sequences == sorted(set(sequences))
        assert len(sequences) == 10 * DRAIN_BATCH
        assert line.outbox.first(1) == []

    on_line(tmp_path, scenario)


def test_an_event_leaves_the_outbox_only_when_the_broker_has_it(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        for number in range(5):
            line.outbox.append("events", b"%d" % number)
        sent = 0

        def lose(topic: str) -> None:
            nonlocal sent
            sent += 1
            if sent == 3:
                line.broker.connected = False

        line.broker.before = lose
        line.reporter.wake()
        await line.clock.advance(60)
        assert len(line.outbox.first(10)) == 4
        line.broker.connected = True
        line.reporter.reconnected()
        await line.clock.settle()
        sequences = line.sequences()
        assert sequences[2:] == sorted(set(sequences))[1:], "repeats show by their sequence"
        assert line.outbox.first(10) == []

    on_line(tmp_path, scenario)


def test_events_wait_until_somebody_reads_them(tmp_path: Path) -> None:
    """The broker lost its memory, and the hub subscribes while a backlog is about to be sent."""

    async def scenario(line: Line) -> None:
        line.broker.has_readers = False
        for number in range(5):
            line.outbox.append("events", b'"%d"' % number)
        line.reporter.set("status", {"ready": True})
        tried: list[str] = []

        def before(topic: str) -> None:
            if topic == "events":
                tried.append(topic)
                line.broker.has_readers = len(tried) > 1

        line.broker.before = before
        line.reporter.reconnected()
        await line.clock.advance(60)
        assert line.broker.topics()[0] == "status", "a state waits for nobody"
        assert line.sequences() == sorted(line.sequences())
        assert len(line.sequences()) == 5
        assert len(tried) == 6, "one went alone, and came again"

    on_line(tmp_path, scenario)


def test_a_busy_broker_is_not_pressed(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        tries = 0

        def count(topic: str) -> None:
            nonlocal tries
            del topic
            tries += 1

        line.broker.before = count
        line.broker.failures = [TemporaryError("quota exceeded", delay=30)] * 1000
        line.reporter.set("status", 1)
        await line.clock.advance(3600)
        assert 100 <= tries <= 121
        line.broker.failures.clear()
        await line.clock.advance(30)
        assert line.broker.topics() == ["status"]

    on_line(tmp_path, scenario)


def test_an_event_that_is_refused_for_good_does_not_block_the_others(tmp_path: Path) -> None:
    async def scenario(line: Line) -> None:
        line.broker.failures = [PermanentError("too large")]
        for number in range(3):
            line.outbox.append("events", b"%d" % number)
        line.reporter.wake()
        await line.clock.settle()
        assert len(line.sequences()) == 2
        assert line.outbox.first(1) == []

    on_line(tmp_path, scenario)
