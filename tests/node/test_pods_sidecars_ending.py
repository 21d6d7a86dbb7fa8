"""What sidecars get to end in, once the other containers have used up the pod's grace period."""

from pathlib import Path

import pytest

from tests.node.podworld import PodWorld, container, pod, run, with_spec


@pytest.mark.parametrize(("grace", "code"), [(30, 143), (1, 143), (0, 137)])
def test_a_sidecar_has_a_moment_left(tmp_path: Path, grace: int, code: int) -> None:
    made = with_spec(pod("a", grace=grace), init_containers=[container("sidecar", restart_policy="Always")])

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(made)
            world.runtime.deaf.add(world.running("a").id)
            sidecar = world.running("a", "sidecar").id
            codes: list[int | None] = []
            end = world.runtime.end

            def noted(container_id: str, exit_code: int) -> None:
                if container_id == sidecar:
                    codes.append(exit_code)
                end(container_id, exit_code)

            world.runtime.end = noted  # type: ignore[method-assign]
            world.switch([])
            await world.advance(60)
            assert codes == [code]

    run(scenario)
