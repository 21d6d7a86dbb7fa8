"""The keeper of the network: when the plugin is asked, and what pods wait for."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.network import Attachment, NetworkReport, NetworkState, PodSandbox, Problem
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.events import EventRecorder
from edgeagent.node.network.keeper import ANSWER_SECONDS, START_SECONDS, NetworkKeeper
from edgeagent.node.network.localpods import Remembered
from edgeagent.node.network.state import Uplinked
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Outbox
from edgeagent.testing.clock import ManualClock
from tests.node.network.objects import pod, record, status


class Plugin:
    """Notes what it is asked; fails as it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.states: list[NetworkState] = []
        self.failure: Exception | None = None
        self.report = NetworkReport()

    async def attach(self, pod: PodSandbox) -> Attachment:
        """A fixed address."""
        self.calls.append(f"attach {pod.name}")
        return Attachment(namespace_path=f"/run/netns/{pod.uid}", ips=["10.0.0.2"])

    async def detach(self, pod: PodSandbox) -> None:
        """Nothing."""
        self.calls.append(f"detach {pod.name}")

    async def reconcile(self, state: NetworkState) -> NetworkReport:
        """What ``report`` says."""
        self.calls.append(f"reconcile {','.join(one.name for one in state.pods)}")
        self.states.append(state)
        if self.failure is not None:
            raise self.failure
        return self.report


