"""Streams over a session: fair, paced, over cuts, and at their end known to both sides."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.pace import Pace
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.channelio import Channel, ChannelClosedError, StreamEndedError
from edgeagent.wire.channels import WINDOW_BYTES
from edgeagent.wire.stream import LOST_SECONDS, MAX_PACKET_BYTES, Carrier
from edgeagent.wire.streamkey import ciphers, stream_context
from edgeagent.wire.streamlink import LINGER_SECONDS, UNDER_WAY, StreamLink

CONTEXT = stream_context("plant", "gw-1", "user:ada", "exec", "n" * 32)


def unlimited(_size: int) -> float:
    """As a node without a limit."""
    return 0.0


class Line:
    """Two links and the session of each, on a clock that stands still."""

    def __init__(
        self, clock: ManualClock | None = None, *, pace: Callable[[int], float] | None = None
    ) -> None:
        self.clock = clock or ManualClock()
        self.up = True
        self.refuses = False
        self.under_way = 0
        self.most_under_way = 0
        self.bytes_to_operator = 0
        self.said: list[str] = []
        to_node, to_operator = ciphers(bytes(32), bytes(32), CONTEXT)
        self.operator = StreamLink(
            Carrier(to_node, to_operator, client=True, now=0.0),
            client=True,
            publish=lambda packet: self._publish(self.node, packet),
            clock=self.clock,
            on_pause=lambda why: self.said.append(f"pause: {why}"),
            on_resume=lambda: self.said.append("resume"),
        )
        self.node = StreamLink(
            Carrier(to_operator, to_node, client=False, now=0.0),
            client=False,
            publish=self._to_operator,
            clock=self.clock,
            pace=pace or unlimited,
        )
        self.tasks = [asyncio.create_task(link.run()) for link in (self.operator, self.node)]

    async def _to_operator(self, packet: bytes) -> None:
        self.bytes_to_operator += len(packet)
        await self._publish(self.operator, packet)

    async def _publish(self, to: StreamLink, packet: bytes) -> None:
        assert len(packet) <= MAX_PACKET_BYTES
        if self.refuses:
            raise PermanentError("the broker refused it", reason="BrokerRefused")
        if not self.up:
            raise TemporaryError("no connection", reason="Disconnected")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            to.receive(packet)
        finally:
            self.under_way -= 1

    async def channel(self) -> tuple[Channel, Channel]:
        """One that the node opened: the node's half and the operator's."""
        opening = asyncio.create_task(self.node.channels.open("log"))
        theirs = await self.operator.channels.accept()
        theirs.accept()
        return await opening, theirs

    async def stop(self) -> None:
        """End both."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


def with_line(work: Callable[[Line], Awaitable[None]]) -> None:
    async def run() -> None:
        line = Line()
        async with asyncio.timeout(30):
            await work(line)
        await line.stop()

    asyncio.run(run())


async def pour(channel: Channel) -> None:
    while True:
        await channel.write(bytes(16_000))


def test_no_more_than_a_few_publications_are_under_way_however_much_is_to_be_said() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        pouring = asyncio.create_task(pour(ours))
        amount = 0
        while amount < 2_000_000:
            amount += len(await theirs.read())
        assert line.most_under_way <= UNDER_WAY + 1, "and the other side's acknowledgements"
        pouring.cancel()

    with_line(work)


def test_who_does_not_read_is_not_sent_more_than_the_window() -> None:
    async def work(line: Line) -> None:
        ours, _theirs = await line.channel()
        pouring = asyncio.create_task(pour(ours))
        await line.clock.settle()
        sent = line.bytes_to_operator
        assert sent < WINDOW_BYTES + 4_096
        await line.clock.advance(10)
        assert line.bytes_to_operator - sent < 1_000, "no more than a few signals"
        pouring.cancel()

    with_line(work)


def with_pace(rate: float, work: Callable[[Line], Awaitable[None]]) -> None:
    """On a line whose node sends so many bytes a second."""

    async def run() -> None:
        clock = ManualClock()
        line = Line(clock, pace=Pace(clock, rate=rate, burst=rate).reserve)
        async with asyncio.timeout(30):
            await work(line)
        await line.stop()

    asyncio.run(run())


def test_the_bandwidth_holds() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        amount = 0

        async def read() -> None:
            nonlocal amount
            while True:
                amount += len(await theirs.read())

        tasks = [asyncio.create_task(pour(ours)), asyncio.create_task(read())]
        await line.clock.settle()
        for _ in range(30):
            await line.clock.advance(1.0)
        assert 0.8 * 300_000 < line.bytes_to_operator <= 310_000 + 2 * MAX_PACKET_BYTES
        assert amount > 0.8 * 300_000
        for task in tasks:
            task.cancel()

    with_pace(10_000, work)


def test_signals_do_not_wait_for_the_bandwidth_and_a_slow_stream_lives() -> None:
    """A packet takes ever longer than a stream may be silent."""

    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        tasks = [asyncio.create_task(pour(ours)), asyncio.create_task(read_on(theirs))]
        await line.clock.advance(1_000)
        assert line.said == [], "the node has answered in time"
        assert line.node.channels.over is None
        assert line.operator.channels.over is None
        for task in tasks:
            task.cancel()

    with_pace(200, work)


