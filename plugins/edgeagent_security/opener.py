"""The unsealer as the plugin's child is given it at its start: cryptography comes with the first Secret."""

from pathlib import Path

from edgeagent.api.objects.config import SealedSecret, Secret
from edgeagent.api.secrets import Unsealer


class Opener:
    """Implements ``edgeagent.api.secrets.Unsealer``. Most children only judge pods, and open nothing."""

    def __init__(self, key_file: Path, *, cluster: str, node: str) -> None:
        self._key_file = key_file
        self._cluster = cluster
        self._node = node
        self._unsealer: Unsealer | None = None

    def unseal(self, sealed: SealedSecret) -> Secret:
        """The Secret in clear; PermanentError names the secret, never its content."""
        return self._opened().unseal(sealed)

    def unseal_stream(self, sealed: bytes, context: bytes) -> bytes:
        """The key of a stream; PermanentError as of ``unseal``."""
        return self._opened().unseal_stream(sealed, context)

    def _opened(self) -> Unsealer:
        if self._unsealer is None:
            from edgeagent_security.unseal import NodeUnsealer

            self._unsealer = NodeUnsealer(self._key_file, cluster=self._cluster, node=self._node)
        return self._unsealer
