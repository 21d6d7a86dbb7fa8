"""Pods that are desired no longer and run still: what the network is told of them, after a restart too."""

from pathlib import Path

import msgspec

from edgeagent.api.objects.pod import Pod
from edgeagent.node.network.localpods import LocalPods
from tests.node.podworld import PodWorld, container, pod, run, with_spec


def labelled(made: Pod, **labels: str) -> Pod:
    """The pod with these labels."""
    return msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, labels=labels))


def told(world: PodWorld) -> list[tuple[str, dict[str, str], bool, bool]]:
    """Uid, labels, readiness of each pod of the node, and whether it is terminating."""
    local = LocalPods().look(world.manager.statuses(), {}, world.manager.remembered())
    return [(one.told.uid, one.told.labels, one.told.ready, one.told.terminating) for one in local]


def deafen(world: PodWorld) -> None:
    """What runs now takes all of its grace to end."""
    world.runtime.deaf |= {one.id for one in world.runtime.running()}


def test_a_deleted_pod_is_told_of_until_nothing_of_it_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(labelled(pod("a", grace=600), app="web"))
            assert told(world) == [("uid-a", {"app": "web"}, True, False)]
            deafen(world)
            await world.apply()
            assert told(world) == [("uid-a", {"app": "web"}, True, True)]
            await world.restart()
            assert told(world) == [("uid-a", {"app": "web"}, True, True)]
            await world.advance(600)
            assert told(world) == []
            assert world.gone == ["uid-a"]

    run(scenario)


def test_a_pod_that_was_not_ready_is_not_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(
                labelled(pod("a", container("main"), container("other"), policy="Never"), x="1")
            )
            await world.end("a", 0, container="other")
            deafen(world)
            await world.apply()
            await world.restart()
            assert told(world) == [("uid-a", {"x": "1"}, False, True)]

    run(scenario)


def test_a_pod_that_another_one_of_its_name_replaces(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(labelled(pod("a", grace=600), app="old"))
            deafen(world)
            await world.apply(labelled(pod("a", uid="uid-b"), app="new"))
            for _ in range(2):
                assert ("uid-a", {"app": "old"}, True, True) in told(world)
                assert ("uid-b", {"app": "new"}, False, False) in told(world)
                await world.restart()
            await world.advance(600)
            assert told(world) == [("uid-b", {"app": "new"}, True, False)]

    run(scenario)


def test_new_labels_are_remembered_though_the_changed_spec_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(labelled(pod("a", grace=600), app="old"))
            await world.apply(labelled(with_spec(pod("a", grace=600), runtime_class_name="other"), app="new"))
            assert world.status("a").reason == "FieldNotSupported"
            deafen(world)
            await world.apply()
            await world.restart()
            assert [one[1] for one in told(world)] == [{"app": "new"}]

    run(scenario)


def test_nobody_says_that_a_pod_was_deleted_without_an_index(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(labelled(pod("a"), app="web"))
            with world.database.batched() as connection:
                connection.execute("DELETE FROM desired")
                connection.execute("DELETE FROM meta WHERE key LIKE '%generation%'")
            await world.restart()
            assert told(world) == [("uid-a", {"app": "web"}, True, False)]

    run(scenario)
