"""NodeFacts: what a plugin knows about the node it is on."""

from typing import Protocol

from edgeagent.api.objects.base import Condition, KubernetesStruct


class Facts(KubernetesStruct, frozen=True):
    """Merged into the node's status: labels, capacity by resource name, and conditions."""

    labels: dict[str, str] = {}
    capacity: dict[str, str] = {}
    conditions: list[Condition] = []


class NodeFacts(Protocol):
    """Answers when the agent starts and at each slow resync."""

    def facts(self) -> Facts:
        """The facts as they are now."""
