"""The plugin's runtime on a real Podman, and a maker of containers."""

import pytest

from edgeagent.api.runtime import ContainerRecord
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import Make, config
from tests.support.podman import PodmanService


@pytest.fixture
def runtime(podman: PodmanService) -> PodmanRuntime:
    """The runtime, asked with the usual settings."""
    return PodmanRuntime(PodmanConfig(socket=str(podman.socket)))


@pytest.fixture
def create(runtime: PodmanRuntime) -> Make:
    """Create a container from the changes to a usual config; a name is given where there is none."""

    def make(*command: str, **changes: object) -> ContainerRecord:
        return runtime.create_container(config(*command, **changes))

    return make
