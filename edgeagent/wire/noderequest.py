"""What the hub asks of a node: an operator's own signed call, signed again for one node, and short-lived.

The hub vouches that the operator still counts; the operator's signature says what is asked. Both are needed.
"""

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import REQUEST_TYPE, Envelope, decode_envelope, sign_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.rpc import MAX_RPC_BYTES, NODE_REQUEST_SECONDS
from edgeagent.wire.trust import verify

MAX_REQUEST_BYTES = MAX_RPC_BYTES * 4 // 3 + 4_096
"""An operator's call in base64, and what is around it."""


class NodeRequest(KubernetesStruct, frozen=True):
    """A request as the hub signs it: ``expires`` in seconds since the epoch; ``nonce`` is used once.

    ``call`` is what the operator signed (``edgeagent.wire.operatorcalls``): its parameters, and where the
    answer goes.
    """

    cluster: str
    node: str
    method: str
    nonce: str
    expires: float
    call: bytes


def sign_request(request: NodeRequest, key: SigningKey, chain: list[Envelope]) -> Envelope:
    """The envelope that a node accepts."""
    return sign_envelope(REQUEST_TYPE, canonical_json(request), key.public.id, key, chain)


def open_request(
    payload: bytes, anchor: TrustAnchor, *, node: str, method: str, now: float
) -> tuple[NodeRequest, TrustAnchor]:
    """The request, shown to be signed, meant for this node and method, and not expired.

    Raises InvalidObjectError or PermanentError. A request from the future by more than its whole life is
    taken as a wrong clock on one side, and refused too. Whether the nonce is new is the caller's to know.
    """
    envelope = decode_envelope(payload, REQUEST_TYPE)
    newest = verify(envelope, anchor)
    request = decode_json(envelope.payload, NodeRequest, limit=MAX_REQUEST_BYTES)
    if (request.cluster, request.node, request.method) != (anchor.cluster, node, method):
        raise PermanentError("the request is for another node or method", reason="WrongNode")
    if not now <= request.expires <= now + 2 * NODE_REQUEST_SECONDS:
        raise PermanentError("the request has expired (or a clock is wrong)", reason="Expired")
    return request, newest
