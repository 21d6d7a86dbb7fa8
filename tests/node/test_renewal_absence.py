"""Certificates that ran out meanwhile, clocks that are wrong, and CAs that follow each other."""

from pathlib import Path

import msgspec
import pytest

from edgeagent.cluster.certificates import current
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import PrivateKey, read_certificate
from edgeagent.wire.renewal import RenewalRequest, encode_renewal
from tests.node.renewalkit import CLUSTER, DAY, NODE, YEAR, HubSide, NodeSide, Running, in_loop

pytestmark = pytest.mark.slow

NOW = 1_800_000_000.0


@pytest.fixture
def hub(tmp_path: Path) -> HubSide:
    return HubSide(tmp_path / "hub", ManualClock(NOW))


@pytest.fixture
def node(hub: HubSide, tmp_path: Path) -> NodeSide:
    (tmp_path / "node").mkdir()
    return NodeSide(hub, tmp_path / "node")


def request(node: NodeSide, key: PrivateKey, csr: bytes = b"", nonce: bytes = bytes(16)) -> bytes:
    """A request as the node would make it, signed by ``key``."""
    return encode_renewal(
        RenewalRequest(
            cluster=CLUSTER, node=node.name, certificate=node.certificate.der, nonce=nonce, csr=csr
        ),
        key,
    )


async def until_due(node: NodeSide) -> None:
    """A day after the certificate is due."""
    assert node.renewal._schedule is not None
    await node.clock.advance(node.renewal._schedule.due - node.clock.now() + DAY)


async def days(clock: ManualClock, count: float) -> None:
    """That many days, one after the other."""
    for _ in range(int(count)):
        await clock.advance(DAY)


@pytest.mark.parametrize("absence", [1, 30, 3 * 365])
@in_loop
async def test_back_after_a_certificate_ran_out(node: NodeSide, absence: int) -> None:
    """Three CAs, of which none but the newest counts, and five signing keys later."""
    end = node.certificate.not_after
    node.connected = False
    await node.clock.advance(end - node.clock.now() - 5)
    for _ in range(3):
        node.hub.rotate_ca(finish=True)
    for _ in range(5):
        node.hub.rotate_key()
    await node.clock.advance(absence * DAY)
    assert not node.works()
    async with Running(node):
        node.cut("TLS failed: SSLV3_ALERT_CERTIFICATE_EXPIRED")
        await node.clock.settle()
        assert node.at_door == 1
        assert node.works()
        assert node.files.ca.read_text() == "".join(node.hub.trust.spec.ca_bundle)
        assert node.contexts, "the next connection is made with the new pair"
        node.connect()
        await node.clock.settle()
        assert node.renewal.condition[:2] == (True, "Current")
        assert current(node.hub.store)[NODE].serial == node.certificate.serial


@in_loop
async def test_whoever_is_cut_off_asks_at_the_door_less_and_less_often(node: NodeSide) -> None:
    node.reachable = False
    async with Running(node):
        node.cut("TLS failed: CERTIFICATE_VERIFY_FAILED")
        await node.clock.advance(3_600)
        first_hour = node.at_door
        await node.clock.advance(23 * 3_600)
        assert 3 <= first_hour <= 200
        assert node.at_door - first_hour <= 23 * 12
        node.reachable = True
        await node.clock.advance(3 * 3_600)
        assert node.works()


@in_loop
async def test_a_broker_that_refuses_whatever_is_issued_gets_the_hub_no_flood(node: NodeSide) -> None:
    async with Running(node):
        for _ in range(24 * 60):
            node.cut("TLS failed: TLSV1_ALERT_UNKNOWN_CA")
            await node.clock.advance(60)
        assert node.at_door < 24 * 30


@in_loop
async def test_a_lost_network_is_no_case_for_the_door(node: NodeSide) -> None:
    async with Running(node):
        for _ in range(50):
            node.cut("127.0.0.1:8883: Connection refused")
            await node.clock.advance(60)
        assert node.at_door == 0


# Clocks


@in_loop
async def test_a_clock_far_ahead_renews_once_and_not_for_ever(node: NodeSide) -> None:
    node.ahead = 70 * YEAR
    async with Running(node):
        await days(node.clock, 20)
        assert len(node.answers) == 2  # the certificate, and the word that it is used
        assert node.works()
    node.make()
    async with Running(node):
        await days(node.clock, 20)
        assert len(node.answers) == 2
        await days(node.clock, 200)
        assert len(node.answers) >= 4
        assert node.works()
        # The clock is set right: what counts then is the certificate's own date.
        node.ahead = 0.0
        renewed = node.certificate.serial
        await days(node.clock, 200)
        assert node.certificate.serial == renewed
        await days(node.clock, 100)
        assert node.certificate.serial != renewed
        assert node.works()


