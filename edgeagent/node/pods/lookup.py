"""What a pod's spec may refer to: objects of its namespace, and facts about the pod and its node."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import ConfigMap, SealedSecret, Secret
from edgeagent.api.objects.pod import Pod
from edgeagent.node.plugins.facades import UnsealerFacade
from edgeagent.node.pods.wanted import WantedObjects


class Lookup(msgspec.Struct, frozen=True):
    """Finds objects by name in one namespace; None where there is none.

    Finding a Secret opens it, which may raise TemporaryError or PermanentError.
    """

    config_map: Callable[[str], ConfigMap | None]
    secret: Callable[[str], Awaitable[Secret | None]]


def lookup_for(pod: Pod, wanted: WantedObjects, unsealer: UnsealerFacade | None) -> Lookup:
    """What ``pod`` finds among the objects that are wanted."""
    namespace, static = pod.metadata.namespace, wanted.is_static(pod.metadata.uid)

    def config_map(name: str) -> ConfigMap | None:
        found = wanted.find("ConfigMap", namespace, name, static=static)
        return found if isinstance(found, ConfigMap) else None

    async def secret(name: str) -> Secret | None:
        found = wanted.find("Secret", namespace, name, static=static)
        if not isinstance(found, SealedSecret):
            return found if isinstance(found, Secret) else None
        if unsealer is None:
            raise PermanentError(
                f"secret {name!r} cannot be opened: no plugin for secrets is loaded",
                reason="CreateContainerConfigError",
            )
        return await unsealer.unseal(found)

    return Lookup(config_map, secret)


class PodFacts(msgspec.Struct, frozen=True):
    """A pod and what is known of it where it runs. ``allocatable``: the node's resources in base units."""

    pod: Pod
    node_name: str
    host_ip: str = ""
    pod_ips: Sequence[str] = ()
    allocatable: Mapping[str, float] = msgspec.field(default_factory=dict)
