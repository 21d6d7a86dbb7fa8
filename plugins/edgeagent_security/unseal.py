"""The unsealer: a sealed Secret in, the Secret out, with a key that never leaves this process."""

import ctypes
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import SealedSecret, Secret
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.sealing import unseal_secret
from edgeagent.wire.streamkey import unseal_stream

_PR_SET_DUMPABLE = 4


def _refuse_dumps() -> None:
    """From now on this process is in no core dump, and no other without privilege may look into its memory.

    prctl(2). It never fails with these arguments.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class NodeUnsealer:
    """Opens what was sealed to the key in ``key_file`` (32 raw bytes)."""

    def __init__(self, key_file: Path, *, cluster: str, node: str) -> None:
        self._key_file = key_file
        self._cluster = cluster
        self._node = node

        _refuse_dumps()

    def unseal(self, sealed: SealedSecret) -> Secret:
        """The Secret in clear; PermanentError names the secret, never its content."""
        key = self._key()
        try:
            return unseal_secret(sealed, key, cluster=self._cluster, node=self._node)
        except PermanentError as error:
            meta = sealed.metadata
            raise PermanentError(
                f"secret {meta.namespace}/{meta.name}: {error}", reason="UnsealFailed"
            ) from None

    def unseal_stream(self, sealed: bytes, context: bytes) -> bytes:
        """The key of a stream with what is private of its call; PermanentError where it is for another."""
        try:
            return unseal_stream(sealed, self._key(), context)
        except PermanentError as error:
            raise PermanentError(f"the key of the stream: {error}", reason="UnsealFailed") from None

    def _key(self) -> SealingKey:
        try:
            return SealingKey(self._key_file.read_bytes())
        except (OSError, ValueError) as error:
            raise PermanentError(
                f"the node's sealing key cannot be used: {error}", reason="UnsealFailed"
            ) from None
