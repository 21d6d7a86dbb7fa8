"""Whatever happens to a node, its pods come to what is desired: never two at once, never a job run twice.

Pods come, change and go, containers end, the runtime fails, the machine reboots, and the agent is killed at
any of its steps. After a quiet while every pod is as it should be.
"""

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.objects.pod import Pod
from edgeagent.api.runtime import LABEL_CONTAINER, LABEL_POD_UID, LABEL_SPEC_HASH
from edgeagent.node.pods.containers import spec_hash
from tests.node.podworld import RESYNC, FakeNetwork, PodWorld, container, pod

NAMES = ("a", "b", "c")
METHODS = (
    "list_containers", "find_image", "create_container", "start_container", "signal_container",
    "stop_container", "wait_container", "remove_container",
)  # fmt: skip
Policy = Literal["Always", "OnFailure", "Never"]


class PodMachine(RuleBasedStateMachine):
    """One node through the worst of days."""

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        """A first boot."""
        self.directory = Path(tempfile.mkdtemp(prefix="edge-pods-"))
        self.runner = asyncio.Runner()
        self.rng = random.Random(seed)
        self.pods: dict[str, Pod] = {}
        self.births = 0
        self.counts: dict[tuple[str, str], int] = {}
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        self.world = PodWorld(
            self.directory, network=FakeNetwork(), latency=lambda: self.rng.choice((0, 1, 1, 2, 5))
        )
        self.world.start()

    def teardown(self) -> None:
        """Whatever happened, it comes right in the end."""
        if hasattr(self, "runner"):
            try:
                self.runner.run(self._end())
            finally:
                self.runner.close()
                shutil.rmtree(self.directory)

    async def _end(self) -> None:
        try:
            await self._quiet()
        finally:
            await self.world.crash()
            self.world.database.close()

    def _switch(self, turns: int) -> None:
        async def go() -> None:
            self.world.switch(list(self.pods.values()))
            await self._turns(turns)

        self.runner.run(go())

    async def _turns(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    @rule(
        name=st.sampled_from(NAMES),
        images=st.lists(st.sampled_from(["image:1", "image:2"]), min_size=1, max_size=2),
        policy=st.sampled_from(["Always", "Always", "OnFailure", "Never"]),
        host_network=st.booleans(),
        turns=st.integers(0, 60),
    )
    def create(self, name: str, images: list[str], policy: Policy, host_network: bool, turns: int) -> None:
        """A new pod; where there is one of that name, it takes its place with another uid."""
        self.births += 1
        containers = [container(f"c{n}", image) for n, image in enumerate(images)]
        self.pods[name] = pod(
            name, *containers, uid=f"{name}{self.births}", policy=policy, host_network=host_network
        )
        self._switch(turns)

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), image=st.sampled_from(["image:1", "image:2"]), turns=st.integers(0, 60))
    def change(self, data: st.DataObject, image: str, turns: int) -> None:
        """The image of a pod's containers."""
        name = data.draw(st.sampled_from(sorted(self.pods)))
        old = self.pods[name]
        containers = [container(c.name, image) for c in old.spec.containers]
        self.pods[name] = pod(
            name, *containers, uid=old.metadata.uid, policy=old.spec.restart_policy,
            host_network=old.spec.host_network, generation=old.metadata.generation + 1,
        )  # fmt: skip
        self._switch(turns)

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), turns=st.integers(0, 60))
    def delete(self, data: st.DataObject, turns: int) -> None:
        """A pod is desired no longer."""
        del self.pods[data.draw(st.sampled_from(sorted(self.pods)))]
        self._switch(turns)

    @precondition(lambda self: self.world.runtime.running())
    @rule(data=st.data(), code=st.sampled_from([0, 1, 137]), told=st.booleans(), turns=st.integers(0, 60))
    def exit(self, data: st.DataObject, code: int, told: bool, turns: int) -> None:
        """A container ends; that may never be told."""
        ended = data.draw(st.sampled_from([running.id for running in self.world.runtime.running()]))

        async def go() -> None:
            self.world.tell = told
            if any(running.id == ended for running in self.world.runtime.running()):
                self.world.runtime.end(ended, code)
            await self._turns(turns)
            self.world.tell = True

        self.runner.run(go())

    @rule(
        method=st.sampled_from(METHODS),
        error=st.sampled_from(
            [
                TemporaryError("busy"),
                TemporaryError("busy", delay=0.5, reason="Busy"),
                PermanentError("no"),
                OSError("gone"),
            ]
        ),
        times=st.integers(1, 8),
    )
    def fail(self, method: str, error: EdgeAgentError | OSError, times: int) -> None:
        """The next calls of one method."""
        # A command that cannot be executed is an end of its own, which no invariant here knows.
        if not (method == "start_container" and isinstance(error, PermanentError)):
            self.world.fail(method, error, times)

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.runner.run(self.world.advance(seconds))
        self._observe()

    @rule(turns=st.integers(0, 60), later=st.integers(0, 60))
    def kill(self, turns: int, later: int) -> None:
        """The agent dies after so many steps, and comes back from what it had written."""

        async def go() -> None:
            await self._turns(turns)
            await self.world.crash()
            self.world.database.close()
            self.world.open()
            self.world.start()
            await self._turns(later)

        self.runner.run(go())

    @rule(later=st.integers(0, 60))
    def reboot(self, later: int) -> None:
        """The machine loses its power."""

        async def go() -> None:
            await self.world.crash()
            await self.world.clock.settle()  # nothing that was under way outlives the machine
            self.world.runtime.reboot()
            self.world.database.close()
            self.world.open()
            self.world.records.rebooted()
            self.world.start()
            await self._turns(later)

        self.runner.run(go())

    @rule()
    def quiet(self) -> None:
        """No faults for a long while: all is as it should be."""
        self.runner.run(self._quiet())

    async def _quiet(self) -> None:
        world = self.world
        world.heal()
        await world.advance(RESYNC + 700)
        await world.advance(RESYNC + 700)
        running = {(c.labels[LABEL_POD_UID], c.labels[LABEL_CONTAINER]): c for c in world.runtime.running()}
        assert len(running) == len(world.runtime.running())
        allowed = set()
        for name, wanted in self.pods.items():
            status = world.status(name)
            assert status.reason == "", status
            for spec in wanted.spec.containers:
                key = (wanted.metadata.uid, spec.name)
                allowed.add(key)
                if wanted.spec.restart_policy == "Always":
                    assert key in running, (key, world.container(name, spec.name))
                    assert status.phase == "Running"
                if (current := running.get(key)) is not None:
                    assert current.labels[LABEL_SPEC_HASH] == spec_hash(spec, wanted.spec)
                    assert world.container(name, spec.name).ready
                else:
                    # Some ended and some still run, or all have and the pod is over.
                    assert world.container(name, spec.name).state.terminated is not None, status
            if not any((wanted.metadata.uid, c.name) in running for c in wanted.spec.containers):
                assert status.phase in ("Succeeded", "Failed"), status
        assert running.keys() <= allowed, "something runs that nobody wants"
        uids = {wanted.metadata.uid for wanted in self.pods.values()}
        assert {c.labels[LABEL_POD_UID] for c in world.runtime.containers.values()} <= uids
        self._observe()

    def _observe(self) -> None:
        """What must hold at any time."""
        ran: dict[tuple[str, str, str], int] = {}
        for started in self.world.runtime.runs:
            labels = started.labels
            run = (labels[LABEL_POD_UID], labels[LABEL_CONTAINER], labels[LABEL_SPEC_HASH])
            ran[run] = ran.get(run, 0) + 1
        for name, wanted in self.pods.items():
            for status in self.world.status(name).container_statuses:
                key = (wanted.metadata.uid, status.name)
                assert status.restart_count >= self.counts.get(key, 0), "a restart count went down"
                self.counts[key] = status.restart_count
            if wanted.spec.restart_policy == "Never" and wanted.metadata.generation == 1:
                for spec in wanted.spec.containers:
                    times = ran.get((wanted.metadata.uid, spec.name, spec_hash(spec, wanted.spec)), 0)
                    assert times <= 1, f"{spec.name} of {name} ran {times} times"


PodMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


TestPods = pytest.mark.slow(PodMachine.TestCase)
