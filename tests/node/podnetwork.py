"""The pod network of the pods' world in memory."""

from collections.abc import Sequence

from edgeagent.api.network import PodSandbox
from edgeagent.node.plugins.facades import NetworkFacade


class MemoryNetwork(NetworkFacade):
    """The plugin by itself: there are no services and no policies to be waited for."""

    def adopt(self, pods: Sequence[PodSandbox]) -> None:
        """Nothing is in force that could be taken back."""
