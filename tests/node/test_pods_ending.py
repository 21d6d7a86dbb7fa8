"""Pods that end while a step of theirs is under way, and containers that take their time to end."""

from pathlib import Path

import pytest

from edgeagent.api.objects.probe import ExecAction, Lifecycle, LifecycleHandler
from tests.node.podworld import PodWorld, container, pod, run, with_spec

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
