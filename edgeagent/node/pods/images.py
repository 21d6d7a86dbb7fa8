"""Getting a container's image, as its pull policy says.

https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy — with one difference: ``Always``
asks the registry once for each pod and spec, not at each restart, for a restart must not need a network.
"""

from typing import Literal

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.node.plugins.facades import RuntimeFacade

PullPolicy = Literal["Always", "IfNotPresent", "Never"]


def pull_policy(container: Container) -> PullPolicy:
    """The policy in force; where none is set, ``Always`` for ``latest`` or no tag, else ``IfNotPresent``."""
    if container.image_pull_policy:
        return container.image_pull_policy
    name = container.image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


async def pull(runtime: RuntimeFacade, container: Container) -> None:
    """Fetch the image; TemporaryError with reason ``ErrImagePull`` where the registry does not give it."""
    try:
        await runtime.pull_image(container.image, None)
    except TemporaryError as error:
        if error.reason not in ("", "ErrImagePull"):
            raise
        raise TemporaryError(f"{container.image}: {error}", reason="ErrImagePull") from None


async def require_present(runtime: RuntimeFacade, container: Container) -> None:
    """PermanentError with reason ``ErrImageNeverPull`` where the image is not on the node."""
    if await runtime.find_image(container.image) is None:
        raise PermanentError(
            f"{container.image} is not on this node, and imagePullPolicy is Never", reason="ErrImageNeverPull"
        )
