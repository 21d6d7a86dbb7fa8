"""The node's certificate over the years: when it is renewed, how, and what is said when that fails.

A failure ends nothing: the session that is up stays up, the pair of key and certificate in use stays in use,
and it is tried again. May not know how a question reaches the hub: it is handed two ways, and uses the
session where there is one.
"""

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.trust import ClusterTrust, ClusterTrustSpec
from edgeagent.node.identity import IdentityDir
from edgeagent.node.renewalschedule import Schedule, ScheduleFile, digest_of, plan
from edgeagent.node.renewedfiles import RenewedFiles, TlsFiles
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import get_meta, set_meta
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import digest
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.rpc import RpcError
from edgeagent.wire.tls import client_context

if TYPE_CHECKING:
    from edgeagent.wire.certificates import PrivateKey

log = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 60.0
RETRY_CEILING_SECONDS = 3_600.0
RETRY_LEAST_SECONDS = 5.0
SHUT_OUT_AGAIN_SECONDS = 120.0
LONGEST_WAIT_SECONDS = 86_400.0
"""A wall clock may be set: so long after that at the latest it is looked at again."""

_REFUSED = ("TLS", "SSL", "certificate")
"""What the reason for a lost connection has in it where a certificate was refused, on either side."""
_TRUST = "cluster_trust"


class RenewalMeans(msgspec.Struct, frozen=True):
    """What a renewal is given. ``ask`` and ``ask_at_door``: a request's bytes to the hub, its answer's back.

    ``anchor``: the signing key in force. ``probe``: connect once with a context, and raise where the broker
    refuses. ``use``: the context for connections from now on. ``connected``: whether there is a session.
    ``floor``: a time that has passed for good. ``on_time``: the hub said what time it is,
    and by how many seconds that may be off.
    """

    cluster: str
    node: str
    files: IdentityDir
    database: Database
    clock: Clock
    rng: random.Random
    now: Callable[[], float]
    anchor: Callable[[], TrustAnchor]
    objects: Callable[[], Sequence[KubernetesObject]]
    connected: Callable[[], bool]
    ask: Callable[[bytes], Awaitable[bytes]]
    ask_at_door: Callable[[bytes, Sequence[str]], Awaitable[bytes]]
    probe: Callable[[ssl.SSLContext], Awaitable[None]]
    use: Callable[[ssl.SSLContext], None]
    say: Callable[[Literal["Normal", "Warning"], str, str], None]
    on_change: Callable[[], None]
    floor: Callable[[], float] = lambda: 0.0
    on_time: Callable[[float, float], None] = lambda _time, _within: None


