"""The container that holds a pod's process namespace, on a runtime that removes it last."""

from pathlib import Path

from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import LABEL_CONTAINER
from tests.node.podworld import PodWorld, container, pod, run, with_spec

SHARED = {"share_process_namespace": True}
TEMPORARY = TemporaryError("try later", reason="RuntimeBusy")


def pauses(world: PodWorld) -> list[str]:
    """The states of all pause containers."""
    return [c.state for c in world.runtime.containers.values() if c.labels[LABEL_CONTAINER] == "POD"]


def test_a_process_namespace_is_shared_no_longer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(with_spec(pod("a"), **SHARED))
            [pause] = world.runs("a", "POD")
            assert world.runtime.configs[world.running("a").id].pid_namespace == f"container:{pause.id}"
            await world.apply(pod("a", generation=2))
            assert world.runtime.configs[world.running("a").id].pid_namespace == "private"
            assert world.container("a").ready
            assert pauses(world) == ["exited"], "the run before, kept for its log, depends on it"
            await world.end("a", 1)
            await world.advance(11)
            assert world.runs("a")
            await world.advance(1)
            assert pauses(world) == []
            assert world.status("a").message == ""
            await world.apply(with_spec(pod("a", generation=3), **SHARED))
            [pause] = world.runs("a", "POD")
            assert world.runtime.configs[world.running("a").id].pid_namespace == f"container:{pause.id}"

    run(scenario)


def test_an_end_of_the_pause_container_makes_a_new_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(with_spec(pod("a"), **SHARED))
            for _ in range(4):
                member = world.running("a")
                world.runtime.end(world.running("a", "POD").id, 137)
                world.runtime.end(member.id, 137)
                await world.clock.settle()
                await world.advance(301)
                [pause] = world.runs("a", "POD")
                now = world.runtime.configs[world.running("a").id].pid_namespace
                assert now == f"container:{pause.id}"
                assert len(pauses(world)) <= 2
            assert world.status("a").message == ""

    run(scenario)


def test_a_pause_container_that_cannot_be_started_is_not_made_over_and_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.fail("start_container", TEMPORARY)
            await world.apply(with_spec(pod("a"), **SHARED))
            await world.advance(3600)
            assert len(world.runtime.containers) <= 1
            world.heal()
            await world.advance(301)
            assert pauses(world) == ["running"]
            assert world.container("a").ready

    run(scenario)


def test_a_pause_container_that_was_only_made_is_started(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.plugin.hold = "start_container"
            await world.apply(with_spec(pod("a"), **SHARED))
            await world.crash()
            world.plugin.held.clear()
            world.plugin.hold = ""
            assert pauses(world) == ["created"]
            await world.restart()
            assert pauses(world) == ["running"]
            assert world.container("a").ready

    run(scenario)


def test_what_keeps_the_surroundings_from_being_made_is_said_of_every_container_that_waits(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            both = (container("one"), container("two"))
            await world.apply(pod("a", *both))
            world.fail("start_container", TEMPORARY)
            await world.apply(with_spec(pod("a", *both, generation=2), **SHARED))
            assert world.waiting("a", "one") == ("ContainerCreating", "try later")
            assert world.waiting("a", "two") == ("ContainerCreating", "try later")

    run(scenario)
