"""What tests of enrolment and of its end say and ask."""

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.admin import NewToken, create_token
from edgeagent.cluster.nodes import list_nodes
from edgeagent.cluster.tokens import TokenRules
from tests.support.device import Device
from tests.support.hubrun import HubDirectory


def token(cluster: HubDirectory, **rules: object) -> NewToken:
    """A new token of the cluster."""
    return create_token(cluster.files, TokenRules(**rules), SystemClock())  # type: ignore[arg-type]


def members(cluster: HubDirectory) -> list[str]:
    """The names of the nodes that are served."""
    return [node.name for node in list_nodes(cluster.files) if node.state == "member"]


async def refusal(device: Device, made: NewToken, **more: object) -> str:
    """Why the device is not let in."""
    with pytest.raises(PermanentError) as caught:
        await device.enrol(made, **more)  # type: ignore[arg-type]
    return str(caught.value)
