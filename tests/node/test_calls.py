"""Signed requests to a node: served once, refused in silence where anybody could have sent them."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.calls import AT_ONCE, NodeCalls
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.envelope import encode_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.noderequest import NodeRequest, sign_request
from edgeagent.wire.rpc import NODE_REQUEST_SECONDS, RpcError, decode_reply
from edgeagent.wire.session import Message
from tests.node.indexes import ANCHOR, CLUSTER, KEY, NODE

MALLORY = SigningKey(bytes(32))


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
    """A node that serves ``echo``, ``fail``, ``bug`` and ``slow``."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.replies = Replies()
        self.gate = asyncio.Event()
        self.served = 0
        self.number = 0
        self.calls = NodeCalls(
            node=NODE,
            session=self.replies,
            anchor=lambda: ANCHOR,
            methods={"echo": self.echo, "fail": self.fail, "bug": self.bug, "slow": self.slow},
            clock=self.clock,
            payload_limit=lambda: 1000,
        )

    async def echo(self, params: msgspec.Raw, limit: int) -> object:
        """What was asked, and the limit."""
        self.served += 1
        return {"asked": params, "limit": limit}

    async def fail(self, params: msgspec.Raw, limit: int) -> object:
        """On purpose."""
        raise PermanentError("there is no such thing", reason="NotFound")

    async def bug(self, params: msgspec.Raw, limit: int) -> object:
        """By a mistake."""
        raise KeyError("secret detail")

    async def slow(self, params: msgspec.Raw, limit: int) -> object:
        """Until told."""
        self.served += 1
        await self.gate.wait()
        return None

    def request(self, method: str = "echo", *, key: SigningKey = KEY, **more: object) -> bytes:
        """As the hub makes it."""
        self.number += 1
        request = NodeRequest(
            cluster=CLUSTER, node=NODE, method=method, nonce=f"n{self.number}",
            expires=self.clock.now() + NODE_REQUEST_SECONDS, reply_topic="replies/u/s",
            params=msgspec.Raw(b'{"a":1}'),
        )  # fmt: skip
        return encode_envelope(sign_request(msgspec.structs.replace(request, **more), key, []))

    async def ask(self, payload: bytes, method: str = "echo", *, retain: bool = False) -> int:
        """Deliver; how many answers there are now."""
        message = Message(topic="t", payload=payload, retain=retain, correlation=b"c")
        self.calls.handle(method, message)
        await self.clock.settle()
        return len(self.replies.sent)


def with_node(scenario: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        served = Served()
        problems: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
        try:
            await scenario(served)
        finally:
            await served.calls.stop()
        await served.clock.settle()
        assert problems == []

    asyncio.run(main())


def test_a_good_request_is_answered_where_it_asks(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(node: Served) -> None:
        assert await node.ask(node.request()) == 1
        topic, payload, correlation = node.replies.sent[0]
        assert (topic, correlation) == ("replies/u/s", b"c")
        assert msgspec.json.decode(decode_reply(payload).result) == {"asked": {"a": 1}, "limit": 1000}

    with_node(scenario)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "forged",
    [
        lambda n: n.request(key=MALLORY),
        lambda n: n.request(node="other"),
        lambda n: n.request(cluster="other"),
        lambda n: n.request(method="slow"),
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
def test_what_is_not_the_hubs_is_neither_served_nor_answered(forged: Callable[[Served], bytes]) -> None:
    async def scenario(node: Served) -> None:
        assert await node.ask(forged(node)) == 0
        assert node.served == 0

    with_node(scenario)


def test_any_changed_byte_is_refused() -> None:
    async def scenario(node: Served) -> None:
        rng = random.Random(1)
        good = node.request()
        for _ in range(300):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            assert await node.ask(bytes(bad)) == 0
        assert await node.ask(good) == 1

    with_node(scenario)


def test_a_request_is_served_once() -> None:
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

    with_node(scenario)


def test_a_flood_is_bounded_and_passes() -> None:
    async def scenario(node: Served) -> None:
        for _ in range(1000):
            node.calls.handle("slow", Message(topic="t", payload=node.request("slow")))
        await node.clock.settle()
        assert node.served == AT_ONCE
        node.gate.set()
        await node.clock.settle()
        assert len(node.replies.sent) == AT_ONCE
        assert await node.ask(node.request()) == AT_ONCE + 1

    with_node(scenario)


def test_errors_are_answered_without_their_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(node: Served) -> None:
        for method, reason in (
            ("fail", "NotFound"), ("bug", "InternalError"), ("unknown", "MethodNotAllowed"),
        ):  # fmt: skip
            count = await node.ask(node.request(method), method)
            with pytest.raises(RpcError) as raised:
                decode_reply(node.replies.sent[count - 1][1])
            assert raised.value.reason == reason
            assert "secret detail" not in str(raised.value)
        assert len(node.replies.sent) == 3

    with_node(scenario)
    assert "secret detail" in caplog.text


def test_an_answer_that_cannot_be_sent_is_let_go() -> None:
    async def scenario(node: Served) -> None:
        node.replies.broken = True
        assert await node.ask(node.request()) == 0
        node.replies.broken = False
        assert await node.ask(node.request()) == 1

    with_node(scenario)


def test_stopping_gives_up_what_is_under_way() -> None:
    async def scenario(node: Served) -> None:
        await node.ask(node.request("slow"), "slow")
        await node.calls.stop()
        assert node.replies.sent == []

    with_node(scenario)
