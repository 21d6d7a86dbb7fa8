"""What is traced, and how it may end."""

import ipaddress

import msgspec

from edgeagent.api.objects.service import Protocol as Transport
from edgeagent_network.endpoints import Target

MAX_BACKENDS_TOLD = 10
ALLOWED, DROPPED, REFUSED = "allowed", "dropped", "refused"


class Flow(msgspec.Struct, frozen=True):
    """A packet that begins a connection."""

    source: str
    target: str
    port: int
    protocol: Transport

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.target).version

    @property
    def service(self) -> str:
        """``80/TCP``."""
        return f"{self.port}/{self.protocol}"

    def to(self, target: Target) -> "Flow":
        """The same to another target."""
        return Flow(self.source, target.address.text, target.port, self.protocol)
