"""The carrier: whatever a broker loses, repeats, reorders or makes up, frames arrive once and in order."""

import secrets

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.wire.keys import SealingKey, StreamCipher
from edgeagent.wire.stream import (
    ACKNOWLEDGE_SECONDS,
    LOST_SECONDS,
    MAX_PACKET_BYTES,
    MAX_UNACKNOWLEDGED,
    PACKET_BYTES,
    PING_SECONDS,
    PROBE_SECONDS,
    SIGNALS,
    Carrier,
)
from edgeagent.wire.streamkey import (
    StreamSecret,
    ciphers,
    new_half,
    read_secret,
    seal_stream,
    stream_context,
    unseal_stream,
)

HALF, OTHER_HALF = bytes(32), bytes([1]) * 32
CONTEXT = stream_context("plant", "gw-1", "user:ada", "exec", "n" * 32)


def carriers(now: float = 0.0) -> tuple[Carrier, Carrier]:
    """The operator's and the node's."""
    to_node, to_operator = ciphers(HALF, OTHER_HALF, CONTEXT)
    return (
        Carrier(to_node, to_operator, client=True, now=now),
        Carrier(to_operator, to_node, client=False, now=now),
    )


SIDES = st.sampled_from([0, 1])


class _Machine(RuleBasedStateMachine):
    """Two carriers and a broker that does what it likes; the model is the list of frames that were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sides = carriers()
        self.wires: tuple[list[bytes], list[bytes]] = ([], [])
        self.seen: tuple[list[bytes], list[bytes]] = ([], [])
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.came: tuple[list[bytes], list[bytes]] = ([], [])
        self.count = 0

    @rule(side=SIDES, frames=st.integers(1, 3))
    def sends(self, side: int, frames: int) -> None:
        if self.sides[side].may_send:
            made = [str(self.count + one).encode() for one in range(frames)]
            self.count += frames
            self.sides[side].send(made)
            self.sent[side].extend(made)

    @rule(side=SIDES)
    def publishes(self, side: int) -> None:
        if (packet := self.sides[side].next_packet(self.now)) is not None:
            assert len(packet) <= MAX_PACKET_BYTES
            self.wires[side].append(packet)
            self.seen[side].append(packet)

    def _deliver(self, side: int, packet: bytes) -> None:
        self.came[1 - side].extend(self.sides[1 - side].receive(packet, self.now))

    @rule(side=SIDES, times=st.integers(1, 5))
    def delivers(self, side: int, times: int) -> None:
        for _ in range(min(times, len(self.wires[side]))):
            self._deliver(side, self.wires[side].pop(0))

    @rule(side=SIDES)
    def loses(self, side: int) -> None:
        if self.wires[side]:
            self.wires[side].pop(0)

    @rule(side=SIDES, data=st.data())
    def repeats(self, side: int, data: st.DataObject) -> None:
        if self.seen[side]:
            self._deliver(side, data.draw(st.sampled_from(self.seen[side])))

    @rule(side=SIDES, data=st.data())
    def sends_back(self, side: int, data: st.DataObject) -> None:
        """What one side said comes back to it."""
        if self.seen[side]:
            before = self.sides[side].heard
            packet = data.draw(st.sampled_from(self.seen[side]))
            assert self.sides[side].receive(packet, self.now) == []
            assert self.sides[side].heard == before

    @rule(side=SIDES, data=st.data())
    def reorders(self, side: int, data: st.DataObject) -> None:
        if self.wires[side]:
            at = data.draw(st.integers(0, len(self.wires[side]) - 1))
            self._deliver(side, self.wires[side].pop(at))

    @rule(side=SIDES, data=st.data(), bit=st.integers(0, 7))
    def forges(self, side: int, data: st.DataObject, bit: int) -> None:
        if self.seen[side]:
            packet = bytearray(data.draw(st.sampled_from(self.seen[side])))
            packet[data.draw(st.integers(0, len(packet) - 1))] ^= 1 << bit
            before = self.sides[1 - side].heard
            self._deliver(side, bytes(packet))
            assert self.sides[1 - side].heard == before

    @rule(side=SIDES)
    def loses_its_connection(self, side: int) -> None:
        """What was under way to it and from it is gone."""
        for wire in self.wires:
            wire.clear()
        self.sides[side].reconnected()

    @rule(seconds=st.sampled_from([ACKNOWLEDGE_SECONDS, PROBE_SECONDS, PING_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for one in self.sides:
            one.tick(self.now)

    @invariant()
    def once_and_in_order(self) -> None:
        for side in (0, 1):
            came = self.came[1 - side]
            assert came == self.sent[side][: len(came)]

    def teardown(self) -> None:
        """A broker that does its work: all arrives, and both know."""
        for _ in range(200):
            self.now += 1.0
            for side, one in enumerate(self.sides):
                one.tick(self.now)
                while (packet := one.next_packet(self.now)) is not None:
                    self.wires[side].append(packet)
                while self.wires[side]:
                    self._deliver(side, self.wires[side].pop(0))
            if all(one.all_arrived for one in self.sides):
                break
        for side in (0, 1):
            assert self.came[1 - side] == self.sent[side]
            assert self.sides[side].all_arrived


TestCarrier = _Machine.TestCase
TestCarrier.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


def exchange(source: Carrier, sink: Carrier, now: float) -> list[bytes]:
    came: list[bytes] = []
    while (packet := source.next_packet(now)) is not None:
        came += sink.receive(packet, now)
    return came


def test_no_more_is_kept_than_is_acknowledged_in_time() -> None:
    operator, node = carriers()
    for _ in range(MAX_UNACKNOWLEDGED):
        node.send([b"x"])
    assert not node.may_send
    exchange(node, operator, 0.0)
    exchange(operator, node, 0.0)
    assert node.may_send


def test_an_idle_stream_is_asked_after_by_the_client_and_both_hear_of_each_other() -> None:
    operator, node = carriers()
    now = 0.0
    while now < 10 * LOST_SECONDS:
        now = min(operator.next_tick(), node.next_tick())
        packets = 0
        for source, sink in ((operator, node), (node, operator)):
            source.tick(now)
            packets += len(exchange(source, sink, now))
        assert not operator.is_lost(now)
        assert not node.is_lost(now)
    assert operator.heard <= 10 * LOST_SECONDS / PING_SECONDS + 1, "one answer for each question"


def test_who_hears_nothing_gives_the_stream_up() -> None:
    operator, _ = carriers()
    assert not operator.is_lost(LOST_SECONDS - 0.1)
    assert operator.is_lost(LOST_SECONDS)


@pytest.mark.parametrize("which", [0, 2])
def test_who_is_gone_is_not_kept_alive_by_repeats_of_what_it_said(which: int) -> None:
    """Else whoever owns the broker keeps a command running that nobody attends, and a program waiting."""
    operator, node = carriers()
    for text in (b"1", b"2", b"3"):
        operator.send([text])
    packets = [operator.next_packet(0.0) or b"" for _ in range(3)]
    assert node.receive(packets[0], 0.0) == [b"1"]
    now = 0.0
    while now < LOST_SECONDS:
        now += 10.0
        assert node.receive(packets[which], now) == []
    assert node.is_lost(now)
    assert node.heard == 1


def test_a_signal_counts_once() -> None:
    operator, node = carriers()
    node.send([b"1"])
    operator.reconnected()
    signals = [operator.next_packet(0.0) or b"" for _ in range(2)]
    for signal in signals:
        node.receive(signal, 1.0)
    while node.next_packet(1.0) is not None:
        pass
    for signal in signals:
        node.receive(signal, LOST_SECONDS)
    assert (node.heard, node.passed_over) == (2, 2)
    assert node.is_lost(1.0 + LOST_SECONDS), "the repeats kept nothing alive"
    assert node.next_packet(LOST_SECONDS) is None, "and nothing was sent again for them"


def test_a_gap_is_asked_for_once_and_what_follows_is_passed_over() -> None:
    operator, node = carriers()
    for text in (b"1", b"2", b"3", b"4"):
        node.send([text])
    packets = [node.next_packet(0.0) for _ in range(4)]
    assert operator.receive(packets[0] or b"", 0.0) == [b"1"]
    assert operator.receive(packets[2] or b"", 0.0) == []
    assert operator.receive(packets[3] or b"", 0.0) == []
    signal = operator.next_packet(0.0)
    assert signal is not None
    assert operator.next_packet(0.0) is None
    node.receive(signal, 0.0)
    assert exchange(node, operator, 0.0) == [b"2", b"3", b"4"]


def test_the_last_packet_is_asked_after() -> None:
    operator, node = carriers()
    node.send([b"last"])
    assert node.next_packet(0.0) is not None  # and lost
    node.tick(PROBE_SECONDS)
    assert exchange(node, operator, PROBE_SECONDS) == []
    exchange(operator, node, PROBE_SECONDS)
    assert exchange(node, operator, PROBE_SECONDS) == [b"last"]


@pytest.mark.parametrize("plain", [b"", b"\xc1", b"\x93\x01\x00\x90", b"\x93\x01\x63\x90"])
def test_a_side_that_seals_nonsense_is_told_from_a_forger(plain: bytes) -> None:
    """Only who has the key can do that: the stream is to end, not to go on without it."""
    operator, _ = carriers()
    _, to_operator = ciphers(HALF, OTHER_HALF, CONTEXT)
    for number in (0, SIGNALS):
        if number == 0 and plain == b"\x93\x01\x00\x90":
            continue  # data with no frames
        packet = number.to_bytes(8) + to_operator.seal(number, plain)
        with pytest.raises(InvalidObjectError):
            operator.receive(packet, 0.0)


def test_sizes_are_bounded() -> None:
    operator, _ = carriers()
    assert operator.receive(bytes(MAX_PACKET_BYTES + 1), 0.0) == []
    assert operator.receive(b"", 0.0) == []
    assert operator.passed_over == 2
    operator.send([bytes(PACKET_BYTES)])
    packet = operator.next_packet(0.0)
    assert packet is not None
    assert len(packet) <= MAX_PACKET_BYTES


def test_a_key_is_for_one_node_and_one_call() -> None:
    key = SealingKey.generate()
    secret = StreamSecret(half=new_half())
    sealed = seal_stream(secret, key.public, CONTEXT)
    assert read_secret(unseal_stream(sealed, key, CONTEXT)) == secret
    for other in (
        stream_context("plant", "gw-2", "user:ada", "exec", "n" * 32),
        stream_context("plant", "gw-1", "user:bob", "exec", "n" * 32),
        stream_context("plant", "gw-1", "user:ada", "follow", "n" * 32),
        stream_context("plant", "gw-1", "user:ada", "exec", "m" * 32),
    ):
        with pytest.raises(PermanentError):
            unseal_stream(sealed, key, other)
    with pytest.raises(PermanentError):
        unseal_stream(sealed, SealingKey.generate(), CONTEXT)
    with pytest.raises(PermanentError, match="context"):
        unseal_stream(sealed, key, CONTEXT.removeprefix(b"edgeagent/v1 stream "))


def test_both_halves_are_in_the_key_and_the_two_ways_differ() -> None:
    ours = ciphers(HALF, OTHER_HALF, CONTEXT)
    others = [
        ciphers(OTHER_HALF, HALF, CONTEXT),
        ciphers(HALF, HALF, CONTEXT),
        ciphers(HALF, OTHER_HALF, CONTEXT + b"x"),
        (ours[1], ours[0]),
    ]
    sealed = ours[0].seal(7, b"data")
    assert ours[0].open(7, sealed) == b"data"
    for cipher in [other[0] for other in others]:
        with pytest.raises(PermanentError):
            cipher.open(7, sealed)
    with pytest.raises(PermanentError):
        ours[0].open(8, sealed)
    with pytest.raises(PermanentError):
        ciphers(HALF[:31], OTHER_HALF, CONTEXT)
    assert StreamCipher(secrets.token_bytes(32)).seal(1, b"") != b""
