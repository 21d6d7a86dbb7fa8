"""Who calls the hub, and what they may do: signed calls opened once each, judged by the store's bindings.

The broker says who calls, but is not believed: the operator's own signature is. May not serve a call.
"""

from collections.abc import Iterable
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.trust import CLUSTER_TRUST_NAME, ClusterTrust
from edgeagent.cluster.layout import read_file
from edgeagent.cluster.store import Store
from edgeagent.wire.authority import HUB_TARGET, NODE_METHODS, RESOURCES, require
from edgeagent.wire.operatorcalls import (
    CALL_SECONDS,
    OperatorCall,
    OperatorRequest,
    OperatorTrust,
    open_call,
    read_call,
)

REPLAYED = "Replayed"
"""The reason why a call is refused that was opened before: nobody waits for an answer to it."""
MAX_NONCES = 100_000
"""Calls that may be remembered at once; more in half a minute are refused."""


class Caller:
    """An operator whose call was opened. ``payload`` is the call as it was signed, for a node to verify."""

    def __init__(self, store: Store, call: OperatorCall, payload: bytes) -> None:
        self._store = store
        self._serial = call.serial
        self.name = call.operator
        self.request: OperatorRequest = call.request
        self.payload = payload

    def require(self, verb: str, resource: str, namespace: str = "", name: str = "") -> None:
        """ForbiddenError unless a role that is bound to the operator gives the right."""
        require(bindings(self._store), self.name, verb, resource, namespace, name)

    def require_kind(self, verb: str, kind: str, namespace: str = "", name: str = "") -> None:
        """``require`` for an object of a kind."""
        self.require(verb, RESOURCES.get(kind, kind.lower()[:80]), namespace, name)

    @property
    def is_revoked(self) -> bool:
        """Whether the certificate was revoked since the call was opened."""
        trust = cluster_trust(self._store)
        return trust is not None and self._serial in trust.spec.revoked_operators


class OperatorGate:
    """Opens calls. ``ca`` is the file of the CA certificates to believe.

    ``served`` are the nonces of calls that the hub before this one served and that may still be alive: all
    that did something, and so are in its audit log. What only reads may be read again, by the same operator.
    """

    def __init__(
        self, store: Store, *, cluster: str, ca: Path, clock: Clock, served: Iterable[str] = ()
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._ca = ca
        self._clock = clock
        self._nonces = dict.fromkeys(served, clock.now() + 2 * CALL_SECONDS)

    def open(self, payload: bytes, *, user: str, method: str, answers_to: bytes) -> Caller:
        """The caller, shown to be ``user``, as the topic says. ``answers_to``: of a sealed call.

        Raises InvalidObjectError or PermanentError (``Unauthorized``, ``REPLAYED``). The call counts once.
        """
        now = self._clock.now()
        said = read_call(payload)
        if said.nonce in self._nonces:
            raise PermanentError("the call was already served", reason=REPLAYED)
        target = HUB_TARGET
        if method in NODE_METHODS:
            target = said.target
            if target == HUB_TARGET:
                raise PermanentError(f"a call of {method} must say which node it is for", reason="Invalid")
        call = open_call(payload, self._trust(), cluster=self._cluster, target=target, method=method, now=now)
        request = call.request
        if request.user != user:
            raise _unauthorized(f"the call of {call.operator} came under the name of {user[:80]!r}")
        if answers_to and request.answers_to != answers_to:
            raise _unauthorized("the call is sealed with another key for its answer than the signed one")
        self._once(request.nonce, request.expires, now)
        return Caller(self._store, call, payload)

    def _once(self, nonce: str, expires: float, now: float) -> None:
        # They come about in the order in which they end, so what has ended is at the front.
        while self._nonces and next(iter(self._nonces.values())) < now:
            del self._nonces[next(iter(self._nonces))]
        if len(self._nonces) >= MAX_NONCES:
            raise PermanentError(
                "the hub has too many calls to remember: try again", reason="TooManyRequests"
            )
        self._nonces[nonce] = expires

    def _trust(self) -> OperatorTrust:
        bundle = read_file(self._ca).decode(errors="replace")
        trust = cluster_trust(self._store)
        if trust is None:
            return OperatorTrust(bundle)
        return OperatorTrust(bundle, frozenset(trust.spec.revoked_operators))


def bindings(store: Store) -> Iterable[RoleBinding | ClusterRoleBinding]:
    """All bindings of the cluster."""
    for stored in store.select("RoleBinding"):
        yield decode_json(stored.body, RoleBinding)
    for stored in store.select("ClusterRoleBinding"):
        yield decode_json(stored.body, ClusterRoleBinding)


def cluster_trust(store: Store) -> ClusterTrust | None:
    """What nodes are told to trust; None before there was anything to tell."""
    stored = store.find("ClusterTrust", "", CLUSTER_TRUST_NAME)
    return decode_json(stored.body, ClusterTrust) if stored is not None else None


def _unauthorized(message: str) -> PermanentError:
    return PermanentError(message, reason="Unauthorized")
