"""Tokens, requests, approvals and revocations in any order, against a model in plain words."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeagent.api.errors import PermanentError
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.enrolment import Enrolments, Verdict
from edgeagent.cluster.init import init
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.revocation import end_membership
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store
from edgeagent.cluster.tokens import TokenRules, Tokens
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import PrivateKey, read_certificate
from edgeagent.wire.clientid import client_id
from edgeagent.wire.enrolment import (
    EnrolmentRequest,
    TokenText,
    decode_request,
    encode_request,
    new_channel,
    parse_token,
)
from edgeagent.wire.join import BrokerAddress

KEYS = [PrivateKey.generate() for _ in range(4)]
NAMES = ["gw-1", "gw-2", "other", "hub"]
TTL = 100.0


@dataclass
class _Token:
    text: TokenText
    rules: TokenRules
    expires: float
    used: int = 0
    deleted: bool = False


@dataclass
class _Asked:
    """A request that used a token: by whom, and what was decided."""

    name: str
    key: int
    token: _Token
    state: str
    since: float


@dataclass
class _Model:
    tokens: list[_Token] = field(default_factory=list)
    asked: dict[tuple[str, int], _Asked] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)
    """Which key holds a name now."""
    revoked: set[str] = field(default_factory=set)


class _EnrolmentMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="edgeagent-enrolment-"))
        self.clock = ManualClock()
        files: HubFiles = init(
            self.directory / "hub", "plant", [BrokerAddress(host="broker")], clock=self.clock
        )
        self.store = Store(files.database)
        self.tokens = Tokens(self.store, self.clock)
        authorities, signing = load_authorities(files, self.clock), Signing.load(files.signing)
        self.enrolments = Enrolments(
            load_settings(files.settings), self.store, lambda: authorities, lambda: signing, self.clock
        )
        self.model = _Model()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.directory)

    @rule(
        uses=st.integers(1, 2),
        names=st.sampled_from(["*", "gw-?", "gw-1"]),
        approval=st.sampled_from(["automatic", "manual"]),
        replace=st.booleans(),
    )
    @precondition(lambda self: len(self.model.tokens) < 6)
    def create(self, uses: int, names: str, approval: str, replace: bool) -> None:
        rules = TokenRules(
            ttl=TTL,
            uses=uses,
            names=names,
            approval="manual" if approval == "manual" else "automatic",
            replace=replace and names != "*",
        )
        token, text = self.tokens.create(rules)
        self.model.tokens.append(_Token(parse_token(text), rules, token.expires))

    @rule(which=st.integers(0, 5))
    @precondition(lambda self: self.model.tokens)
    def delete(self, which: int) -> None:
        token = self.model.tokens[which % len(self.model.tokens)]
        self.tokens.delete(token.text.id)
        token.deleted = True

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def wait(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(seconds))

    @rule(which=st.integers(0, 5), key=st.integers(0, 3), name=st.sampled_from(NAMES))
    @precondition(lambda self: self.model.tokens)
    def ask(self, which: int, key: int, name: str) -> None:
        token = self.model.tokens[which % len(self.model.tokens)]
        expected = self._expected(token, key, name)
        for _ in range(2):  # a repeated request gets the same answer and uses nothing
            verdict = self._ask(token.text, key, name)
            answer = verdict.answer
            assert answer.state == expected, (answer.reason, answer.message)
            assert verdict.key is not None
            if answer.state == "approved":
                certificate = read_certificate(answer.certificate)
                assert certificate.common_name == name
                assert certificate.fits(KEYS[key])
            elif answer.state == "denied":
                assert answer.message
                assert not answer.certificate

    @rule(which=st.integers(0, 5), key=st.integers(0, 3), name=st.sampled_from(NAMES))
    @precondition(lambda self: self.model.tokens)
    def guess(self, which: int, key: int, name: str) -> None:
        """With a token's id and another secret there is a bare refusal, and nothing is used."""
        token = self.model.tokens[which % len(self.model.tokens)]
        wrong = TokenText(token.text.id, "a" * 26)
        before = self.tokens.find(token.text.id)
        assert before is not None
        if before.failed < 15:
            verdict = self._ask(wrong, key, name)
            assert (verdict.key, verdict.answer.state, verdict.answer.reason) == (
                None,
                "denied",
                "UnknownToken",
            )

    @rule(name=st.sampled_from(NAMES))
    def approve(self, name: str) -> None:
        waiting = [one for one in self.model.asked.values() if (one.name, one.state) == (name, "pending")]
        may = bool(waiting) and (self._is_free(name) or waiting[0].token.rules.replace)
        try:
            self.enrolments.approve(name)
        except PermanentError:
            assert not may
        else:
            assert may
            waiting[0].state = "approved"
            self._holds(name, waiting[0].key)

    @rule(name=st.sampled_from(NAMES))
    def deny(self, name: str) -> None:
        waiting = [one for one in self.model.asked.values() if (one.name, one.state) == (name, "pending")]
        try:
            self.enrolments.deny(name, "because")
        except PermanentError:
            assert not waiting
        else:
            waiting[0].state = "denied"

    @rule(name=st.sampled_from(NAMES), remove=st.booleans())
    def end(self, name: str, remove: bool) -> None:
        known = name in self.model.holders or name in self.model.revoked
        try:
            end_membership(self.store, name, remove=remove, now=self.clock.now())
        except PermanentError:
            assert not known
            return
        self.model.holders.pop(name, None)
        self.model.revoked.discard(name)
        if known and not remove:
            self.model.revoked.add(name)

    @invariant()
    def what_is_stored_is_what_was_decided(self) -> None:
        if not hasattr(self, "store"):
            return
        members = {node.name: node for node in self.store.nodes()}
        assert {name: node.public_key for name, node in members.items()} == {
            name: KEYS[key].public for name, key in self.model.holders.items()
        }
        assert {node.name for node in self.store.nodes("revoked")} == self.model.revoked
        revoked = {row[0] for row in self.store.execute("SELECT serial FROM revoked")}
        assert not revoked & {node.serial for node in members.values()}
        for token in self.model.tokens:
            stored = self.tokens.find(token.text.id)
            assert stored is not None
            assert stored.used == token.used <= stored.uses

    def _ask(self, token: TokenText, key: int, name: str) -> Verdict:
        sealing = bytes([key]) * 32
        request = EnrolmentRequest(
            cluster="plant",
            node=name,
            token=token.id,
            channel=(channel := new_channel()),
            csr=KEYS[key].request(name),
            sealing_key=sealing,
            client_id=client_id("plant", name, sealing),
            nonce=bytes(16),
        )
        data = encode_request(request, token.request_key, KEYS[key])
        return self.enrolments.judge(decode_request(data, cluster="plant", channel=channel))

    def _expected(self, token: _Token, key: int, name: str) -> str:
        before = self.model.asked.get((token.text.id, key))
        if before is not None:
            if before.name != name:
                return "denied"
            if before.state == "approved":
                return "approved" if self.model.holders.get(name) == key else "denied"
            return before.state
        waiting = any((one.name, one.state) == (name, "pending") for one in self.model.asked.values())
        allowed = (
            not token.deleted
            and self.clock.now() < token.expires
            and token.used < token.rules.uses
            and (
                token.rules.names == "*"
                or name == token.rules.names
                or (token.rules.names == "gw-?" and name[:3] == "gw-")
            )
            and name != "hub"
            and (self._is_free(name) or token.rules.replace)
            and not waiting
        )
        if not allowed:
            return "denied"
        token.used += 1
        state = "approved" if token.rules.approval == "automatic" else "pending"
        self.model.asked[token.text.id, key] = _Asked(name, key, token, state, self.clock.now())
        if state == "approved":
            self._holds(name, key)
        return state

    def _is_free(self, name: str) -> bool:
        return name not in self.model.holders and name not in self.model.revoked

    def _holds(self, name: str, key: int) -> None:
        self.model.holders[name] = key
        self.model.revoked.discard(name)


_EnrolmentMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestEnrolment = _EnrolmentMachine.TestCase
