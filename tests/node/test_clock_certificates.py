"""Certificates that run out while a node is offline and its clock is wrong: nobody drives out for one."""

from pathlib import Path

import pytest

from edgeagent.testing.clock import ManualClock
from tests.node.clockkit import ClockNode, running
from tests.node.renewalkit import DAY, YEAR, HubSide, in_loop

NOW = 1_800_000_000.0


@pytest.fixture
def node(tmp_path: Path) -> ClockNode:
    """A node whose clock is right, and which has heard of the hub."""
    (tmp_path / "node").mkdir()
    made = ClockNode(HubSide(tmp_path / "hub", ManualClock(NOW)), tmp_path / "node", 0.0)
    made.time.at_least(NOW)
    return made


@pytest.mark.parametrize("absence", [1, 30, 3 * 365])
@pytest.mark.parametrize("clock", ["right", "1970", "10 years ahead"])
@in_loop
async def test_back_after_the_certificate_ran_out(node: ClockNode, absence: int, clock: str) -> None:
    """The machine was off, and starts with the clock that it has."""
    node.time.close()
    node.connected = False
    await node.clock.advance(node.certificate.not_after - node.clock.now() + absence * DAY)
    node.hub.rotate_ca(finish=True)
    node.wrong.ahead = {"right": 0.0, "1970": -node.clock.now(), "10 years ahead": 10 * YEAR}[clock]
    node.make()
    assert not node.works()
    assert node.time.now() >= NOW
    async with running(node, renews=True):
        # The broker's is in order, as far as this node can tell; the node's own is not, says the broker.
        assert node.time.floor() < node.clock.now()
        node.cut("TLS failed: SSLV3_ALERT_CERTIFICATE_EXPIRED")
        await node.clock.settle()
        assert node.at_door == 1
        assert node.works()
        # The same answer has said what time it is.
        assert abs(node.error) < 1
        node.connect()
        await node.clock.settle()
        assert node.renewal.condition[:2] == (True, "Current")
        condition = node.time.condition
        assert condition is not None
        assert condition[0] == (clock == "right")
        # From here on it is renewed in time, and not for ever.
        renewed = node.certificate.serial
        await node.clock.advance(200 * DAY)
        assert node.certificate.serial == renewed
        await node.clock.advance(100 * DAY)
        assert node.certificate.serial != renewed
        assert node.works()
        assert node.at_door == 1


@pytest.mark.parametrize("ahead", [-NOW, 10 * YEAR])
@in_loop
async def test_a_wrong_clock_has_nothing_renewed_once_the_hub_was_heard(
    node: ClockNode, ahead: float
) -> None:
    node.connected = False
    node.wrong.ahead = ahead
    node.make()
    before = node.certificate.serial
    async with running(node, renews=True):
        node.connect()
        await node.clock.settle()
        for _ in range(20):
            await node.clock.advance(DAY)
            node.connect()
            await node.clock.settle()
        assert node.certificate.serial == before
        assert node.answers == []
        assert node.said == []


@pytest.mark.parametrize("by", [-NOW, -3_600.0, 3_600.0, 10 * YEAR])
@in_loop
async def test_a_clock_that_is_set_while_the_node_is_connected(node: ClockNode, by: float) -> None:
    async with running(node, renews=True):
        node.connect()
        await node.clock.settle()
        before = node.certificate.serial
        node.wrong.ahead = by
        await node.clock.advance(30 * DAY)
        assert node.certificate.serial == before
        node.cut("127.0.0.1:8883: Connection refused")
        node.connect()
        await node.clock.settle()
        assert abs(node.error) < 1
        assert (node.certificate.serial, node.at_door) == (before, 0)


@in_loop
async def test_a_floor_that_was_wrong_is_put_right_at_the_door(node: ClockNode) -> None:
    """A hub ten years ahead signed an index: for this node the broker's certificate has expired then."""
    node.time.at_least(NOW + 10 * YEAR)
    async with running(node, renews=True):
        node.cut("127.0.0.1:8883: TLS failed: the broker's certificate has expired")
        await node.clock.settle()
        assert node.at_door == 1
        assert node.works()
        assert node.time.floor() == NOW
        node.make()
        assert node.time.floor() == NOW
