"""The plugin's runtime on a real Podman, and a maker of containers."""

from collections.abc import Iterator

import pytest

from edgeagent.api.runtime import ContainerRecord
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import Make, config, runtime_on
from tests.support.podman import PodmanService


@pytest.fixture
def runtime(podman: PodmanService) -> PodmanRuntime:
    """The runtime, asked with the usual settings."""
    return runtime_on(podman)


@pytest.fixture
def create(runtime: PodmanRuntime) -> Make:
    """Create a container from the changes to a usual config; a name is given where there is none."""

    def make(*command: str, **changes: object) -> ContainerRecord:
        return runtime.create_container(config(*command, **changes))

    return make


@pytest.fixture
def pause(runtime: PodmanRuntime, create: Make) -> Iterator[ContainerRecord]:
    """A pause container that runs. Those that depend on it are removed before it, as must be."""
    record = runtime.start_container(create(image="", pause=True, hostname="web-0").id)
    yield record
    for other in runtime.list_containers():
        if other.id != record.id:
            runtime.remove_container(other.id)
    runtime.remove_container(record.id)
