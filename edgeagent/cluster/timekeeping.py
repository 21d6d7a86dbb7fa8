"""The hub's answers to nodes that ask what time it is: signed, so that a node may go by it."""

import logging
from collections.abc import Callable

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.signing import Signing
from edgeagent.wire.signedtime import SignedTime, decode_question, encode_time

log = logging.getLogger(__name__)


class Timekeeping:
    """Answers by ``clock``, the hub's own, which has to be right."""

    def __init__(self, cluster: str, signing: Callable[[], Signing], clock: Clock) -> None:
        self._cluster = cluster
        self._signing = signing
        self._clock = clock

    def answer(self, node: str, data: bytes) -> bytes | None:
        """The answer to ``node``, or None where it did not ask a fit question."""
        try:
            nonce = decode_question(data)
        except EdgeAgentError as error:
            log.warning("%s asks for the time in a way that is not understood: %s", node, error)
            return None
        signing = self._signing()
        time = SignedTime(cluster=self._cluster, nonce=nonce, time=self._clock.now())
        return encode_time(time, signing.key.public.id, signing.key, list(signing.chain))