class World:
    """A keeper with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.plugin = Plugin()
        self.pods: list[tuple[Pod, PodStatus]] = []
        self.remembered: list[Remembered] = []
        self.changes = 0
        self.told_dns: list[Sequence[str] | None] = []
        self.keeper_knows = False
        self.connected = False
        self.answers = True
        self.asked: list[float] = []
        database = Database(folder / "agent.db", now=0)
        self.events = EventRecorder(
            node="n1",
            outbox=Outbox(database),
            clock=self.clock,
            rng=random.Random(1),
            on_append=lambda: None,
        )
        self.database = database
        self.keeper = NetworkKeeper(
            self.plugin,
            node="n1",
            clock=self.clock,
            rng=random.Random(1),
            events=self.events,
            objects=lambda: [],
            pods=lambda: self.pods,
            remembered=lambda: self.remembered,
            uplinked=lambda: Uplinked(self.connected),
            answers=self._answer,
            on_change=self._changed,
            on_dns=lambda: self.told_dns.append(self.keeper.dns),
            resync_seconds=1800,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def _answer(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return self.answers

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """With its task."""
        if not self.keeper_knows:
            self.keeper.adopt([])
            self.keeper.folder_changed()
        task = asyncio.get_running_loop().create_task(self.keeper.run())
        try:
            await self.clock.settle()
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.database.close()


def problem(world: World) -> tuple[str, str] | None:
    """What the keeper says is wrong now."""
    return world.keeper.problem


WEB = PodSandbox(uid="u-web", namespace="shop", name="web")


def test_a_pod_is_attached_after_the_first_look_and_told_of_before_it_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        world.pods = [(pod("web", {}), status(ready=False))]
        waiting = asyncio.ensure_future(world.keeper.attach(WEB))
        await world.clock.settle()
        assert world.plugin.calls == []
        async with world.running():
            found = await waiting
            assert found.ips == ["10.0.0.2"]
            assert world.plugin.calls == ["reconcile ", "attach web", "reconcile web"]
            await world.keeper.attach(WEB)
            assert world.plugin.calls[3:] == ["attach web"]
            await world.keeper.detach(WEB)
            await world.clock.settle()
            assert world.plugin.calls[4:] == ["detach web", "reconcile "]

    asyncio.run(scene())


def test_a_deleted_pod_is_told_of_as_terminating_until_it_is_detached(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        host, web = pod("host", {}, hostNetwork=True), pod("web", {"app": "web"})
        world.pods = [(web, status()), (host, status("192.0.2.1"))]
        async with world.running():
            await world.keeper.attach(WEB)
            (before,) = (one for one in world.plugin.states[-1].pods if one.name == "web")
            assert (before.ready, before.terminating) == (True, False)
            world.pods, world.remembered = [], [Remembered(record(web), deleted=True)]
            for _ in range(2):
                world.keeper.wake()
                await world.clock.settle()
            (first,), (again,) = (state.pods for state in world.plugin.states[-2:])
            assert again is first, "what does not change is the same object"
            assert (first.ready, first.terminating) == (True, True)
            assert (first.ips, first.labels) == (before.ips, {"app": "web"})
            world.remembered = []
            await world.keeper.detach(WEB)
            await world.clock.settle()
            assert world.plugin.states[-1].pods == []

    asyncio.run(scene())


def test_a_pod_that_ended_before_it_was_deleted_is_told_of_no_more(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        web = pod("web", {})
        world.pods = [(web, status())]
        async with world.running():
            await world.keeper.attach(WEB)
            world.pods = [(web, status(phase="Failed", ready=False))]
            world.keeper.wake()
            await world.clock.settle()
            world.pods, world.remembered = [], [Remembered(record(web, phase="Failed"), deleted=True)]
            world.keeper.wake()
            await world.clock.settle()
            assert [state.pods for state in world.plugin.states[-2:]] == [[], []]

    asyncio.run(scene())


def test_nothing_is_asked_while_nothing_happens_but_for_the_slow_resync(tmp_path: Path) -> None:
    async def scene() -> None:
        async with World(tmp_path).running() as world:
            await world.clock.advance(1700)
            assert len(world.plugin.calls) == 1
            await world.clock.advance(200)
            assert len(world.plugin.calls) == 2
            for _ in range(50):
                world.keeper.wake()
            await world.clock.settle()
            assert len(world.plugin.calls) == 3

    asyncio.run(scene())


def test_a_network_that_fails_keeps_new_pods_waiting_and_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        world.plugin.failure = PermanentError("nft is not installed", reason="ProgramMissing")
        async with world.running():
            assert problem(world) == ("ProgramMissing", "nft is not installed")
            with pytest.raises(TemporaryError, match="the network is not ready: nft is not installed"):
                await world.keeper.attach(WEB)
            world.plugin.failure = None
            await world.clock.advance(120)
            assert problem(world) is None
            assert (await world.keeper.attach(WEB)).ips == ["10.0.0.2"]

    asyncio.run(scene())


def test_each_problem_is_an_event_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with World(tmp_path).running() as world:
            wrong = Problem(kind="Service", namespace="shop", name="web", reason="BadAddress", message="why")
            world.plugin.report = NetworkReport(problems=[wrong])
            for _ in range(3):
                world.keeper.wake()
                await world.clock.settle()
            told = [(e.involved_object.name, e.reason, e.count) for e in world.events.recent()]
            assert told == [("web", "BadAddress", 1)]
            assert world.changes == 2  # the network is there, and something is wrong with it

    asyncio.run(scene())


def test_a_plugin_that_asks_to_be_called_again_is(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        world.plugin.report = NetworkReport(retry_after=30)
        async with world.running():
            await world.clock.advance(31)
            assert len(world.plugin.calls) == 2

    asyncio.run(scene())


def test_what_ran_before_is_told_of_at_the_first_look_once_it_was_looked_at(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        web = pod("web", {})
        world.pods = [(web, status(phase="Unknown", ready=False))]
        world.keeper_knows = True
        world.keeper.adopt([WEB])
        world.keeper.folder_changed()
        async with world.running():
            assert world.plugin.calls == ["attach web"]
            # Its worker is not kept waiting, for the look waits for it.
            assert (await world.keeper.attach(WEB)).ips == ["10.0.0.2"]
            world.pods = [(web, status())]
            world.keeper.wake()
            await world.clock.settle()
            assert world.plugin.calls == ["attach web", "attach web", "reconcile web"]
            assert world.plugin.states[0].pods[0].ready

    asyncio.run(scene())


def test_a_pod_that_was_deleted_before_the_agent_began_is_told_of_at_the_first_look(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        world.remembered = [Remembered(record(pod("web", {"app": "web"})), deleted=True)]
        world.keeper_knows = True
        world.keeper.adopt([WEB])
        world.keeper.folder_changed()
        async with world.running():
            (found,) = world.plugin.states[0].pods
            assert (found.uid, found.ips, found.labels) == ("u-web", ["10.0.0.2"], {"app": "web"})
            assert (found.ready, found.terminating) == (True, True)

    asyncio.run(scene())


def test_the_first_look_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        world.pods = [(pod("web", {}), status(phase="Unknown", ready=False))]
        world.keeper_knows = True
        world.keeper.adopt([WEB])
        async with world.running():
            await world.clock.advance(START_SECONDS + 0.1)
            assert world.plugin.calls == ["attach web", "reconcile web"]

    asyncio.run(scene())


def test_where_names_are_asked_for_is_told_when_it_is_known_and_when_it_changes(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        assert world.keeper.dns is None
        world.plugin.report = NetworkReport(dns=["169.254.20.10"])
        async with world.running():
            assert world.told_dns == [["169.254.20.10"]]
            world.keeper.wake()
            await world.clock.settle()
            assert len(world.told_dns) == 1
            world.plugin.report = NetworkReport()
            world.keeper.wake()
            await world.clock.settle()
            assert world.told_dns[1:] == [[]]

    asyncio.run(scene())


def test_the_broker_is_asked_itself_while_what_may_cost_it_is_on_trial(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        world.connected, world.answers = True, False
        async with world.running():
            assert world.plugin.states[-1].connected
            world.plugin.report = NetworkReport(on_trial=True)
            world.keeper.wake()
            await world.clock.settle()
            assert (world.plugin.states[-1].connected, world.asked) == (True, [])
            world.plugin.report = NetworkReport()
            world.keeper.wake()
            await world.clock.settle()
            assert (world.plugin.states[-1].connected, world.asked) == (False, [ANSWER_SECONDS])
            world.keeper.wake()
            await world.clock.settle()
            assert (world.plugin.states[-1].connected, world.asked) == (True, [ANSWER_SECONDS])

    asyncio.run(scene())