@in_loop
async def test_a_clock_that_begins_in_1970_gets_back_in_all_the_same(node: NodeSide) -> None:
    node.ahead = -NOW
    node.connected = False
    await node.clock.advance(2 * YEAR)
    async with Running(node):
        node.cut("TLS failed: SSLV3_ALERT_CERTIFICATE_EXPIRED")
        await node.clock.settle()
        assert node.works()


# New CAs


@in_loop
async def test_a_new_ca_is_believed_and_followed(node: NodeSide) -> None:
    async with Running(node):
        before = node.certificate
        node.hub.rotate_ca()
        assert len(node.hub.trust.spec.ca_bundle) == 2
        node.told = [node.hub.trust]
        node.renewal.switched()
        await node.clock.settle()
        assert node.files.ca.read_text() == "".join(node.hub.trust.spec.ca_bundle)
        await node.clock.advance(node.hub.trust.spec.renewal_seconds + 1)
        assert node.certificate.issuer_key != before.issuer_key
        assert node.works()
        node.hub.rotate_ca(finish=True)
        assert not node.works()
    assert node.said[-1][1] == "CertificateRenewed"


@in_loop
async def test_cas_that_cannot_be_read_change_nothing(node: NodeSide) -> None:
    ca = node.files.ca.read_text()
    trust = node.hub.trust
    broken = msgspec.structs.replace(trust.spec, ca_bundle=["nonsense"])
    node.told = [msgspec.structs.replace(trust, spec=broken)]
    async with Running(node):
        assert node.files.ca.read_text() == ca
        await days(node.clock, 300)
        assert node.works()
        assert node.renewal.condition[0]


@in_loop
async def test_an_older_word_on_the_cas_does_not_undo_a_newer(node: NodeSide) -> None:
    """The store still has the ClusterTrust of before the node went away."""
    node.connected = False
    await node.clock.advance(2 * YEAR)
    node.hub.rotate_ca(finish=True)
    async with Running(node):
        node.cut("TLS failed: SSLV3_ALERT_CERTIFICATE_EXPIRED")
        await node.clock.settle()
        assert node.works()
    ca = node.files.ca.read_text()
    node.make()
    async with Running(node):
        assert node.files.ca.read_text() == ca
        assert node.works()


@in_loop
async def test_a_broker_that_does_not_know_the_new_ca_yet_costs_nothing(
    node: NodeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Running(node):
        before = node.certificate.serial
        with monkeypatch.context() as patch:
            patch.setattr(HubSide, "lets_in", lambda *_: False)
            node.hub.rotate_ca()
            node.told = [node.hub.trust]
            node.renewal.switched()
            await node.clock.advance(DAY)
            assert node.renewal.condition[1] == "CertificateRefused"
            assert node.certificate.serial == before
        await node.clock.advance(DAY)
        assert node.certificate.serial != before
        assert node.works()


@in_loop
async def test_without_the_cas_key_the_hub_says_so_and_the_node_waits(node: NodeSide) -> None:
    key = node.hub.files.ca_key.read_bytes()
    node.hub.files.ca_key.unlink()
    async with Running(node):
        await until_due(node)
        assert node.renewal.condition[1] == "Unavailable"
        assert "ca.key" in node.renewal.condition[2]
        node.hub.files.ca_key.write_bytes(key)
        await days(node.clock, 1)
        assert node.works()
        assert node.renewal.condition[0]


@in_loop
async def test_a_node_of_before_keys_were_kept_renews(node: NodeSide) -> None:
    store = node.hub.store
    with store.transaction():
        store.execute("UPDATE nodes SET public_key = x''")
        store.execute("DELETE FROM certificates")
    async with Running(node):
        await days(node.clock, 300)
        assert node.works()
        assert len(node.answers) == 2
    stored = store.node(NODE)
    assert stored is not None
    assert stored.public_key == read_certificate(node.files.certificate.read_bytes()).public_key
    with store.transaction():
        store.execute("UPDATE nodes SET public_key = x''")
        store.execute("DELETE FROM certificates")
    forged = PrivateKey.generate()
    assert node.hub.renewals.answer(request(node, forged, PrivateKey.generate().request(NODE))) is None
