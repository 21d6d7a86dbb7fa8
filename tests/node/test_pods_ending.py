"""Pods that end while a step of theirs is under way, and containers that take their time to end."""

import asyncio
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
            world.plugin.hold = "signal_container"
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
            world.fail("signal_container", TemporaryError("try later"), 1)
            await world.apply(pod("a", container("main"), generation=2))
            if agent_restarts:
                await world.restart()
            await world.advance(60)
            assert ("exec_container", stopped.id) in world.runtime.log[
                : world.runtime.log.index(("signal_container", stopped.id))
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
            assert ("signal_container", first.id) in world.runtime.log

    run(scenario)


def test_containers_that_will_not_end_keep_no_other_from_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            deaf = [pod(f"p{n}", grace=86_400) for n in range(40)]
            await world.apply(*deaf, pod("victim", grace=5), pod("polite", grace=3600))
            world.runtime.deaf = {c.id for c in world.runtime.running()} - {world.running("polite").id}
            await world.apply(pod("victim", grace=5), pod("polite", grace=3600))
            assert world.plugin.in_plugin == 0, "nobody waits in the lane"
            await world.apply()
            assert world.gone == ["uid-polite"]
            await world.advance(5)
            assert sorted(world.gone) == ["uid-polite", "uid-victim"]
            await world.advance(86_400)
            assert len(world.gone) == 42
            assert world.runtime.containers == {}

    run(scenario)


@pytest.mark.parametrize("ended_by", ["deletion", "eviction"])
def test_the_end_of_a_pod_cuts_the_long_stop_of_one_container_short(tmp_path: Path, ended_by: str) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", grace=86_400))
            world.runtime.deaf = {world.running("a").id}
            changed = pod("a", container(image="image:2"), grace=30, generation=2)
            await world.apply(with_spec(changed, termination_grace_period_seconds=86_400))
            await world.apply(changed)
            await world.advance(100)
            assert world.running("a").image == "image:1", "it is still being stopped to be replaced"
            if ended_by == "deletion":
                await world.apply()
                await world.advance(30)
                assert world.gone == ["uid-a"]
            else:
                await asyncio.wait_for(world.manager.evict("uid-a", "no memory", 0), 10)
                assert world.status("a").reason == "Evicted"
            assert world.runtime.running() == []

    run(scenario)


def test_an_end_collected_before_it_is_waited_for_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a", grace=86_400))
            running = world.running("a")
            # The answer tells of the moment of the signal, and arrives after the end.
            monkeypatch.setattr(world.runtime, "signal_container", lambda _id: running)
            world.plugin.hold = "signal_container"
            await world.apply(pod("a", container(image="image:2"), grace=86_400, generation=2))
            await world.end("a", 0)
            world.plugin.release()
            await world.clock.settle()
            assert world.running("a").image == "image:2"

    run(scenario)


def test_pre_stop_hooks_wait_for_their_turn_for_as_long_as_the_grace_period(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            lifecycle = Lifecycle(pre_stop=HOOK)
            pods = [pod(f"p{n}", container(lifecycle=lifecycle), grace=60) for n in range(10)]
            crowd = [container(f"c{n}", lifecycle=lifecycle) for n in range(5)]
            await world.apply(*pods, pod("crowd", *crowd, grace=60))
            world.plugin.hold = "exec_container"
            await world.apply(*pods)
            assert world.plugin.in_plugin == 2, "of one pod"
            await world.apply()
            assert world.plugin.in_plugin == 8, "of all"
            await world.advance(63)
            assert len(world.gone) == 4
            assert len(world.said("FailedPreStopHook")) == 4 + 3
            world.plugin.release()
            await world.clock.settle()
            assert len(world.gone) == 11

    run(scenario)


def test_the_hooks_of_other_pods_take_nothing_of_a_pods_grace_period(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            lifecycle = Lifecycle(pre_stop=HOOK)
            crowd = [pod(f"p{n}", container(lifecycle=lifecycle), grace=3600) for n in range(8)]
            late = pod("late", container(lifecycle=lifecycle), grace=60)
            await world.apply(*crowd, late)
            world.runtime.deaf = {world.running("late").id}
            world.plugin.hold = "exec_container"
            await world.apply(late)
            await world.apply()
            await world.advance(50)
            world.plugin.release()
            await world.advance(59)
            assert len(world.gone) == 8
            assert world.runs("late"), "it has 60 s from its hook on"
            await world.advance(2)
            assert world.gone[-1] == "uid-late"
            assert world.said("FailedPreStopHook") == []

    run(scenario)


def test_post_start_hooks_that_hang_occupy_a_part_of_the_lane_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            lifecycle = Lifecycle(post_start=HOOK)
            crowd = pod("crowd", *(container(f"c{n}", lifecycle=lifecycle) for n in range(5)))
            world.plugin.hold = "exec_container"
            await world.apply(crowd)
            await world.advance(RESYNC)
            assert len(world.runtime.running()) > 1
            assert world.plugin.in_plugin == 2
            pods = [pod(f"p{n}", container(lifecycle=lifecycle)) for n in range(10)]
            await world.apply(crowd, *pods)
            assert world.plugin.in_plugin == 8
            await world.apply(crowd, *pods[:-1])
            assert world.gone == ["uid-p9"], "what only waits for its turn can be deleted"
            world.plugin.release()
            await world.clock.settle()
            assert world.container("crowd", "c4").ready
            assert world.container("p8").ready

    run(scenario)
