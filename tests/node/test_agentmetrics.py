"""What the agent counts of itself: in a queue, over connections, of indexes, of looks at pods."""

import asyncio
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.histogram import Histogram
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import ClassUsage, Outbox
from edgeagent.node.sync.desired import DesiredSync
from edgeagent.node.telemetry.families import histogram
from edgeagent.node.telemetry.process import process_families
from edgeagent.wire.traffic import Traffic, traffic_of
from tests.node.plugin_kit import Kit, VirtualClock, on_path


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Plugins in a folder."""
    with on_path(Kit(tmp_path), monkeypatch) as made:
        yield made


BUDGETS = {"events": 100, "audit": 1000}


def test_the_outbox_knows_what_it_holds_over_restarts(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db", now=0.0)
    outbox = Outbox(database, BUDGETS)
    for _ in range(4):
        last = outbox.append("events", b"x" * 30)
    outbox.append("audit", b"y" * 10)
    expected = [ClassUsage("events", 100, 90, 3, 1), ClassUsage("audit", 1000, 10, 1, 0)]
    assert outbox.usage() == expected
    outbox.append("events", b"z" * 20, instead_of=last)
    assert outbox.usage()[0] == ClassUsage("events", 100, 80, 3, 1)
    database.close()
    database = Database(tmp_path / "store.db", now=0.0)
    outbox = Outbox(database, BUDGETS)
    assert outbox.usage() == [ClassUsage("events", 100, 80, 3, 0), ClassUsage("audit", 1000, 10, 1, 0)]
    outbox.remove(outbox.first(10)[1].sequence)
    assert outbox.usage()[0] == ClassUsage("events", 100, 20, 1, 0)
    outbox.remove(outbox.first(10)[-1].sequence)
    assert [(one.bytes, one.items) for one in outbox.usage()] == [(0, 0), (0, 0)]
    database.close()


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_each_once(values: list[float]) -> None:
    counts = Histogram((0.5, 1.0, 10.0))
    for value in values:
        counts.observe(value)
    for bound, count in counts.cumulative():
        assert count == sum(1 for value in values if value <= bound)
    family = histogram("some_seconds", "Help.", counts)
    assert [sample.labels.get("le") for sample in family.samples] == [
        "0.5",
        "1.0",
        "10.0",
        "+Inf",
        None,
        None,
    ]
    assert family.samples[-1].value == len(values)
    assert family.samples[-2].value == sum(values)


def test_traffic_is_what_a_connection_carried() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
    ):
        other, _ = server.accept()
        with other:
            one.sendall(b"x" * 5000)
            received = b""
            while len(received) < 5000:
                received += other.recv(5000)
            other.sendall(b"y" * 70)
            assert len(one.recv(100)) == 70
            assert traffic_of(one).received == 70
            assert traffic_of(other) == Traffic(sent=70, received=5000)
    assert traffic_of(one) == Traffic(), "it is closed"
    assert traffic_of("no socket") == Traffic()
    assert Traffic(1, 2) + Traffic(3, 4) == Traffic(4, 6)


class Refusing(DesiredSync):
    """Fails in one way after another."""

    def __init__(self, clock: VirtualClock, errors: list[Exception | None]) -> None:
        super().__init__(
            cluster="c", node="n", pinned=None, desired=None, fetcher=None, clock=clock,  # type: ignore[arg-type]
            rng=random.Random(1), on_switch=lambda _: None, on_problem=lambda: None,
        )  # fmt: skip
        self.errors = errors
        self.tried = asyncio.Event()

    async def accept(self, payload: bytes) -> None:
        """The next error; none for success."""
        error = self.errors.pop(0)
        self.tried.set()
        if error is not None:
            raise error


def test_an_index_that_waits_is_behind_until_it_is_in_force() -> None:
    async def main() -> None:
        clock = VirtualClock()
        sync = Refusing(
            clock,
            [TemporaryError("later", reason="FetchFailed"), PermanentError("bad", reason="BadIndex"), None],
        )
        assert sync.lag == 0
        task = asyncio.create_task(sync.run())

        async def offer(payload: bytes) -> None:
            sync.tried.clear()
            sync.offer(payload)
            await sync.tried.wait()
            await asyncio.sleep(0)

        await offer(b"one")
        clock.time += 5
        assert (sync.lag, dict(sync.failures)) == (5, {"FetchFailed": 1})
        await offer(b"two")
        clock.time += 2
        assert (sync.lag, dict(sync.failures)) == (7, {"FetchFailed": 1, "BadIndex": 1})
        await offer(b"three")
        assert sync.lag == 0
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


def test_the_process_describes_itself(tmp_path: Path) -> None:
    found = {family.name: family.samples[0].value for family in process_families()}
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_open_fds"] < found["process_max_fds"]
    assert 1e6 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
    assert 0 < SystemClock().now() - found["process_start_time_seconds"] < 86_400 * 30
    assert process_families(tmp_path) == []


def test_calls_and_faults_of_a_lane_are_counted(kit: Kit) -> None:
    kit.install_runtime()

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        (plugin,) = host.hosted()
        await runtime.find_image("any")
        with pytest.raises(TemporaryError):
            await runtime.pull_image("temporary", None)
        assert (plugin.calls, plugin.faults) == (2, 0), "an answer, if not a welcome one"
        with pytest.raises(TemporaryError):
            await runtime.pull_image("bug", None)
        assert (plugin.calls, plugin.faults) == (3, 1)

    kit.with_runtime(body)