class Renewal:
    """Renews in time. ``run`` works until cancelled; the other methods tell it what happened."""

    def __init__(self, means: RenewalMeans) -> None:
        self._means = means
        self._files = RenewedFiles(means.files)
        self._news = asyncio.Event()
        self._backoff = Backoff(means.rng, first=RETRY_FIRST_SECONDS, ceiling=RETRY_CEILING_SECONDS)
        self._kept = ScheduleFile(means.files)
        self._schedule: Schedule | None = None
        self._key_pem = ""
        self._shut_out = False
        self._just_renewed = False
        self._unconfirmed = False
        self._resume_at = 0.0
        self._problem: tuple[str, str] | None = None

    @property
    def tls_files(self) -> TlsFiles:
        """What to connect with."""
        return self._files.in_force

    @property
    def condition(self) -> tuple[bool, str, str]:
        """Of the condition ``CertificateRenewed``: whether it is good, the reason and the message."""
        if self._problem is not None:
            return False, *self._problem
        expires = self._schedule.expires if self._schedule is not None else 0.0
        return True, "Current", f"valid until {rfc3339(expires)}" if expires else ""

    def connected(self) -> None:
        """The broker has accepted a session."""
        if self._shut_out:
            self._backoff.reset()
        self._shut_out = False
        self._news.set()

    def disconnected(self, reason: str) -> None:
        """There is no session, and why. Refused certificates, on either side, are a case for the listener."""
        expired = self._schedule is not None and self._means.now() >= self._schedule.expires
        refused = any(word in reason for word in _REFUSED)
        if (refused or expired) and not self._shut_out:
            self._shut_out = True
            self._news.set()

    def switched(self) -> None:
        """Desired state is another: so may be the CAs to believe."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            self._files.settle()
        except OSError as error:
            log.warning("the renewed certificate stays in a folder of its own: %s", error.strerror)
        while True:
            self._news.clear()
            try:
                self._follow_trust()
                wait = await self._step()
            except EdgeAgentError as error:
                wait = self._failed(error)
            await self._pause(wait)

    async def _step(self) -> float | None:
        """Do what is to be done now; the seconds after which to look again, None where only news matter."""
        means = self._means
        schedule = self._scheduled()
        if self._unconfirmed and means.connected():
            await self._confirm()
        if (held := self._resume_at - means.clock.monotonic()) > 0:
            return held
        if self._shut_out and not means.connected():
            await self._renew(lambda data: means.ask_at_door(data, self._listeners()))
            # Should the broker not let this one in either, the next is not made at once.
            return self._hold(SHUT_OUT_AGAIN_SECONDS)
        if (left := schedule.left(means.now())) > 0:
            return min(left, LONGEST_WAIT_SECONDS)
        if not means.connected():
            return None
        await self._renew(means.ask)
        self._backoff.reset()
        return 0.0

    def _hold(self, least: float = RETRY_LEAST_SECONDS) -> float:
        """Try nothing for a while: how long."""
        wait = least + self._backoff.next()
        self._resume_at = self._means.clock.monotonic() + wait
        return wait

    async def _pause(self, seconds: float | None) -> None:
        tasks = [asyncio.ensure_future(self._news.wait())]
        if seconds is not None:
            tasks.append(asyncio.ensure_future(self._sleep(seconds)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _sleep(self, seconds: float) -> Literal[True]:
        await self._means.clock.sleep(seconds)
        return True

    def _failed(self, error: EdgeAgentError) -> float | None:
        reason = getattr(error, "reason", "") or "RenewalFailed"
        if reason == "Disconnected":
            return None  # the next connection is as good as this one was
        problem = reason, f"the certificate could not be renewed: {error}"
        if problem != self._problem:
            self._problem = problem
            self._means.say("Warning", "CertificateNotRenewed", problem[1])
            self._means.on_change()
        return self._hold()

    # What is in the files

    def _scheduled(self) -> Schedule:
        """When to renew."""
        certificate, ca = self._read()
        of = digest_of(certificate, ca)
        if self._schedule is None or self._schedule.of != of:
            kept = self._kept.read(of)
            if kept is None:
                means, trust = self._means, self._trust() or ClusterTrustSpec()
                kept = plan(
                    certificate,
                    ca,
                    means.rng,
                    means.now(),
                    just_renewed=self._just_renewed,
                    spread=trust.renewal_seconds,
                )
                self._kept.write(kept)
            self._just_renewed = False
            self._schedule = kept
            self._means.on_change()
        return self._schedule

    def _read(self) -> tuple[bytes, bytes]:
        files = self._files.in_force
        try:
            return files.certificate.read_bytes(), files.ca.read_bytes()
        except OSError as error:
            raise TemporaryError(f"{error.filename} cannot be read: {error.strerror}") from None

    # The CAs to believe

    def _trust(self) -> ClusterTrustSpec | None:
        found = (one.spec for one in self._means.objects() if isinstance(one, ClusterTrust))
        return next(found, None)

    def _listeners(self) -> Sequence[str]:
        trust = self._trust()
        return trust.enrolment if trust is not None else ()

    def _follow_trust(self) -> None:
        """Believe what the signed index says; once, so that an older one does not undo what came since."""
        trust = self._trust()
        if trust is None or not trust.ca_bundle:
            return
        bundle = "".join(trust.ca_bundle)
        told = digest(bundle.encode())
        if told == get_meta(self._means.database, _TRUST):
            return
        if bundle.encode() != self._read()[1]:
            from edgeagent.wire.certificates import read_bundle

            try:
                count = len(read_bundle(bundle))
            except PermanentError as error:
                log.error("the CAs that the hub names cannot be used, the ones before stay: %s", error)
            else:
                self._files.write_ca(bundle)
                log.info("the cluster has %d CAs to believe now", count)
                self._use()
        try:
            set_meta(self._means.database, [(_TRUST, told)])
        except TemporaryError as error:
            log.warning("that these CAs were heard of could not be kept: %s", error)

    def _use(self) -> None:
        files = self._files.in_force
        self._means.use(self._context(files))

    def _context(self, files: TlsFiles) -> ssl.SSLContext:
        return client_context(files.ca, files.certificate, files.key, floor=self._means.floor)

    # Renewing

    async def _renew(self, ask: Callable[[bytes], Awaitable[bytes]]) -> None:
        from edgeagent.wire.certificates import PrivateKey, read_certificate
        from edgeagent.wire.renewal import (
            NONCE_BYTES,
            RenewalRequest,
            check_renewed,
            encode_renewal,
            open_renewal_answer,
        )

        means = self._means
        # The same key as long as it takes: the hub then finds what it has issued, should an answer be lost.
        key = PrivateKey(self._key_pem) if self._key_pem else PrivateKey.generate()
        self._key_pem = key.pem
        request = RenewalRequest(
            cluster=means.cluster,
            node=means.node,
            certificate=read_certificate(self._read()[0]).der,
            nonce=secrets.token_bytes(NONCE_BYTES),
            csr=key.request(means.node),
        )
        asked, began = encode_renewal(request, self._own_key()), means.clock.monotonic()
        answer = open_renewal_answer(await ask(asked), asked, means.anchor())
        if answer.time:
            within = (means.clock.monotonic() - began) / 2
            means.on_time(answer.time + within, within)
        if answer.reason:
            raise RpcError(answer.reason, answer.message)
        own = check_renewed(answer, key)
        staged = self._files.stage(ca=answer.ca, certificate=answer.certificate, key=key.pem)
        if means.connected():
            # What works is not given up for what has not been shown to.
            await means.probe(self._context(staged))
        self._files.adopt()
        self._key_pem, self._problem = "", None
        self._unconfirmed = self._just_renewed = True
        try:
            self._files.settle()
        except OSError as error:
            log.warning("the renewed certificate stays in a folder of its own: %s", error.strerror)
        self._use()
        means.say("Normal", "CertificateRenewed", f"certificate {own.serial}: {rfc3339(own.not_after)}")
        means.on_change()

    async def _confirm(self) -> None:
        """Tell the hub that the new key is in use, so that it takes the old one no more.

        Where this does not get there, the next renewal says it.
        """
        from edgeagent.wire.certificates import read_certificate
        from edgeagent.wire.renewal import NONCE_BYTES, RenewalRequest, encode_renewal, open_renewal_answer

        means = self._means
        self._unconfirmed = False
        request = RenewalRequest(
            cluster=means.cluster,
            node=means.node,
            certificate=read_certificate(self._read()[0]).der,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        asked = encode_renewal(request, self._own_key())
        try:
            open_renewal_answer(await means.ask(asked), asked, means.anchor())
        except EdgeAgentError as error:
            log.warning("the hub was not told of the new certificate: %s", error)
            self._unconfirmed = isinstance(error, TemporaryError)

    def _own_key(self) -> "PrivateKey":
        from edgeagent.wire.certificates import PrivateKey

        try:
            return PrivateKey(self._files.in_force.key.read_bytes())
        except OSError as error:
            raise TemporaryError(f"{error.filename} cannot be read: {error.strerror}") from None
