"""What node pressure means for the pods that do not run: who must wait, and when evicted ones come back."""

from edgeagent.node.pressure.comeback import wait_before_return, why_not_admitted
from edgeagent.node.pressure.pods import QosClass
from edgeagent.node.pressure.thresholds import ConditionType


class Gate:
    """Set by the pressure manager, asked by the pods' workers. It tells nobody when it changes.

    ``conditions`` are those in force. ``calm``: none is, and after a start of the agent none was for a
    transition period, so that evicted pods may come back.
    """

    def __init__(self, transition_seconds: float) -> None:
        self.conditions: frozenset[ConditionType] = frozenset()
        self.calm = False
        self._transition_seconds = transition_seconds

    def why_shut(self, qos: QosClass, *, critical: bool) -> str:
        """Why a pod that does not run yet must wait, empty where it may start."""
        return why_not_admitted(self.conditions, qos, critical=critical)

    def wait_before_return(self, evictions: int) -> float:
        """The least number of seconds between a pod's last eviction, its ``evictions``-th, and its return."""
        return wait_before_return(evictions, self._transition_seconds)
