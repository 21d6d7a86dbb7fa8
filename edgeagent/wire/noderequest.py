"""Requests to a node: signed, meant for one node and method, and short-lived."""

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import REQUEST_TYPE, Envelope, decode_envelope, sign_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.rpc import MAX_RPC_BYTES, NODE_REQUEST_SECONDS
from edgeagent.wire.trust import verify


class NodeRequest(KubernetesStruct, frozen=True):
    """A request as it is signed: ``expires`` in seconds since the epoch; ``nonce`` is used once.

    ``answers_to``: the X25519 key to seal the answer to (``edgeagent.wire.privatecalls``), empty for none.
    """

    cluster: str
    node: str
    method: str
    nonce: str
    expires: float
    reply_topic: str
    params: msgspec.Raw
    answers_to: bytes = b""


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
    request = decode_json(envelope.payload, NodeRequest, limit=MAX_RPC_BYTES)
    if (request.cluster, request.node, request.method) != (anchor.cluster, node, method):
        raise PermanentError("the request is for another node or method", reason="WrongNode")
    if not now <= request.expires <= now + 2 * NODE_REQUEST_SECONDS:
        raise PermanentError("the request has expired (or a clock is wrong)", reason="Expired")
    return request, newest
