"""The hub's answers to nodes that renew their certificates, whichever door they come in at.

May not talk to the broker: bytes in, bytes out. Who asks is shown by the node's TLS key alone, which the
store knows; neither the name on the session nor the dates of the certificate in use count.
"""

import logging
import os
from collections.abc import Callable

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.cluster.authorities import Authorities, load_authorities
from edgeagent.cluster.certificates import StoredCertificate, confirm, find, pending, record_certificate
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.settings import HubSettings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store, StoredNode
from edgeagent.wire.certificates import check_chain, read_certificate, read_certificate_der
from edgeagent.wire.renewal import (
    MAX_MESSAGE,
    ReceivedRenewal,
    RenewalAnswer,
    decode_renewal,
    encode_renewal_answer,
)
from edgeagent.wire.rpc import RpcError

log = logging.getLogger(__name__)

BURST = 4
BURST_SECONDS = 60.0
"""A node gets no more than so many new certificates in this time: one whose disk takes none asks again."""


class AuthoritySource:
    """The CAs as they are in the files now: a rotation by another process is seen at the next use."""

    def __init__(self, files: HubFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._stamp: object = None
        self._authorities: Authorities | None = None

    def current(self) -> Authorities:
        """PermanentError where there is no key to issue with, and none was there before."""
        stamp = self._read_stamp()
        if self._authorities is None or stamp != self._stamp:
            self._authorities, self._stamp = load_authorities(self._files, self._clock), stamp
        return self._authorities

    def _read_stamp(self) -> object:
        found: list[tuple[int, int] | None] = []
        for path in (self._files.ca_certificate, self._files.ca_key, self._files.next_ca):
            try:
                status = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_mtime_ns))
        return found


class Renewals:
    """Answers renewal requests."""

    def __init__(
        self,
        store: Store,
        authorities: Callable[[], Authorities],
        signing: Callable[[], Signing],
        settings: HubSettings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._signing = signing
        self._settings = settings
        self._clock = clock

    def answer(self, data: bytes, *, name: str = "") -> bytes | None:
        """The bytes of the answer to a request; None where there is nobody to whom one is owed.

        ``name`` is the node whose own topic it came in on, empty at the door that is open to all. Only who
        has the key of a node is answered. What others ask is said in the log where it came through a session
        with a certificate; strangers must not fill it.
        """
        level = logging.WARNING if name else logging.DEBUG
        try:
            received = decode_renewal(data, cluster=self._settings.cluster)
        except EdgeAgentError as error:
            log.log(level, "a request to renew a certificate is passed over: %s", error)
            return None
        request = received.request
        if name not in ("", request.node):
            log.warning("%s asks to renew the certificate of %s, and is passed over", name, request.node)
            return None
        node = self._store.any_node(request.node)
        if node is None or (used := self._key_used(node, received)) is None:
            log.log(
                level,
                "a request to renew the certificate of %s is not signed with its key, and is passed over",
                request.node,
            )
            return None
        answer = RenewalAnswer(
            cluster=request.cluster, node=request.node, request=received.digest, time=self._clock.now()
        )
        try:
            answer = msgspec.structs.replace(
                answer,
                certificate=self._grant(node, received, used) if request.csr else self._confirmed(node),
                ca=self._authorities().bundle,
            )
        except RpcError as refused:
            log.warning("node %s gets no new certificate: %s", node.name, refused)
            answer = msgspec.structs.replace(answer, reason=refused.reason, message=str(refused))
        except EdgeAgentError as error:
            log.error("node %s gets no new certificate: %s", node.name, error)
            message = f"the hub cannot issue certificates now: {error}"[:MAX_MESSAGE]
            answer = msgspec.structs.replace(answer, reason="Unavailable", message=message)
        signing = self._signing()
        return encode_renewal_answer(answer, signing.key.public.id, signing.key, list(signing.chain))

    def _key_used(self, node: StoredNode, received: ReceivedRenewal) -> bytes | None:
        """The key of the node's that made the request; a newer one than counted so far counts from now on."""
        if node.public_key and received.made_with(node.public_key):
            return node.public_key
        for one in pending(self._store, node.name):
            if received.made_with(one.public_key):
                if node.state == "member":
                    self._confirm(one)
                return one.public_key
        shown = self._forgotten(node, received.request.certificate)
        return shown if shown and received.made_with(shown) else None

    def _forgotten(self, node: StoredNode, certificate: bytes) -> bytes:
        """The key of a certificate (DER) that this store does not know, though one of the CAs made it.

        It is the one from before keys were kept, or from after the backup that the store came from: so it
        must be newer than the one that is known, and not revoked. Empty where there is no such key.
        """
        try:
            shown = read_certificate_der(certificate)
            middle = (shown.not_before + shown.not_after) / 2
            check_chain(shown, self._authorities().bundle, now=middle)
        except PermanentError:
            return b""
        known = find(self._store, node.serial)
        revoked = self._store.execute("SELECT 1 FROM revoked WHERE serial = ?", (shown.serial,))
        newer = known is not None and shown.not_before > read_certificate(known.certificate).not_before
        unknown = find(self._store, shown.serial) is None
        fits = shown.common_name == node.name and not revoked and unknown
        return shown.public_key if fits and (newer or shown.serial == node.serial) else b""

    def _confirm(self, used: StoredCertificate) -> None:
        with self._store.transaction():
            confirm(self._store, used)
        log.info("node %s uses its new certificate %s", used.name, used.serial)

    def _confirmed(self, node: StoredNode) -> str:
        self._check_member(node)
        return ""

    def _check_member(self, node: StoredNode) -> None:
        if node.state != "member":
            raise RpcError("Revoked", f"node {node.name} was {node.state}: enrol it anew with a token")

    def _grant(self, node: StoredNode, received: ReceivedRenewal, used: bytes) -> str:
        """The certificate for the key that is wanted, as PEM."""
        self._check_member(node)
        if received.wanted == used:
            raise RpcError("Invalid", "a new certificate is for a new key")
        authorities, now = self._authorities(), self._clock.now()
        waiting = pending(self._store, node.name)
        for one in waiting:
            if one.public_key == received.wanted and one.ca == authorities.current.key_id:
                return one.certificate  # the answer was lost
        if sum(1 for one in waiting if now - one.issued < BURST_SECONDS) >= BURST:
            raise RpcError(
                "TooManyRequests", f"{BURST} certificates in {BURST_SECONDS:.0f} s: try again later"
            )
        days = self._settings.node_certificate_days
        signed = authorities.sign(received.request.csr, node.name, days)
        with self._store.transaction():
            record_certificate(self._store, node.name, signed.certificate, now=now, state="pending")
        log.info("node %s gets certificate %s", node.name, signed.serial)
        return signed.certificate
