"""Signed requests to a node: served once, judged by its own bindings; what anybody can send is refused."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.trust import ClusterTrust, ClusterTrustSpec
from edgeagent.node.calls import AT_ONCE, NodeCalls
from edgeagent.node.operations import Operations
from edgeagent.node.store.audit import AuditLog
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Outbox
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.audit import AuditRow
from edgeagent.wire.envelope import encode_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.noderequest import NodeRequest, sign_request
from edgeagent.wire.operatorcalls import CALL_SECONDS, OperatorSigner, SignedCall
from edgeagent.wire.rpc import NODE_REQUEST_SECONDS, RpcError, decode_reply
from edgeagent.wire.session import Message
from tests.node.indexes import ANCHOR, CLUSTER, KEY, NODE
from tests.support.operators import authority, binding, request, signer

MALLORY = SigningKey(bytes(32))
REPLIES = f"edge/v1/{CLUSTER}/replies/user:ann/s"


class Replies:
    """Where answers go."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.broken = False

    async def publish(self, topic: str, payload: bytes, *, correlation: bytes = b"") -> None:
        """Sent."""
        if self.broken:
            raise TemporaryError("no connection")
        self.sent.append((topic, payload, correlation))


class Served:
    """A node that serves ``logs`` (what was asked), ``network`` (as ``mode`` says) and ``reboot``.

    ``ann`` is an operator in the namespace ``shop``, ``root`` admin of the cluster.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.replies = Replies()
        self.gate = asyncio.Event()
        self.mode = "slow"
        self.served = 0
        self.numbers = itertools.count()
        self.doubts: list[float] = []
        self.really = 0.0
        """How many seconds later than by its clock it is, as the hub says when it is asked."""
        self.asked = 0
        self.hub_is_silent = False
        self.objects: list[KubernetesObject] = [
            binding("operator", "ann", namespace="shop"), binding("admin", "root"),
        ]  # fmt: skip
        (folder / "ca.crt").write_text(authority().certificate)
        self.start()

    def start(self) -> None:
        """The agent begins, with what is on its disk."""
        self.database = Database(self.folder / "agent.db", now=self.clock.now())
        self.audit = AuditLog(self.database, Outbox(self.database))
        self.operations = Operations(
            cluster=CLUSTER, node=NODE, audit=self.audit, ca=self.folder / "ca.crt",
            objects=lambda: self.objects, methods={"logs": self.logs, "network": self.network}, streams={},
            now=self.clock.now, on_audit=lambda: None,
        )  # fmt: skip
        self.calls = NodeCalls(
            node=NODE,
            session=self.replies,
            anchor=lambda: ANCHOR,
            operations=self.operations,
            clock=self.clock,
            payload_limit=lambda: 1000,
            on_expired=lambda: self.doubts.append(self.clock.now()),
            make_sure=self.make_sure,
        )  # fmt: skip

    async def make_sure(self) -> None:
        """The hub says what time it is."""
        self.asked += 1
        if self.hub_is_silent:
            raise TemporaryError("no answer", reason="NoAnswer")
        self.clock.set_wall_clock(self.really)
        self.really = 0.0

    async def logs(self, params: msgspec.Raw, limit: int) -> object:
        """What was asked, and the limit."""
        self.served += 1
        return {"asked": params, "limit": limit}

    async def network(self, params: msgspec.Raw, limit: int) -> object:
        """Fails on purpose or by mistake, or waits until told."""
        self.served += 1
        if self.mode == "fail":
            raise PermanentError("there is no such thing", reason="NotFound")
        if self.mode == "bug":
            raise KeyError("secret detail")
        await self.gate.wait()
        return None

    def call(
        self, method: str = "logs", *, user: str = "ann", by: OperatorSigner | None = None, **more: Any
    ) -> bytes:
        """As an operator signs it."""
        params = {"logs": b'{"namespace":"shop","pod":"web"}', "network": b'{"what":"drops"}'}
        fields: dict[str, Any] = {
            "target": NODE, "method": method, "nonce": f"operators-{next(self.numbers):032}",
            "expires": self.clock.now() + CALL_SECONDS, "params": msgspec.Raw(params.get(method, b"{}")),
        }  # fmt: skip
        return (by or signer(user, CLUSTER)).sign_request(request(user, CLUSTER, **(fields | more)))

    def request(
        self, method: str = "logs", *, key: SigningKey = KEY, call: bytes | None = None, **more: Any
    ) -> bytes:
        """As the hub makes it of an operator's call."""
        user = "root" if method == "network" else "ann"
        made = NodeRequest(
            cluster=CLUSTER, node=NODE, method=method, nonce=f"n{next(self.numbers)}",
            expires=self.clock.now() + NODE_REQUEST_SECONDS,
            call=self.call(method, user=user) if call is None else call,
        )  # fmt: skip
        return encode_envelope(sign_request(msgspec.structs.replace(made, **more), key, []))

    async def ask(self, payload: bytes, method: str = "logs", *, retain: bool = False) -> int:
        """Deliver; how many answers there are now."""
        message = Message(topic="t", payload=payload, retain=retain, correlation=b"c")
        self.calls.handle(method, message)
        await self.clock.settle()
        return len(self.replies.sent)

    async def refusal(self, payload: bytes, method: str = "logs") -> RpcError:
        """Deliver; the failure that is answered."""
        count = len(self.replies.sent)
        assert await self.ask(payload, method) == count + 1
        with pytest.raises(RpcError) as raised:
            decode_reply(self.replies.sent[-1][1])
        return raised.value

    def rows(self) -> list[AuditRow]:
        """The audit log, which must be sound."""
        assert self.audit.check() == ""
        return self.audit.newest(100)


