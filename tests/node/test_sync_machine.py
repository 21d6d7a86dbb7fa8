"""Whatever the network does to indexes and objects, the node is in one authentic generation, whole.

Publishes, losses, repeats, reorderings, forgeries and crashes come in any order. The invariant: desired
state is exactly what the hub signed as that generation, and never an older one than before.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.sync.desired import DesiredSync
from edgeagent.node.sync.fetch import ObjectFetcher
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

MALLORY = SigningKey(bytes(32))
NOW = 1_800_000_000.0
PATIENCE = 0.01


class Shelf:
    """The broker's retained objects, some of them lost or broken: a Subscriber that answers from memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.lost: set[str] = set()
        self.broken: set[str] = set()
        self.fetcher: ObjectFetcher | None = None

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Answer with what is there."""
        for topic in filters:
            name = topic.rpartition("/")[2]
            if name in self.blobs and name not in self.lost and self.fetcher is not None:
                payload = self.blobs[name]
                if name in self.broken:
                    payload = payload[:-1] + bytes([payload[-1] ^ 1])
                self.fetcher.deliver(name, payload)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Nothing to undo."""
        del filters


class SyncMachine(RuleBasedStateMachine):
    """A hub, a network that cannot be trusted, and one node."""

    @initialize()
    def begin(self) -> None:
        """An empty broker and an empty node."""
        self.directory = Path(tempfile.mkdtemp(prefix="edge-sync-"))
        self.shelf = Shelf()
        self.published: dict[int, SignedIndex] = {}
        self.states: dict[int, dict[str, KubernetesObject]] = {0: {}}
        self.highest = 0
        self.database: Database | None = None
        self.open()

    def open(self) -> None:
        """Start the node on what its disk holds."""
        self.database = Database(self.directory / "agent.db", now=NOW)
        self.desired = DesiredState(self.database, now=NOW)
        fetcher = ObjectFetcher(Topics(CLUSTER), self.shelf, patience=PATIENCE)
        self.shelf.fetcher = fetcher
        self.sync = DesiredSync(
            cluster=CLUSTER, node=NODE, pinned=ANCHOR, desired=self.desired,
            fetcher=fetcher, clock=SystemClock(), rng=FixedRandom(), on_switch=lambda change: None,
            on_problem=lambda: None,
        )  # fmt: skip

    def teardown(self) -> None:
        """Remove the node's disk."""
        if getattr(self, "database", None) is not None and self.database is not None:
            self.database.close()
            shutil.rmtree(self.directory)

    def deliver(self, payload: bytes) -> None:
        """One message reaches the node."""

        async def accept() -> None:
            await self.sync.accept(payload)

        try:
            asyncio.run(accept())
        except EdgeAgentError:
            return

    @rule(
        names=st.sets(st.sampled_from("abcdef")),
        value=st.sampled_from(["1", "2", "x" * 400]),
        limit=st.sampled_from([300, 9000]),
    )
    def publish(self, names: set[str], value: str, limit: int) -> None:
        """The hub signs the next generation."""
        objects: list[KubernetesObject] = [config_map(name, value + name) for name in sorted(names)]
        objects += [simple_pod(f"p-{name}") for name in sorted(names) if name < "c"]
        generation = len(self.published) + 1
        signed = signed_index(generation, objects, limit=limit)
        self.published[generation] = signed
        self.states[generation] = {item.metadata.uid: item for item in objects}
        self.shelf.blobs.update(signed.blobs)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def receive_any(self, data: st.DataObject) -> None:
        """An index arrives: the newest, an old one again, late, twice."""
        generation = data.draw(st.sampled_from(sorted(self.published)))
        self.deliver(self.published[generation].payload)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def receive_damaged(self, data: st.DataObject) -> None:
        """Bits flip, or the end is missing."""
        payload = bytearray(self.published[data.draw(st.sampled_from(sorted(self.published)))].payload)
        cut = data.draw(st.booleans())
        place = data.draw(st.integers(0, len(payload) - 1))
        if cut:
            del payload[place:]
        else:
            payload[place] ^= 1 << data.draw(st.integers(0, 7))
        self.deliver(bytes(payload))

    @rule(
        which=st.sampled_from(["key", "node", "cluster"]),
        ahead=st.integers(1, 50),
        names=st.sets(st.sampled_from("xyz")),
    )
    def receive_forged(self, which: str, ahead: int, names: set[str]) -> None:
        """Somebody who owns the broker publishes an index of a generation yet to come."""
        forged = signed_index(
            self.highest + ahead,
            [simple_pod(name) for name in sorted(names)],
            key=MALLORY if which == "key" else SigningKey(bytes(range(32))),
            node="n2" if which == "node" else NODE,
            cluster="other" if which == "cluster" else CLUSTER,
        )
        self.shelf.blobs.update(forged.blobs)
        self.deliver(forged.payload)

    @rule(data=st.data())
    def objects_get_lost_or_broken(self, data: st.DataObject) -> None:
        """The broker's retained objects change or vanish."""
        names = st.sets(st.sampled_from(sorted(self.shelf.blobs))) if self.shelf.blobs else st.just(set())
        self.shelf.lost = data.draw(names)
        self.shelf.broken = data.draw(names)

    @rule()
    def topic_is_cleared(self) -> None:
        """An empty payload says nothing."""
        self.sync.offer(b"")

    @precondition(lambda self: self.published)
    @rule(steps=st.integers(1, 4000), data=st.data())
    def crash_in_the_middle(self, steps: int, data: st.DataObject) -> None:
        """The process ends at some instruction of SQLite's while an index is being put in force."""
        assert self.database is not None
        generation = data.draw(st.sampled_from(sorted(self.published)))
        with self.database.durable() as connection:
            pass
        connection.set_progress_handler(lambda: 1, steps)
        self.deliver(self.published[generation].payload)
        connection.set_progress_handler(None, 0)
        self.restart()

    @rule()
    def restart(self) -> None:
        """The process ends and begins again."""
        assert self.database is not None
        self.database.close()
        self.open()

    @invariant()
    def in_one_authentic_generation(self) -> None:
        """What holds after every step."""
        if getattr(self, "database", None) is None:
            return
        assert self.desired.generation >= self.highest
        self.highest = self.desired.generation
        assert self.desired.objects == self.states[self.highest]

    @precondition(lambda self: self.published)
    @rule()
    def converges(self) -> None:
        """With nothing lost, the newest index comes into force whatever was before."""
        self.shelf.lost, self.shelf.broken = set(), set()
        newest = max(self.published)
        self.deliver(self.published[newest].payload)
        assert self.desired.generation == newest


SyncMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSyncMachine = SyncMachine.TestCase


def test_the_reasons_are_told() -> None:
    """Each way an index can be wrong has a reason of its own."""
    machine = SyncMachine()
    machine.begin()
    try:
        machine.publish({"a"}, "1", 9000)
        good = machine.published[1]
        cases = {
            "BadSignature": signed_index(2, [], key=MALLORY).payload,
            "WrongNode": signed_index(2, [], node="n2").payload,
            "ObjectMissing": signed_index(2, [simple_pod("nowhere")]).payload,
            "InvalidObject": good.payload[:-3],
        }
        for reason, payload in cases.items():
            with pytest.raises(EdgeAgentError) as raised:
                asyncio.run(machine.sync.accept(payload))
            assert getattr(raised.value, "reason", "") == reason, str(raised.value)
        asyncio.run(machine.sync.accept(good.payload))
        with pytest.raises(EdgeAgentError, match="two different indexes"):
            asyncio.run(machine.sync.accept(signed_index(1, []).payload))
    finally:
        machine.teardown()
