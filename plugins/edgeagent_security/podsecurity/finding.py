"""What a rule finds in a pod, and the words that all rules share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.security import SecurityContext


class Finding(NamedTuple):
    """A rule that a pod breaks. ``reason`` and ``detail`` are Kubernetes' words, ``fields`` the places.

    A field that must be set and is not is named too.
    """

    reason: str
    detail: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        """As Kubernetes writes it: ``host namespaces (hostNetwork=true)``."""
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Rule = Callable[[Pod], Finding | None]
"""One control of the standards: what it finds, or None."""


class Placed(NamedTuple):
    """A container, and where it is: ``spec.initContainers[0]``."""

    path: str
    container: Container

    @property
    def security(self) -> SecurityContext:
        """Its own security context, with nothing set where it has none."""
        return self.container.security_context or SecurityContext()


def containers(pod: Pod) -> Iterator[Placed]:
    """All containers of a pod, its init containers first."""
    for index, container in enumerate(pod.spec.init_containers):
        yield Placed(f"spec.initContainers[{index}]", container)
    for index, container in enumerate(pod.spec.containers):
        yield Placed(f"spec.containers[{index}]", container)


def joined(items: Iterable[str]) -> str:
    """``"a", "b"``."""
    return ", ".join(f'"{item}"' for item in items)


def plural(singular: str, plural_: str, count: int) -> str:
    """The one or the other."""
    return singular if count == 1 else plural_


def named(names: Sequence[str]) -> str:
    """``container "a"``, or ``containers "a", "b"``."""
    return f"{plural('container', 'containers', len(names))} {joined(names)}"


def setters(pod: bool, names: Sequence[str]) -> str:
    """Who has set something: the pod, containers of it, or both."""
    return " and ".join([*(["pod"] if pod else []), *([named(names)] if names else [])])


def in_user_namespace(pod: Pod) -> bool:
    """Whether root in the pod is not root on the node: some rules do not hold then."""
    return pod.spec.host_users is False


def on_windows(pod: Pod) -> bool:
    """Whether the pod is for Windows, where some fields do not exist."""
    return pod.spec.os is not None and pod.spec.os.name == "windows"