def with_node(folder: Path, scenario: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        served = Served(folder)
        problems: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
        try:
            await scenario(served)
        finally:
            await served.calls.stop()
        await served.clock.settle()
        assert problems == []

    asyncio.run(main())


def test_a_good_request_is_answered_where_it_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(node: Served) -> None:
        assert await node.ask(node.request()) == 1
        topic, payload, correlation = node.replies.sent[0]
        assert (topic, correlation) == (REPLIES, b"c")
        asked = {"namespace": "shop", "pod": "web"}
        assert msgspec.json.decode(decode_reply(payload).result) == {"asked": asked, "limit": 1000}
        [row] = node.rows()
        assert (row.operator, row.method, row.target) == ("ann", "logs", "pods/log/shop/web")
        assert (row.sequence, row.verdict) == (1, "allowed")

    with_node(tmp_path, scenario)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "forged",
    [
        lambda n: n.request(key=MALLORY),
        lambda n: n.request(node="other"),
        lambda n: n.request(cluster="other"),
        lambda n: n.request(method="network"),
        lambda n: n.request(expires=n.clock.now() - 1),
        lambda n: n.request(expires=n.clock.now() + 10 * NODE_REQUEST_SECONDS),
        lambda n: n.request(expires=1e300),
        lambda n: b"",
        lambda n: b"{}",
        lambda n: b"[" * 100_000,
        lambda n: bytes(range(256)),
    ],
    ids=[
        "key",
        "node",
        "cluster",
        "method",
        "expired",
        "future",
        "never",
        "empty",
        "object",
        "deep",
        "noise",
    ],
)
def test_what_is_not_the_hubs_is_neither_served_nor_answered(
    tmp_path: Path, forged: Callable[[Served], bytes]
) -> None:
    async def scenario(node: Served) -> None:
        assert await node.ask(forged(node)) == 0
        assert (node.served, node.rows()) == (0, [])

    with_node(tmp_path, scenario)


