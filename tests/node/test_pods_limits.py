"""What the runtime is asked to hold containers to."""

from pathlib import Path

from edgeagent.api.objects.container import ResourceRequirements
from tests.node.podworld import PodWorld, container, pod, run


def test_a_memory_limit_below_one_byte_is_still_a_limit(tmp_path: Path) -> None:
    """``100m`` of memory is a tenth of a byte, and 0 would be no limit at all."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            resources = ResourceRequirements(limits={"memory": "100m"})
            await world.apply(pod("a", container(resources=resources)))
            assert world.runtime.configs[world.running("a").id].memory_limit == 1

    run(scenario)
