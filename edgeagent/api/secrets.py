"""Unsealer: what a secrets plugin answers with."""

from typing import Protocol

from edgeagent.api.objects.config import SealedSecret, Secret


class Unsealer(Protocol):
    """Opens secrets that were sealed to this node."""

    def unseal(self, sealed: SealedSecret) -> Secret:
        """The Secret in clear. PermanentError where it was not sealed to this node, or was changed."""

    def unseal_stream(self, sealed: bytes, context: bytes) -> bytes:
        """What an operator sealed to this node for the stream of this context. PermanentError as
        ``unseal``.
        """
