"""Who becomes a node: requests judged against tokens, names and approvals, in the store.

The hub judges what comes in from devices, and ``edgehub enrolment`` what waits for a person; both do it here,
each in one transaction. May not talk to the broker. Whoever is admitted is a member at once, and whose place
it takes has its certificates revoked, which is then for ``Revocations.enforce`` to follow up.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.authorities import Authorities
from edgeagent.cluster.ca import HUB_NAME
from edgeagent.cluster.certificates import record_certificate
from edgeagent.cluster.revocation import revoke_node
from edgeagent.cluster.settings import HubSettings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store, StoredNode, new_uid
from edgeagent.cluster.tokens import Token, Tokens
from edgeagent.wire.certificates import read_certificate
from edgeagent.wire.enrolment import (
    MAX_MESSAGE,
    EnrolmentAnswer,
    EnrolmentRequest,
    MacKey,
    Received,
    fingerprint,
)

log = logging.getLogger(__name__)

MAX_PENDING = 500
"""How many requests may wait for approval at a time."""
PENDING_SECONDS = 7 * 86_400.0
"""So long a request waits for somebody to decide."""

EnrolmentState = Literal["pending", "approved", "denied"]
_COLUMNS = (
    "token, public_key, node, sealing_key, client_id, csr, state, reason, message, certificate, created"
)
_UNKNOWN = (
    "UnknownToken",
    "the hub does not know this token: it was mistyped, or deleted or expired some time ago."
    " `edgehub token create` makes a new one",
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One device's request that a token was used for, and what became of it. ``created`` in seconds."""

    token: str
    public_key: bytes = field(repr=False)
    node: str
    sealing_key: bytes = field(repr=False)
    client_id: str
    csr: bytes = field(repr=False)
    state: EnrolmentState
    reason: str
    message: str
    certificate: str = field(repr=False)
    created: float

    @property
    def fingerprint(self) -> str:
        """What tells the device's key from others; the device shows the same."""
        return fingerprint(self.public_key)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a request, and with which key to vouch for it: None where nobody may believe it.

    ``admitted``: the node that is a member now and was not, with these keys, before; empty for none.
    """

    answer: EnrolmentAnswer
    key: MacKey | None
    admitted: str = ""


class _Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Enrolments:
    """The requests in the store, and the rules."""

    def __init__(
        self,
        settings: HubSettings,
        store: Store,
        authorities: Callable[[], Authorities],
        signing: Callable[[], Signing],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._authorities = authorities
        self._signing = signing
        self._clock = clock
        self._tokens = Tokens(store, clock)

    # What devices ask

    def judge(self, received: Received) -> Verdict:
        """The answer to a request. A repeated one gets the answer it got, and uses its token once.

        TemporaryError where the store cannot be written.
        """
        token = self._tokens.find(received.request.token)
        if token is None or not received.made_with(token.request_key):
            # The same words for both: who only guesses learns nothing.
            if token is not None:
                self._tokens.note_failure(token)
            return Verdict(_refusal(received, *_UNKNOWN), None)
        try:
            public_key = received.possessed_key()
        except PermanentError as error:
            return Verdict(_refusal(received, error.reason, str(error)), token.answer_key)
        known = self._find(token.id, public_key)
        if known is not None:
            return Verdict(self._answer(received, known), token.answer_key)
        try:
            with self._store.transaction():
                enrolment = self._begin(token, received.request, public_key)
        except _Refused as refused:
            return Verdict(_refusal(received, refused.reason, str(refused)), token.answer_key)
        except PermanentError as error:
            log.error("node %s cannot be enrolled: %s", received.request.node, error)
            message = "the hub cannot make this device a node: its log says why"
            return Verdict(_refusal(received, error.reason or "InternalError", message), token.answer_key)
        admitted = enrolment.node if enrolment.state == "approved" else ""
        return Verdict(self._answer(received, enrolment), token.answer_key, admitted)

    def _begin(self, token: Token, request: EnrolmentRequest, public_key: bytes) -> Enrolment:
        self._check_token(token, request.node)
        self._check_name(token, request.node)
        self._expire_pending()
        if self._pending(request.node):
            raise _Refused(
                "NameTaken",
                f"another device waits for approval as {request.node}: choose another --name, or have it"
                f" denied first (`edgehub enrolment deny {request.node}`)",
            )
        if (
            self._store.execute("SELECT count(*) FROM enrolments WHERE state = 'pending'")[0][0]
            >= MAX_PENDING
        ):
            raise _Refused(
                "TooManyPending",
                f"{MAX_PENDING} devices wait for approval: have some approved or denied, and try again",
            )
        self._tokens.use(token)
        enrolment = Enrolment(
            token=token.id,
            public_key=public_key,
            node=request.node,
            sealing_key=request.sealing_key,
            client_id=request.client_id,
            csr=request.csr,
            state="pending",
            reason="",
            message="",
            certificate="",
            created=self._clock.now(),
        )
        self._store.execute(
            f"INSERT INTO enrolments ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (
                enrolment.token, enrolment.public_key, enrolment.node, enrolment.sealing_key,
                enrolment.client_id, enrolment.csr, enrolment.state, "", "", "", enrolment.created,
            ),
        )  # fmt: skip
        return self._admit(enrolment) if token.approval == "automatic" else enrolment

    def _check_token(self, token: Token, node: str) -> None:
        state = token.state(self._clock.now())
        ended = {
            "Expired": f"the token expired at {rfc3339(token.expires)}",
            "UsedUp": f"the token was used as often as it may be ({token.uses})",
            "Deleted": "the token was deleted",
            "TooManyFailures": "the token ended: too many requests named it without having it",
        }
        if state != "Active":
            raise _Refused(state, f"{ended[state]}: `edgehub token create` makes a new one")
        if not token.fits(node):
            raise _Refused(
                "NameNotAllowed",
                f"the token is for nodes called {token.names}, not {node}: choose such a name with --name, or"
                f" have a token made with `edgehub token create --name {node}`",
            )

    def _check_name(self, token: Token, node: str) -> None:
        if node == HUB_NAME:
            raise _Refused("NameReserved", f"a node cannot be called {node}: that is the hub's own name")
        known = self._store.any_node(node)
        if known is not None and known.state != "removed" and not token.replace:
            was = f"exists since {known.created}" if known.state == "member" else "was revoked"
            raise _Refused(
                "NameTaken",
                f"node {node} {was}: choose another --name, or, where this device takes its place, have a"
                f" token made with `edgehub token create --replace --name {node}`",
            )

    def _admit(self, enrolment: Enrolment) -> Enrolment:
        """Issue the certificate, and make the node a member. Inside a transaction."""
        node = enrolment.node
        known = self._store.any_node(node)
        now = self._clock.now()
        if known is not None:
            # Also where it was revoked before: the broker is to give the name its rights back.
            revoke_node(self._store, known, now=now)
        signed = self._authorities().sign(enrolment.csr, node, self._settings.node_certificate_days)
        self._store.put_node(
            StoredNode(
                name=node,
                uid=known.uid if known else new_uid(),
                created=known.created if known else rfc3339(now),
                sealing_key=enrolment.sealing_key,
                serial=signed.serial,
                generation=known.generation if known else 0,
                client_id=enrolment.client_id,
                public_key=read_certificate(signed.certificate).public_key,
            )
        )
        record_certificate(self._store, node, signed.certificate, now=now, state="current")
        return self._decide(enrolment, "approved", certificate=signed.certificate)

    def _decide(
        self,
        enrolment: Enrolment,
        state: EnrolmentState,
        *,
        reason: str = "",
        message: str = "",
        certificate: str = "",
    ) -> Enrolment:
        self._store.execute(
            "UPDATE enrolments SET state = ?, reason = ?, message = ?, certificate = ?"
            " WHERE token = ? AND public_key = ?",
            (state, reason, message, certificate, enrolment.token, enrolment.public_key),
        )
        found = self._find(enrolment.token, enrolment.public_key)
        assert found is not None
        return found

    def _answer(self, received: Received, enrolment: Enrolment) -> EnrolmentAnswer:
        request = received.request
        same = (request.node, request.sealing_key, request.client_id)
        if same != (enrolment.node, enrolment.sealing_key, enrolment.client_id):
            return _refusal(
                received, "Conflict", f"this key asked before, as {enrolment.node}: begin anew with --force"
            )
        if enrolment.state == "denied":
            return _refusal(received, enrolment.reason, enrolment.message)
        if enrolment.state == "pending":
            return _about(
                received,
                state="pending",
                message=f"waiting for approval: `edgehub enrolment approve {enrolment.node}`",
            )
        if not self._counts(enrolment):
            return _refusal(
                received,
                "Revoked",
                f"what this device was given as {enrolment.node} was revoked or replaced meanwhile: it needs"
                " a new token (`edgehub token create --replace`)",
            )
        return _about(
            received,
            state="approved",
            certificate=enrolment.certificate,
            ca=self._authorities().bundle,
            trust=self._signing().anchor,
            brokers=self._settings.brokers,
        )

    def _counts(self, enrolment: Enrolment) -> bool:
        """Whether the node is a member with what this enrolment gave it."""
        node = self._store.node(enrolment.node)
        return node is not None and node.client_id == enrolment.client_id

    # What people decide

    def all(self) -> list[Enrolment]:
        """What waits, and what was decided lately, the oldest first."""
        rows = self._store.execute(f"SELECT {_COLUMNS} FROM enrolments ORDER BY created, node")  # noqa: S608
        return [_enrolment(row) for row in rows]

    def approve(self, node: str) -> Enrolment:
        """Make the device that waits under this name a member; PermanentError where none may be."""
        with self._store.transaction():
            waiting = self._waiting(node)
            token = self._tokens.find(waiting.token)
            assert token is not None, "a token stays as long as a request made with it waits"
            try:
                self._check_name(token, node)
            except _Refused as refused:
                raise PermanentError(f"{node} cannot be approved: {refused}", reason="Conflict") from None
            return self._admit(waiting)

    def deny(self, node: str, message: str = "") -> Enrolment:
        """Refuse the device that waits under this name; PermanentError where there is none."""
        with self._store.transaction():
            waiting = self._waiting(node)
            words = f"an operator denied it{': ' if message else ''}{message}"[:MAX_MESSAGE]
            return self._decide(waiting, "denied", reason="Denied", message=words)

    def _waiting(self, node: str) -> Enrolment:
        self._expire_pending()
        found = self._pending(node)
        if not found:
            raise PermanentError(
                f"no device waits for approval as {node[:80]!r}: `edgehub enrolment list` shows who does",
                reason="NotFound",
            )
        return found[0]

    # The store

    def _pending(self, node: str) -> list[Enrolment]:
        rows = self._store.execute(
            f"SELECT {_COLUMNS} FROM enrolments WHERE node = ? AND state = 'pending'",  # noqa: S608
            (node,),
        )
        return [_enrolment(row) for row in rows]

    def _find(self, token: str, public_key: bytes) -> Enrolment | None:
        rows = self._store.execute(
            f"SELECT {_COLUMNS} FROM enrolments WHERE token = ? AND public_key = ?",  # noqa: S608
            (token, public_key),
        )
        return _enrolment(rows[0]) if rows else None

    def _expire_pending(self) -> None:
        days = f"{PENDING_SECONDS / 86_400:.0f}"
        self._store.execute(
            "UPDATE enrolments SET state = 'denied', reason = 'Expired', message = ?"
            " WHERE state = 'pending' AND created < ?",
            (f"nobody approved it for {days} days: ask for a new token", self._clock.now() - PENDING_SECONDS),
        )


def _enrolment(row: Sequence[Any]) -> Enrolment:
    return Enrolment(*row)


def _about(received: Received, *, state: EnrolmentState, **more: Any) -> EnrolmentAnswer:
    request = received.request
    return EnrolmentAnswer(
        cluster=request.cluster,
        node=request.node,
        nonce=request.nonce,
        request=received.digest,
        state=state,
        **more,
    )


def _refusal(received: Received, reason: str, message: str) -> EnrolmentAnswer:
    return _about(received, state="denied", reason=reason, message=message[:MAX_MESSAGE])
