"""Pods come and go for years: what the manager knows of those that are gone goes too."""

from pathlib import Path

from tests.node.podworld import PodWorld, pod, run


def test_nothing_is_left_of_the_ends_of_containers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            for number in range(3):
                await world.apply(pod(f"a{number}"))
                await world.end(f"a{number}", 1)
                await world.advance(60)
                await world.apply()
                await world.advance(60)
            assert world.manager._ended == {}

    run(scenario)
