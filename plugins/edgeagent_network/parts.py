"""What the table is composed of. Who adds a part adds it here, and nowhere else."""

from collections.abc import Callable, Sequence
from typing import Protocol

from edgeagent.api.network import NetworkState, Problem
from edgeagent_network.base import BASE
from edgeagent_network.config import NetworkConfig
from edgeagent_network.hostports import HostPorts
from edgeagent_network.nameguard import NameGuard
from edgeagent_network.policies import Policies
from edgeagent_network.ruleset import Fragment
from edgeagent_network.services import Services, knows_sctp
from edgeagent_network.table import BASE_KEY

Fragments = dict[str, Fragment]


class Part(Protocol):
    """Makes the fragments of one kind of object."""

    def fragments(self, state: NetworkState) -> tuple[Fragments, list[Problem]]:
        """The fragments by key, of unchanged objects the very same as before, and what is not in force.

        Keys are the part's own: ``<kind> <namespace>/<name>`` where an object brings the fragment.
        """


class Base:
    """The frame."""

    def fragments(self, state: NetworkState) -> tuple[Fragments, list[Problem]]:
        """Always the same."""
        return {BASE_KEY: BASE}, []


class _HostPorts:
    """Host ports give way to Services' node ports, so they are asked after these."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ports = HostPorts()

    def fragments(self, state: NetworkState) -> tuple[Fragments, list[Problem]]:
        """Those of ``HostPorts``."""
        return self._ports.fragments(state, self._services.node_ports)


def compose(config: NetworkConfig) -> Sequence[Part]:
    """All parts, in the order in which they are asked. PermanentError where ``config`` names no range."""
    services = Services(config, sctp=knows_sctp())
    return (Base(), services, _HostPorts(services), Policies(), NameGuard(config))


Compose = Callable[[NetworkConfig], Sequence[Part]]
