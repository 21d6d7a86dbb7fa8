"""What operators may have this node do: who asks is verified, whether they may is judged, all of it is noted.

The node judges by itself, by the bindings of its own signed index: whoever has the hub's place on the broker
cannot make up an operator's call, and a node that knows of no binding does nothing for anybody. May not know
how calls travel.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.trust import ClusterTrust
from edgeagent.node.store.audit import AuditLog
from edgeagent.wire.audit import Verdict
from edgeagent.wire.authority import NODE_METHODS, require
from edgeagent.wire.rpc import CallParams, RpcError

if TYPE_CHECKING:
    from edgeagent.wire.operatorcalls import OperatorCall, OperatorTrust

log = logging.getLogger(__name__)

Method = Callable[[msgspec.Raw, int], Awaitable[object]]
"""Takes the parameters as JSON and the most bytes that an answer may have; returns the result."""
StreamMethod = Callable[["OperatorCall"], Awaitable[object]]
"""Begins a stream for a call, and returns what the call is answered with."""


class Operations:
    """Opens and admits calls for the ``methods`` that this node serves, and keeps ``audit``.

    ``streams`` are the methods that begin a stream.

    ``ca`` is the file of the CA certificate from enrolment, ``objects`` is desired state, ``now`` the time by
    which calls expire.
    """

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        audit: AuditLog,
        ca: Path,
        objects: Callable[[], Iterable[KubernetesObject]],
        methods: Mapping[str, Method],
        streams: Mapping[str, StreamMethod],
        now: Callable[[], float],
        on_audit: Callable[[], None],
    ) -> None:
        self.audit = audit
        self._cluster = cluster
        self._node = node
        self._ca = ca
        self._objects = objects
        self._methods = methods
        self._streams = streams
        self._now = now
        self._on_audit = on_audit

    def open(self, method: str, payload: bytes) -> "OperatorCall":
        """The call that the hub passed on, shown to be an operator's own; raises, and notes it, where not."""
        # Imported only now: a node that nobody asks needs no cryptography in memory.
        from edgeagent.wire.operatorcalls import open_call

        try:
            return open_call(
                payload, self._trust(), cluster=self._cluster, target=self._node, method=method,
                now=self._now(),
            )  # fmt: skip
        except EdgeAgentError as error:
            # The hub has signed it, so this is nobody's noise: it is worth a row.
            self._note("", method, "", "refused", str(error), "")
            raise

    def admit(self, call: "OperatorCall") -> Method:
        """What serves the call, once its operator may have that done and it is noted; raises otherwise.

        PermanentError with reason ``Forbidden`` or ``Replayed``, RpcError, or TemporaryError where it cannot
        be noted: what would leave no trace is not done.
        """
        request = call.request
        if self.audit.seen(request.nonce):
            self._note(call.operator, request.method, "", "refused", "the call was made again", "")
            raise PermanentError("the call was already served", reason="Replayed")
        target = ""
        try:
            spec = NODE_METHODS.get(request.method)
            serve = self._method(call)
            if spec is None or serve is None:
                raise RpcError("MethodNotAllowed", f"this node knows no method {request.method[:40]!r}")
            params: CallParams = decode_json(bytes(request.params), spec.params)
            namespace, name = params.about()
            target = "/".join(part for part in (spec.resource, namespace, name) if part)
            require(self._bindings(), call.operator, spec.verb, spec.resource, namespace, name)
        except EdgeAgentError as error:
            self._note(call.operator, request.method, target, "refused", str(error), request.nonce)
            raise
        self._note(call.operator, request.method, target, "allowed", "", request.nonce)
        return serve

    def _method(self, call: "OperatorCall") -> Method | None:
        begin = self._streams.get(call.request.method)
        if begin is None:
            return self._methods.get(call.request.method)
        return lambda _params, _limit: begin(call)

    def check(self, call: "OperatorCall") -> None:
        """PermanentError unless what was admitted would be so now: its operator counts, and has the right."""
        spec = NODE_METHODS[call.request.method]
        call.check_certificate(self._now())
        if call.serial in self._trust().revoked:
            raise PermanentError(
                f"the certificate of operator {call.operator} was revoked", reason="Unauthorized"
            )
        namespace, name = decode_json(bytes(call.request.params), spec.params).about()
        require(self._bindings(), call.operator, spec.verb, spec.resource, namespace, name)

    def _note(
        self, operator: str, method: str, target: str, verdict: Verdict, reason: str, nonce: str
    ) -> None:
        self.audit.append(operator, method, target, verdict, reason, nonce, self._now())
        log.log(
            logging.INFO if verdict == "allowed" else logging.WARNING,
            "operator %s asks for %s %s: %s%s",
            operator or "(nobody)", method, target, verdict, f" ({reason})" if reason else "",
        )  # fmt: skip
        self._on_audit()

    def _bindings(self) -> list[RoleBinding | ClusterRoleBinding]:
        return [one for one in self._objects() if isinstance(one, RoleBinding | ClusterRoleBinding)]

    def _trust(self) -> "OperatorTrust":
        from edgeagent.wire.operatorcalls import OperatorTrust

        found = [one.spec for one in self._objects() if isinstance(one, ClusterTrust)]
        bundle = "\n".join(text for spec in found for text in spec.ca_bundle)
        try:
            return OperatorTrust(
                bundle or self._ca.read_text(),
                frozenset(serial for spec in found for serial in spec.revoked_operators),
            )
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(f"{self._ca} cannot be read: {error}", reason="Unauthorized") from None
