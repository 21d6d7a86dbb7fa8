"""Operators' streams at the node: bounded, judged anew, told of their end; what is not theirs is passed
over.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.node.config import RemoteSection
from edgeagent.node.streams.operatorstreams import Limits, OperatorStreams
from edgeagent.node.streams.service import Serve, StreamRequest
from edgeagent.node.streamswiring import stream_limits
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.authority import ForbiddenError
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channels
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.operatorcalls import OperatorCall
from edgeagent.wire.rpc import RpcError
from edgeagent.wire.stream import Carrier
from edgeagent.wire.streamapi import EXEC, FOLLOW, PORT_FORWARD, ExecParams, FollowParams
from edgeagent.wire.streamkey import (
    StreamSecret,
    ciphers,
    new_half,
    seal_stream,
    stream_context,
    unseal_stream,
)
from edgeagent.wire.streamlink import StreamLink
from tests.support.operators import request

KEY = SealingKey(bytes([7]) * 32)


class Told:
    """A service whose streams run until they are ended; what it was asked stays here."""

    def __init__(self) -> None:
        self.requests: list[StreamRequest] = []
        self.done = 0
        self.problem: Exception | None = None
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def open(self, request: StreamRequest) -> Serve:
        """One more."""
        self.requests.append(request)
        await self.may_open.wait()
        if self.problem is not None:
            raise self.problem
        return self._serve

    async def _serve(self, channels: Channels) -> None:
        try:
            channel = await channels.accept()
            if channel.kind == "bug":
                raise ZeroDivisionError
            channel.accept()
            await channel.wait_closed()
            await channels.ended()
        finally:
            self.done += 1


class Node:
    """A node's streams without a broker: what it publishes goes to the operator's end of each stream."""

    def __init__(self, *, streams: int = 4, of_one: int = 2, follows: int = 4) -> None:
        self.clock = ManualClock()
        self.service = Told()
        self.links: dict[bytes, StreamLink] = {}
        self.streams = OperatorStreams(
            cluster="plant",
            node="gw-1",
            services={FOLLOW: self.service, EXEC: self.service},
            unseal=self._unseal,
            limits=Limits(1_000_000, streams, of_one, {FOLLOW: follows}),
            clock=self.clock,
        )
        self.streams.use(self)
        self.tasks: list[asyncio.Task[None]] = []

    async def _unseal(self, sealed: bytes, context: bytes) -> bytes:
        return unseal_stream(sealed, KEY, context)

    async def publish(self, topic: str, payload: bytes, *, correlation: bytes = b"") -> None:
        """To the operator whose stream that is."""
        assert topic.split("/")[3] == "replies"
        self.links[correlation].receive(payload)

    async def open(
        self,
        name: str,
        nonce: str,
        *,
        user: str = "",
        method: str = FOLLOW,
        sealed_for: str = "",
        lives: float = 1e6,
    ) -> StreamLink:
        """The operator's end of a new stream."""
        user = user or f"user:{name}"
        context = stream_context("plant", "gw-1", f"user:{name}", sealed_for or method, nonce)
        half = new_half()
        secret = StreamSecret(half=half, private=msgspec.Raw(b'{"private":true}'))
        kind = ExecParams if method == EXEC else FollowParams
        params = kind(namespace="shop", pod="web", sealed=seal_stream(secret, KEY.public, context))
        asked = request(
            name, "plant", target="gw-1", method=method, nonce=nonce, expires=0.0,
            params=msgspec.Raw(canonical_json(params)), user=user,
        )  # fmt: skip
        answer = await self.streams.open(OperatorCall(name, "1", self.clock.now() + lives, asked))
        to_node, to_operator = ciphers(half, answer.half, context)

        async def publish(packet: bytes) -> None:
            self.streams.deliver(user, nonce, packet)

        link = StreamLink(
            Carrier(to_node, to_operator, client=True, now=self.clock.monotonic()),
            client=True,
            publish=publish,
            clock=self.clock,
        )
        self.links[nonce.encode()] = link
        self.tasks.append(asyncio.create_task(link.run()))
        return link

    async def stop(self) -> None:
        """End everything."""
        await self.streams.stop()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)


