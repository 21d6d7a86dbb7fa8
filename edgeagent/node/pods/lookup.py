"""What a pod's spec may refer to: objects of its namespace, and facts about the pod and its node."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.pod import Pod


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds objects by name in one namespace; None where there is none.

    Finding a Secret opens it, which may raise TemporaryError or PermanentError.
    """

    config_map: Callable[[str], ConfigMap | None]
    secret: Callable[[str], Awaitable[Secret | None]]


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod and what is known of it where it runs. ``allocatable``: the node's resources in base units."""

    pod: Pod
    node_name: str
    host_ip: str = ""
    pod_ips: Sequence[str] = ()
    allocatable: Mapping[str, float] = field(default_factory=dict)