def test_any_changed_byte_is_refused(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        rng = random.Random(1)
        good = node.request()
        for _ in range(300):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            assert await node.ask(bytes(bad)) == 0
        assert await node.ask(good) == 1

    with_node(tmp_path, scenario)


def test_a_request_is_served_once(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        payload = node.request()
        assert await node.ask(payload) == 1
        assert await node.ask(payload) == 1
        await node.clock.advance(NODE_REQUEST_SECONDS - 1)
        assert await node.ask(payload) == 1
        await node.clock.advance(2)
        assert await node.ask(payload) == 1, "expired by now"
        assert await node.ask(node.request(), retain=True) == 1, "a retained one is no request"
        assert node.served == 1
        assert len(node.calls._nonces) <= 1

    with_node(tmp_path, scenario)


def test_what_of_the_hubs_own_has_expired_makes_one_doubt_the_clock(tmp_path: Path) -> None:
    """A clock that drifts for months without a new connection: what others send is no reason to ask."""

    async def scenario(node: Served) -> None:
        for off in (-3_600.0, 3_600.0):
            late = node.clock.now() + off
            assert await node.ask(node.request(expires=late, key=MALLORY)) == 0
            assert len(node.doubts) == (0 if off < 0 else 1)
            assert await node.ask(node.request(expires=late)) == 0
        assert len(node.doubts) == 2
        assert await node.ask(node.request()) == 1
        assert len(node.doubts) == 2

    with_node(tmp_path, scenario)


def test_a_call_that_was_kept_back_is_not_served_to_a_clock_that_is_behind(tmp_path: Path) -> None:
    """A board that starts anew believes the time that it knew last: what ended since then seems to live."""

    async def scenario(node: Served) -> None:
        kept, node.really = node.request(), CALL_SECONDS + 1
        assert await node.ask(kept) == 0
        assert "expired 1 s ago" in node.rows()[-1].reason
        node.hub_is_silent = True
        assert await node.ask(node.request()) == 0
        assert (node.served, len(node.rows()), node.asked) == (0, 1, 2)
        assert await node.ask(node.request(key=MALLORY)) == 0
        assert node.asked == 2, "strangers make nobody ask"
        node.hub_is_silent = False
        assert await node.ask(node.request()) == 1

    with_node(tmp_path, scenario)


def test_a_flood_is_bounded_and_passes(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        payloads = [node.request("network") for _ in range(50)]
        for payload in payloads:
            node.calls.handle("network", Message(topic="t", payload=payload))
        await node.clock.settle()
        assert node.served == AT_ONCE
        node.gate.set()
        await node.clock.settle()
        assert len(node.replies.sent) == AT_ONCE
        assert await node.ask(node.request()) == AT_ONCE + 1

    with_node(tmp_path, scenario)


def test_errors_are_answered_without_their_inside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(node: Served) -> None:
        for node.mode, method, reason in (
            ("fail", "network", "NotFound"), ("bug", "network", "InternalError"),
            ("", "reboot", "MethodNotAllowed"), ("", "unknown", "MethodNotAllowed"),
        ):  # fmt: skip
            refused = await node.refusal(node.request(method), method)
            assert refused.reason == reason
            assert "secret detail" not in str(refused)
        assert [row.verdict for row in node.rows()] == ["allowed", "allowed", "refused", "refused"]

    with_node(tmp_path, scenario)
    assert "secret detail" in caplog.text


def test_an_answer_that_cannot_be_sent_is_let_go(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        node.replies.broken = True
        assert await node.ask(node.request()) == 0
        node.replies.broken = False
        assert await node.ask(node.request()) == 1

    with_node(tmp_path, scenario)


def test_stopping_gives_up_what_is_under_way(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        await node.ask(node.request("network"), "network")
        await node.calls.stop()
        assert node.replies.sent == []

    with_node(tmp_path, scenario)


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        (lambda n: b"", "not a call that an operator signed"),
        (lambda n: b'{"namespace":"shop","pod":"web"}', "not a call that an operator signed"),
        (lambda n: b"\x92" * 100_000, "not a call that an operator signed"),
        (
            lambda n: _with_params(n, b'{"namespace":"till","pod":"web"}'),
            "not signed by the key of operator ann",
        ),
        (lambda n: _signed_by(n, "ben"), "the call says it is of 'user:ann', but ben signed it"),
        (lambda n: n.call(by=signer("ann", CLUSTER, 2)), "not signed by the cluster's CA"),
        (lambda n: n.call(by=signer(NODE, CLUSTER, node=True)), "is not an operator's"),
        (lambda n: n.call(target="hub"), "for another node, method or cluster"),
        (lambda n: n.call(target="other"), "for another node, method or cluster"),
        (lambda n: n.call(method="network"), "for another node, method or cluster"),
        (lambda n: n.call(cluster="other"), "for another node, method or cluster"),
        (lambda n: n.call(expires=n.clock.now() - 3), "expired 3 s ago"),
        (lambda n: n.call(expires=n.clock.now() + 100), "from the future, by 70 s"),
        (lambda n: n.call(expires=1e300), "from the future"),
        (lambda n: n.call(nonce="1"), "nonce"),
        (lambda n: n.call(reply_topic=f"edge/v1/{CLUSTER}/replies/user:ben/s"), "own reply topic"),
        (lambda n: n.call(reply_topic=f"edge/v1/{CLUSTER}/nodes/{NODE}/desired"), "own reply topic"),
        (lambda n: n.call(reply_topic=f"edge/v1/{CLUSTER}/replies/user:ann/+"), "own reply topic"),
    ],
)
def test_the_hubs_word_alone_does_nothing(
    tmp_path: Path, forged: Callable[[Served], bytes], said: str
) -> None:
    """The hub has signed it, but no operator of the cluster has asked this node for this."""

    async def scenario(node: Served) -> None:
        assert await node.ask(node.request(call=forged(node))) == 0
        assert node.served == 0
        [row] = node.rows()
        assert (row.operator, row.verdict) == ("", "refused")
        assert said in row.reason

    with_node(tmp_path, scenario)


def _with_params(node: Served, params: bytes) -> bytes:
    signed = msgspec.msgpack.decode(node.call(), type=SignedCall)
    payload = signed.envelope.payload.replace(b'{"namespace":"shop","pod":"web"}', params)
    envelope = msgspec.structs.replace(signed.envelope, payload=payload)
    return msgspec.msgpack.encode(msgspec.structs.replace(signed, envelope=envelope))


def _signed_by(node: Served, name: str) -> bytes:
    return node.call(user="ann", by=signer(name, CLUSTER))


def test_a_request_without_an_operators_call_is_none(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        bare = {
            "cluster": CLUSTER, "node": NODE, "method": "logs", "nonce": "n",
            "expires": node.clock.now() + 10, "params": {"namespace": "shop", "pod": "web"},
        }  # fmt: skip
        envelope = sign_request(bare, KEY, [])  # type: ignore[arg-type]
        assert await node.ask(encode_envelope(envelope)) == 0
        assert node.served == 0

    with_node(tmp_path, scenario)


def test_what_nobody_bound_is_forbidden_in_kubernetes_words(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        params = msgspec.Raw(b'{"namespace":"till","pod":"web"}')
        elsewhere = await node.refusal(node.request(call=node.call(params=params)))
        assert elsewhere.reason == "Forbidden"
        words = 'pods/log "web" is forbidden: user "ann" cannot get resource "pods/log" in namespace "till"'
        assert str(elsewhere).startswith(words)
        own = await node.refusal(node.request("network", call=node.call("network")), "network")
        assert 'user "ann" cannot get resource "nodes/network" at the cluster scope' in str(own)
        node.objects = []
        nobody = await node.refusal(node.request(call=node.call(user="root")))
        assert (nobody.reason, node.served) == ("Forbidden", 0)
        assert [row.verdict for row in node.rows()] == ["refused"] * 3
        assert [row.target for row in node.rows()] == [
            "pods/log/till/web", "nodes/network", "pods/log/shop/web",
        ]  # fmt: skip

    with_node(tmp_path, scenario)


def test_a_revoked_operator_is_refused_and_others_are_not(tmp_path: Path) -> None:
    async def scenario(node: Served) -> None:
        node.objects.append(revoking("ann"))
        (node.folder / "ca.crt").unlink()  # the bundle of the index takes its place
        assert await node.ask(node.request()) == 0
        assert "the certificate of operator ann was revoked" in node.rows()[-1].reason
        assert await node.ask(node.request(call=node.call(user="root"))) == 1
        assert node.served == 1

    with_node(tmp_path, scenario)


def test_what_was_admitted_is_judged_again_by_what_is_in_force_now(tmp_path: Path) -> None:
    """As streams are, which outlive their call."""

    async def scenario(node: Served) -> None:
        call = node.operations.open("logs", node.call())
        node.operations.check(call)
        was, node.objects = node.objects, [binding("operator", "ann", namespace="till")]
        with pytest.raises(PermanentError, match='cannot get resource "pods/log"'):
            node.operations.check(call)
        node.objects = [*was, revoking("ann")]
        with pytest.raises(PermanentError, match="revoked"):
            node.operations.check(call)
        node.objects = was
        node.clock.set_wall_clock(call.not_after - node.clock.now())
        with pytest.raises(PermanentError, match="the certificate of operator ann ran out") as raised:
            node.operations.check(call)
        assert raised.value.reason == "Unauthorized"
        assert node.rows() == [], "nothing was asked for"

    with_node(tmp_path, scenario)


def revoking(name: str) -> ClusterTrust:
    """What tells a node that an operator's certificate does not count any more."""
    serial = f"{signer(name, CLUSTER)._certificate.serial}"
    spec = ClusterTrustSpec(ca_bundle=[authority().certificate], revoked_operators=[serial])
    return ClusterTrust(api_version="edgeagent/v1", metadata=ObjectMeta(name="cluster", uid="t"), spec=spec)


def test_an_operators_call_is_served_once_whoever_passes_it_on_and_also_by_the_next_agent(
    tmp_path: Path,
) -> None:
    async def scenario(node: Served) -> None:
        call = node.call()
        assert await node.ask(node.request(call=call)) == 1
        again = await node.refusal(node.request(call=call))
        assert again.reason == "Replayed"
        await node.calls.stop()
        node.database.close()
        node.start()
        assert (await node.refusal(node.request(call=call))).reason == "Replayed"
        assert node.served == 1
        assert [row.verdict for row in node.rows()] == ["allowed", "refused", "refused"]

    with_node(tmp_path, scenario)


def test_what_cannot_be_noted_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(node: Served) -> None:
        def full(*_: object) -> None:
            raise TemporaryError("the disk is full", reason="DiskFull")

        with monkeypatch.context() as patched:
            patched.setattr(node.audit, "append", full)
            assert (await node.refusal(node.request())).reason == "DiskFull"
        assert node.served == 0
        assert await node.ask(node.request()) == 2
        assert node.served == 1

    with_node(tmp_path, scenario)