def with_node(work: Callable[[Node], Awaitable[None]], **limits: int) -> None:
    async def run() -> None:
        node = Node(**limits)
        async with asyncio.timeout(30):
            await work(node)
            await node.stop()

    asyncio.run(run())


def test_a_stream_is_served_and_what_is_private_reaches_the_service() -> None:
    async def work(node: Node) -> None:
        link = await node.open("ann", "n" * 32)
        channel = await link.channels.open("c")
        assert node.service.requests[0].private == b'{"private":true}'
        assert node.service.requests[0].operator == "ann"
        channel.close()

    with_node(work)


def test_there_are_no_more_than_may_be_in_all_and_of_one() -> None:
    async def work(node: Node) -> None:
        links = [await node.open("ann", str(number) * 32) for number in (1, 2)]
        with pytest.raises(RpcError, match="2 of them of ann") as caught:
            await node.open("ann", "3" * 32)
        assert caught.value.reason == "TooManyRequests"
        links += [await node.open("ben", str(number) * 32) for number in (4, 5)]
        with pytest.raises(RpcError, match="4 streams open"):
            await node.open("cid", "6" * 32)
        links[0].channels.end()
        await node.clock.settle()
        await node.open("cid", "7" * 32)

    with_node(work)


def test_who_reads_logs_leaves_room_for_commands() -> None:
    async def work(node: Node) -> None:
        links = [await node.open("ann", str(number) * 32) for number in (1, 2)]
        links += [await node.open("ben", "3" * 32)]
        with pytest.raises(RpcError, match="3 streams of 'follow' open, and keeps the rest") as caught:
            await node.open("ben", "4" * 32)
        assert caught.value.reason == "TooManyRequests"
        await node.open("root", "5" * 32, method=EXEC)
        with pytest.raises(RpcError, match="4 streams open"):
            await node.open("root", "6" * 32, method=EXEC)
        links[0].channels.end()
        await node.clock.settle()
        await node.open("ben", "7" * 32)

    with_node(work, follows=3)


def test_logs_that_are_being_opened_count() -> None:
    async def work(node: Node) -> None:
        node.service.may_open.clear()
        opening = [asyncio.create_task(node.open(name, name[0] * 32)) for name in ("ann", "ben")]
        await node.clock.settle()
        with pytest.raises(RpcError, match="2 streams of 'follow' open"):
            await node.open("cid", "c" * 32)
        node.service.may_open.set()
        await asyncio.gather(*opening)

    with_node(work, follows=2)


@pytest.mark.parametrize(("streams", "follows"), [(16, 12), (5, 4), (4, 3), (3, 2), (2, 1), (1, 1), (0, 0)])
def test_a_quarter_of_the_streams_is_kept_for_commands_and_ports(streams: int, follows: int) -> None:
    limits = stream_limits(RemoteSection(max_streams=streams))
    assert limits.of_method == {FOLLOW: follows}
    assert (limits.streams, limits.of_one, limits.bandwidth) == (streams, 8, 1_048_576)
    assert {EXEC, PORT_FORWARD}.isdisjoint(limits.of_method)


def test_who_loses_the_right_loses_the_stream_and_others_do_not() -> None:
    async def work(node: Node) -> None:
        ann, ben = await node.open("ann", "1" * 32), await node.open("ben", "2" * 32)
        await ann.channels.open("c")
        await ben.channels.open("c")

        def check(call: OperatorCall) -> None:
            if call.operator == "ann":
                raise ForbiddenError("ann may not")

        node.streams.judge(check)
        over = await ann.channels.ended()
        assert (over.reason, str(over)) == ("Forbidden", "ann may not")
        await node.clock.settle()
        assert node.service.done == 1
        assert ben.channels.over is None

    with_node(work)


def test_a_certificate_that_runs_out_ends_its_streams_then(caplog: pytest.LogCaptureFixture) -> None:
    async def work(node: Node) -> None:
        ann = await node.open("ann", "1" * 32, lives=3_600)
        ben = await node.open("ben", "2" * 32, lives=7_200)
        await ann.channels.open("c")
        await ben.channels.open("c")
        await node.clock.advance(3_599)
        assert ann.channels.over is None
        await node.clock.advance(1)
        over = await ann.channels.ended()
        assert over.reason == "Unauthorized"
        assert "the certificate of operator ann ran out" in str(over)
        assert "edgehub operator add" in str(over), "what to do next"
        assert node.service.done == 1
        assert ben.channels.over is None

    with_node(work)
    assert "a stream of ann ends" in caplog.text


