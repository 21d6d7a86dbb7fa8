"""What an action is taken on, and what came of it."""

from collections.abc import Awaitable, Callable

import msgspec

from edgeagent.api.objects.container import Container
from edgeagent.api.runtime import ExecResult

MESSAGE_LIMIT = 1024
"""Characters of an outcome's message that are kept: as many as Kubernetes allows an event's."""
MAX_PORT = 65535


class ProbeTarget(msgspec.Struct, frozen=True):
    """One run of one container.

    ``host`` is the address for httpGet, tcpSocket and grpc where the action names none: the pod's IP.
    ``exec`` runs a command in the container for at most so many seconds; it raises as
    ``ContainerRuntime.exec_container`` does.
    """

    container: Container
    host: str
    exec: Callable[[list[str], float], Awaitable[ExecResult]]


class Outcome(msgspec.Struct, frozen=True):
    """What came of one action; ``message`` is for a person and bounded, empty where all is well.

    ``unknown``: it could not be found out, which says nothing about the container. ``success`` with a
    message is a success with a warning.
    """

    success: bool
    message: str = ""
    unknown: bool = False


def failure(message: str, *, unknown: bool = False) -> Outcome:
    """A failed action; ``message`` may be of any length, and come from outside."""
    return Outcome(False, bounded(message), unknown)


def bounded(text: str) -> str:
    """``text`` on at most ``MESSAGE_LIMIT`` characters, without what a terminal would obey."""
    kept = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text[:MESSAGE_LIMIT]
    )
    return kept if len(text) <= MESSAGE_LIMIT else kept[:-1] + "…"


def resolve_port(port: int | str, container: Container) -> int:
    """The number that ``port`` means: itself, or that of the container's port of this name.

    A name that no port has may still be a number written as a string. Raises ValueError.
    """
    number = port
    if isinstance(port, str):
        named = (entry.container_port for entry in container.ports if entry.name == port)
        number = next(named, int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0)
        if not number:
            raise ValueError(f"the container has no port named {port!r}")
    if not isinstance(number, int) or not 0 < number <= MAX_PORT:
        raise ValueError(f"invalid port number: {port}")
    return number
