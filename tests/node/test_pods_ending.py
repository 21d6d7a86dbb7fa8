"""Pods that end while a step of theirs is under way, and containers that take their time to end."""

from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.probe import ExecAction, Lifecycle, LifecycleHandler
from tests.node.podworld import RESYNC, PodWorld, container, pod, run, with_spec

HOOK = LifecycleHandler(exec=ExecAction(command=["sleep", "7200"]))


@pytest.mark.parametrize("ended_by", ["deletion", "deadline"])
def test_a_pod_that_ends_while_its_container_is_made_neither_starts_nor_hooks_it(
    tmp_path: Path, ended_by: str
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.plugin.hold = "create_container"
            made = pod("a", container(lifecycle=Lifecycle(post_start=HOOK)))
            await world.apply(with_spec(made, active_deadline_seconds=60))
            if ended_by == "deletion":
                await world.apply()
            else:
                await world.advance(60)
            world.plugin.release()
            await world.clock.settle()
            assert world.calls("start_container") == world.calls("exec_container") == 0
            if ended_by == "deletion":
                assert world.gone == ["uid-a"]
                assert world.runtime.containers == {}
            else:
                assert world.status("a").reason == "DeadlineExceeded"

    run(scenario)


def test_a_pod_deleted_while_its_container_is_made_does_not_wait_for_a_pull(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.plugin.hold = "create_container"
            await world.apply(pod("a", container(image="image:none")))
            await world.apply()
            world.plugin.release()
            await world.clock.settle()
            assert world.calls("create_container") == 1
            assert world.calls("pull_image") == 0
            assert world.gone == ["uid-a"]

    run(scenario)


def test_a_pod_deleted_while_its_container_is_started_does_not_wait_for_its_hook(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            world.plugin.hold = "start_container"
            await world.apply(pod("a", container(lifecycle=Lifecycle(post_start=HOOK))))
            await world.apply()
            world.plugin.release()
            await world.clock.settle()
            assert world.calls("exec_container") == 0
            assert world.gone == ["uid-a"]

    run(scenario)


def test_a_container_taken_out_that_takes_long_to_end_holds_nothing_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", container("main"), container("old"), grace=3600))
            world.plugin.hold = "stop_container"
            await world.apply(pod("a", container("main"), grace=3600, generation=2))
            await world.end("a", 1)
            assert world.container("a").restart_count == 1
            assert world.runs("a"), "main was not run again"
            # Put back while it is being stopped: it is run again, once the first has ended.
            await world.apply(pod("a", container("main"), container("old"), grace=3600, generation=3))
            assert len(world.runs("a", "old")) == 1
            world.plugin.release()
            await world.clock.settle()
            assert world.container("a", "old").ready
            await world.apply(pod("a", container("main"), grace=3600, generation=4))
            assert not world.runs("a", "old")

    run(scenario)


@pytest.mark.parametrize("agent_restarts", [False, True])
def test_a_container_taken_out_has_its_pre_stop_hook_run(tmp_path: Path, agent_restarts: bool) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            old = container("old", lifecycle=Lifecycle(pre_stop=HOOK))
            await world.apply(pod("a", container("main"), old))
            stopped = world.running("a", "old")
            world.fail("stop_container", TemporaryError("try later"), 1)
            await world.apply(pod("a", container("main"), generation=2))
            if agent_restarts:
                await world.restart()
            await world.advance(60)
            assert ("exec_container", stopped.id) in world.runtime.log[
                : world.runtime.log.index(("stop_container", stopped.id))
            ]
            assert world.calls("exec_container") == 2, "once for each time that it was tried"
            assert [c.name.split("_")[1] for c in world.runtime.containers.values()] == ["main"]
            assert world.status("a").message == ""
            await world.advance(RESYNC)
            assert world.records.by_uid["uid-a"].leaving == {}

    run(scenario)


def test_an_old_run_that_runs_still_is_stopped_before_anything_else_of_its_container(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            first = world.running("a")
            await world.end("a", 1)
            await world.crash()
            world.runtime.containers[first.id] = first  # as if its end had been told by mistake
            await world.restart()
            assert [c.id for c in world.runtime.running()] == [world.running("a").id] != [first.id]
            assert ("stop_container", first.id) in world.runtime.log

    run(scenario)