def test_a_clock_that_is_put_back_does_not_end_a_stream_too_early() -> None:
    async def work(node: Node) -> None:
        link = await node.open("ann", "1" * 32, lives=100)
        node.clock.set_wall_clock(-50)
        await node.clock.advance(149)
        assert link.channels.over is None
        await node.clock.advance(1)
        assert link.channels.over is not None

    with_node(work)


def test_who_loses_the_right_while_the_stream_is_being_opened_gets_none() -> None:
    async def work(node: Node) -> None:
        node.service.may_open.clear()
        opening = asyncio.create_task(node.open("ann", "1" * 32))
        await node.clock.settle()
        assert node.service.requests

        def check(call: OperatorCall) -> None:
            raise ForbiddenError(f"{call.operator} may not")

        node.streams.judge(check)
        node.service.may_open.set()
        with pytest.raises(ForbiddenError, match="ann may not"):
            await opening
        node.streams.judge(lambda _call: None)
        for nonce in ("2", "3"):
            await node.open("ann", nonce * 32)  # nothing is left of the first

    with_node(work)


def test_a_stop_is_told_and_ends_what_serves() -> None:
    async def work(node: Node) -> None:
        link = await node.open("ann", "1" * 32)
        await link.channels.open("c")
        await node.streams.stop()
        assert (await link.channels.ended()).reason == "ServiceUnavailable"
        assert node.service.done == 1

    with_node(work)


def test_a_stream_that_is_being_opened_while_the_agent_stops_is_refused_and_serves_nothing() -> None:
    async def work(node: Node) -> None:
        node.service.may_open.clear()
        opening = asyncio.create_task(node.open("ann", "1" * 32))
        await node.clock.settle()
        assert node.service.requests
        await node.streams.stop()
        node.service.may_open.set()
        with pytest.raises(RpcError, match="the agent stops") as caught:
            await opening
        assert caught.value.reason == "ServiceUnavailable"
        with pytest.raises(RpcError, match="the agent stops"):
            await node.open("ann", "2" * 32)
        assert len(node.service.requests) == 1, "nothing is begun any more"

    with_node(work)


def test_a_service_that_cannot_opens_nothing_and_its_error_is_the_answer() -> None:
    async def work(node: Node) -> None:
        node.service.problem = PermanentError("no such pod", reason="NotFound")
        with pytest.raises(PermanentError, match="no such pod"):
            await node.open("ann", "1" * 32)
        node.service.problem = None
        for nonce in ("2", "3"):
            await node.open("ann", nonce * 32)  # nothing is left of the first

    with_node(work)


def test_a_bug_in_a_service_ends_its_stream_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def work(node: Node) -> None:
        link = await node.open("ann", "1" * 32)
        with pytest.raises(Exception, match="see its log"):
            await link.channels.open("bug")
        over = await link.channels.ended()
        assert (over.reason, str(over)) == ("InternalError", "ZeroDivisionError on the node; see its log")

    with_node(work)
    assert "a stream met a bug" in caplog.text


@pytest.mark.parametrize(("user", "method"), [("user:eve", FOLLOW), ("", EXEC)])
def test_a_key_that_was_sealed_for_another_call_opens_nothing(user: str, method: str) -> None:
    async def work(node: Node) -> None:
        with pytest.raises(PermanentError):
            await node.open("ann", "1" * 32, user=user, method=method, sealed_for=FOLLOW)
        assert node.service.requests == []

    with_node(work)


def test_packets_for_no_stream_and_of_nobody_are_passed_over() -> None:
    async def work(node: Node) -> None:
        link = await node.open("ann", "1" * 32)
        node.streams.deliver("user:ann", "2" * 32, b"x")
        node.streams.deliver("user:eve", "1" * 32, b"x")
        node.streams.deliver("user:ann", "1" * 32, b"rubbish that is long enough to be one")
        await link.channels.open("c")

    with_node(work)
