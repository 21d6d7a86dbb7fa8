"""The time of day as the hub signs it, for nodes that may not know it.

The answer holds the nonce of the question, so that it is no older than the question. What it says lies
between the moments at which the one was sent and the other came in.
"""

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import require
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import Envelope, Signer, decode_envelope, encode_envelope, sign_envelope

TIME_TYPE = "application/vnd.edgeagent.time.v1+json"
TIME = "time"
"""The method, below ``hub/rpc/<node>/``."""
NONCE_BYTES = 16
MAX_QUESTION_BYTES = 256
MAX_ANSWER_BYTES = 65_536
"""With a chain of 64 rotations it has some 30 000."""
LATEST = 253_370_764_800.0
"""The year 9999: no later time can be written down."""


class TimeQuestion(KubernetesStruct, frozen=True):
    """``nonce`` is 16 random bytes."""

    nonce: bytes


class SignedTime(KubernetesStruct, frozen=True):
    """``time`` in seconds since the epoch, when the question with ``nonce`` was answered."""

    cluster: str
    nonce: bytes
    time: float


def encode_question(nonce: bytes) -> bytes:
    """The bytes of a question. It is not signed: anybody may know what time it is."""
    return canonical_json(TimeQuestion(nonce=nonce))


def decode_question(data: bytes) -> bytes:
    """The nonce; InvalidObjectError where it is no question."""
    question = decode_json(data, TimeQuestion, limit=MAX_QUESTION_BYTES)
    require(len(question.nonce) == NONCE_BYTES, "nonce", f"must have {NONCE_BYTES} bytes")
    return question.nonce


def encode_time(answer: SignedTime, key_id: str, key: Signer, chain: list[Envelope]) -> bytes:
    """The bytes of an answer, signed by the cluster's signing key, with the chain that led to it."""
    return encode_envelope(sign_envelope(TIME_TYPE, canonical_json(answer), key_id, key, chain))


class ReceivedTime:
    """An answer as it came in. ``claimed`` is what it says; nothing is shown about who says so.

    InvalidObjectError or PermanentError where it is no answer to the question with ``nonce``.
    """

    def __init__(self, data: bytes, *, cluster: str, nonce: bytes) -> None:
        if len(data) > MAX_ANSWER_BYTES:
            raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_ANSWER_BYTES} allowed")
        self._envelope = decode_envelope(data, TIME_TYPE)
        answer = decode_json(self._envelope.payload, SignedTime, limit=MAX_ANSWER_BYTES)
        if (answer.cluster, answer.nonce) != (cluster, nonce):
            raise PermanentError("the answer is to another question", reason="WrongRequest")
        require(0 < answer.time < LATEST, "time", "is none that can be")
        self.claimed = answer.time

    def verify(self, anchor: TrustAnchor) -> float:
        """The time, shown to be the hub's own; PermanentError where it is not."""
        # Imported only now: a node whose clock is right needs no cryptography in memory.
        from edgeagent.wire.trust import verify

        verify(self._envelope, anchor)
        return self.claimed