def test_what_is_typed_is_acknowledged_while_the_answer_waits_for_the_bandwidth() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        tasks = [asyncio.create_task(pour(ours)), asyncio.create_task(read_on(theirs))]
        await line.clock.advance(100)
        for _ in range(20):
            await theirs.write(b"x")
            await line.clock.advance(1)
            assert line.operator._carrier.all_arrived
        for task in tasks:
            task.cancel()

    with_pace(200, work)


async def read_on(channel: Channel) -> None:
    while True:
        await channel.read()


def test_a_cut_on_either_side_loses_nothing_and_the_client_says_so() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        text = b"".join(b"%d\n" % number for number in range(20_000))
        writing = asyncio.create_task(ours.write(text))
        came = await theirs.read()
        for side in (line.operator, line.node, line.operator):
            line.up = False
            side.disconnected("the network is down")
            await line.clock.advance(LOST_SECONDS / 2)
            line.up = True
            side.connected()
            while len(came) < len(text) and line.clock.monotonic() < 1_000:
                came += await theirs.read()
                if len(came) % 3 == 0:
                    break
        await writing
        ours.end_writing()
        while data := await theirs.read():
            came += data
        assert came == text
        assert line.said[:2] == ["pause: the network is down", "resume"]

    with_line(work)


def test_after_a_cut_it_goes_on_at_once() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        await line.clock.settle()
        line.up = False
        line.operator.disconnected("down")
        await ours.write(b"lost on the way")
        await line.clock.settle()
        line.up = True
        before = line.clock.monotonic()
        line.operator.connected()
        assert await theirs.read() == b"lost on the way"
        assert line.clock.monotonic() == before

    with_line(work)


def test_who_is_away_for_too_long_finds_the_stream_ended_on_both_sides() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        line.up = False
        line.node.disconnected("gone")
        line.operator.disconnected("gone")
        await line.clock.advance(LOST_SECONDS + 1)
        for channel in (ours, theirs):
            with pytest.raises(StreamEndedError, match="60 s"):
                await channel.read()
        await asyncio.wait(line.tasks)

    with_line(work)


def test_a_node_that_does_not_answer_is_told_of_before_it_is_given_up() -> None:
    async def work(line: Line) -> None:
        await line.channel()
        line.up = False
        await line.clock.advance(LOST_SECONDS - 1)
        assert line.said == ["pause: the node does not answer"]
        line.up = True
        await line.clock.advance(10)
        assert line.said == ["pause: the node does not answer"], "the node has given it up by itself"
        assert line.operator.channels.over is not None

    with_line(work)


def test_an_end_arrives_and_both_are_done() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        await ours.write(b"last words")
        ours.end_writing()
        finishing = asyncio.create_task(line.node.channels.finish())
        assert await theirs.read() == b"last words"
        assert await theirs.read() == b""
        await finishing
        over = await line.operator.channels.ended()
        assert over.reason == ""
        await line.clock.advance(1.0)
        await asyncio.wait(line.tasks)
        assert all(task.done() for task in line.tasks)

    with_line(work)


def test_an_end_that_cannot_arrive_is_waited_for_a_little() -> None:
    async def work(line: Line) -> None:
        line.up = False
        line.node.channels.end("Forbidden", "no more")
        await line.clock.advance(LINGER_SECONDS - 1)
        assert not line.tasks[1].done()
        await line.clock.advance(2)
        assert line.tasks[1].done()

    with_line(work)


def test_a_broker_that_refuses_ends_the_stream_with_its_reason() -> None:
    async def work(line: Line) -> None:
        ours, _ = await line.channel()
        line.refuses = True
        with pytest.raises(StreamEndedError, match="the broker refused it"):
            await pour(ours)
        await asyncio.wait(line.tasks[1:])

    with_line(work)


def test_a_peer_that_breaks_the_rules_is_told_and_the_stream_ends() -> None:
    async def work(line: Line) -> None:
        line.operator._carrier.send([b"\xc1 no frame"])
        line.operator._wake.set()
        over = await line.node.channels.ended()
        assert over.reason == "ProtocolError"
        assert (await line.operator.channels.ended()).reason == "ProtocolError"

    with_line(work)


def test_a_closed_channel_takes_nothing_more_and_others_go_on() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        other, _ = await line.channel()
        theirs.close()
        with pytest.raises(ChannelClosedError):
            await pour(ours)
        await other.write(b"x")
        assert line.node.channels.over is None

    with_line(work)


def test_requests_come_in_order_with_the_bytes_before_them() -> None:
    async def work(line: Line) -> None:
        ours, theirs = await line.channel()
        for number in range(100):
            writing = asyncio.create_task(ours.request("exit", b"%d" % number))
            assert await theirs.next_request() == ("exit", b"%d" % number)
            await writing
        ours.close()
        assert await theirs.next_request() is None

    with_line(work)


def test_a_channel_that_is_refused_says_why() -> None:
    async def run(line: Line) -> None:
        opening = asyncio.create_task(line.operator.channels.open("port", b"{}"))
        offered = await line.node.channels.accept()
        offered.refuse("ConnectionRefused", "nobody listens")
        with pytest.raises(PermanentError, match="nobody listens") as caught:
            await opening
        assert caught.value.reason == "ConnectionRefused"

    with_line(run)
