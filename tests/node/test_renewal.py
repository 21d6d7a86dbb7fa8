"""A node's certificate over the years, with a clock that is moved by hand."""

from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.cluster.certificates import current, pending
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.renewal import RenewalRequest, decode_renewal, encode_renewal, open_renewal_answer
from tests.node.renewalkit import CLUSTER, DAY, NODE, HubSide, NodeSide, Running, in_loop

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


def own_key(node: NodeSide) -> PrivateKey:
    return PrivateKey(node.renewal.tls_files.key.read_bytes())


async def until_due(node: NodeSide) -> None:
    """A day after the certificate is due."""
    assert node.renewal._schedule is not None
    await node.clock.advance(node.renewal._schedule.due - node.clock.now() + DAY)


async def days(clock: ManualClock, count: float) -> None:
    """That many days, one after the other."""
    for _ in range(int(count)):
        await clock.advance(DAY)


@in_loop
async def test_ten_years_of_renewals(node: NodeSide) -> None:
    async with Running(node):
        serials = [node.certificate.serial]
        for _ in range(10 * 52):
            await node.clock.advance(7 * DAY)
            assert node.works()
            if node.certificate.serial != serials[-1]:
                serials.append(node.certificate.serial)
        # Between two thirds and 77 per cent of 366 days each.
        assert 13 <= len(serials) - 1 <= 15
        assert len(set(serials)) == len(serials)
        assert node.renewal.condition[:2] == (True, "Current")
        assert [reason for _, reason, _ in node.said] == ["CertificateRenewed"] * (len(serials) - 1)
        assert node.hub.store.node(NODE) is not None
        assert current(node.hub.store)[NODE].serial == serials[-1]
        assert pending(node.hub.store, NODE) == []


@in_loop
async def test_nodes_enrolled_together_spread_out(hub: HubSide, tmp_path: Path) -> None:
    moments = []
    for number in range(30):
        (tmp_path / str(number)).mkdir()
        node = NodeSide(hub, tmp_path / str(number), f"gw-{number}", seed=number)
        await node.renewal._step()
        assert node.renewal._schedule is not None
        moments.append((node.renewal._schedule.due - node.certificate.not_before) / (366 * DAY))
    assert min(moments) >= 2 / 3
    assert max(moments) <= 2 / 3 + 0.1
    assert max(moments) - min(moments) > 0.06
    assert len({round(moment, 3) for moment in moments}) > 15


@in_loop
async def test_the_moment_is_kept_over_restarts(node: NodeSide, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Running(node):
        schedule = node.renewal._schedule
    # A start has no need to read the certificate.
    monkeypatch.delattr("edgeagent.node.renewal.plan")
    node.make()
    async with Running(node):
        assert node.renewal._schedule == schedule


@in_loop
async def test_a_failing_renewal_is_said_and_tried_again_and_ends_nothing(node: NodeSide) -> None:
    async with Running(node):
        before = node.certificate.serial
        node.failure = TemporaryError("the hub is away", reason="NoAnswer")
        await until_due(node)
        good, reason, message = node.renewal.condition
        assert (good, reason) == (False, "NoAnswer")
        assert "could not be renewed: the hub is away" in message
        asked = len(node.asked)
        await days(node.clock, 1)
        assert 24 <= len(node.asked) - asked <= 100
        assert node.said == [("Warning", "CertificateNotRenewed", message)]
        assert node.works()
        assert node.certificate.serial == before
        assert node.connected
        node.failure = None
        await days(node.clock, 1)
        assert node.certificate.serial != before
        assert node.renewal.condition[:2] == (True, "Current")


@in_loop
async def test_a_disk_that_is_full_keeps_the_old_pair(
    node: NodeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with Running(node):
        before = node.certificate.serial
        with monkeypatch.context() as patch:
            patch.setattr("edgeagent.node.renewedfiles.write_private", full)
            await until_due(node)
            assert node.renewal.condition[1] == "StorageFailed"
            assert node.works()
            assert node.certificate.serial == before
        await days(node.clock, 1)
        assert node.works()
        assert node.certificate.serial != before


@in_loop
async def test_an_answer_that_is_lost_is_had_again_without_another_certificate(node: NodeSide) -> None:
    node.lost = [TemporaryError("lost", reason="NoAnswer")] * 3
    async with Running(node):
        await days(node.clock, 300)
        serials = {
            row[0]
            for row in node.hub.store.execute("SELECT serial FROM certificates WHERE name = ?", (NODE,))
        }
        assert len(serials) == 2
        assert node.works()


@in_loop
async def test_the_old_key_is_good_until_the_new_one_was_used(node: NodeSide) -> None:
    old = own_key(node)
    new = PrivateKey.generate()
    asked = request(node, old, new.request(NODE))
    assert node.hub.renewals.answer(asked) is not None
    # The answer was lost, and with it the new key.
    other = PrivateKey.generate()
    assert node.hub.renewals.answer(request(node, old, other.request(NODE))) is not None
    # It is confirmed: the key before it, and the one that was lost, count no more.
    assert node.hub.renewals.answer(request(node, other)) is not None
    assert node.hub.renewals.answer(request(node, old, PrivateKey.generate().request(NODE))) is None
    assert node.hub.renewals.answer(request(node, new, PrivateKey.generate().request(NODE))) is None
    assert node.hub.renewals.answer(request(node, other, PrivateKey.generate().request(NODE))) is not None


@in_loop
async def test_a_node_asks_for_no_more_than_a_few_at_a_time(node: NodeSide) -> None:
    for _ in range(4):
        asked = request(node, own_key(node), PrivateKey.generate().request(NODE))
        answer = node.hub.renewals.answer(asked)
        assert answer is not None
        assert open_renewal_answer(answer, asked, node.anchor).certificate
    asked = request(node, own_key(node), PrivateKey.generate().request(NODE))
    answer = node.hub.renewals.answer(asked)
    assert answer is not None
    assert open_renewal_answer(answer, asked, node.anchor).reason == "TooManyRequests"


# Who may, and what is believed


@in_loop
async def test_a_wrong_proof_is_owed_no_answer(node: NodeSide, hub: HubSide, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = NodeSide(hub, tmp_path / "other", "gw-2")
    wanted = PrivateKey.generate()
    before = hub.store.node(NODE)
    for key in (wanted, PrivateKey.generate(), own_key(other)):
        assert hub.renewals.answer(request(node, key, wanted.request(NODE))) is None
    # Another node's own request, for this one's name or through this one's topic.
    assert hub.renewals.answer(request(other, own_key(other), wanted.request("gw-2")), name=NODE) is None
    good = request(node, own_key(node), wanted.request(NODE))
    for damaged in (good[:-1], good[:50], b"", good + b"x", good[:-20] + bytes(20)):
        assert hub.renewals.answer(damaged) is None
    assert hub.store.node(NODE) == before
    assert pending(hub.store, NODE) == []


@in_loop
async def test_a_request_for_another_name_is_refused(node: NodeSide) -> None:
    asked = request(node, own_key(node), PrivateKey.generate().request("gw-2"))
    assert node.hub.renewals.answer(asked) is None


@in_loop
async def test_a_request_that_is_replayed_gets_what_the_node_got_and_nothing_after(node: NodeSide) -> None:
    async with Running(node):
        await days(node.clock, 300)
        replayed = node.asked[0]
        in_use = node.certificate.serial
        assert decode_renewal(replayed, cluster=CLUSTER).wanted == node.certificate.public_key
        # Signed by the key before, which counts no more.
        assert node.hub.renewals.answer(replayed) is None
        assert current(node.hub.store)[NODE].serial == in_use
    asked = request(node, own_key(node), PrivateKey.generate().request(NODE))
    first, second = node.hub.renewals.answer(asked), node.hub.renewals.answer(asked)
    assert first is not None
    assert second is not None
    assert (
        open_renewal_answer(first, asked, node.anchor).certificate
        == open_renewal_answer(second, asked, node.anchor).certificate
    )


@in_loop
async def test_an_answer_to_another_request_or_of_another_key_is_not_believed(node: NodeSide) -> None:
    new = PrivateKey.generate()
    asked = request(node, own_key(node), new.request(NODE))
    again = request(node, own_key(node), new.request(NODE), nonce=bytes(15) + b"1")
    answer = node.hub.renewals.answer(asked)
    assert answer is not None
    with pytest.raises(PermanentError, match="another request"):
        open_renewal_answer(answer, again, node.anchor)
    stranger = HubSide(node.files.path.parent / "stranger", node.clock)
    with pytest.raises(PermanentError, match="not signed"):
        open_renewal_answer(answer, asked, stranger.signing.current().anchor)


@in_loop
async def test_a_broker_that_answers_itself_changes_nothing(node: NodeSide, tmp_path: Path) -> None:
    """One that has all topics, and even an old answer, and a CA of its own."""
    before = node.certificate.serial
    stranger = HubSide(tmp_path / "stranger", node.clock)
    (tmp_path / "twin").mkdir()
    twin = NodeSide(stranger, tmp_path / "twin")
    forged = stranger.renewals.answer(request(twin, own_key(twin), PrivateKey.generate().request(NODE)))
    assert forged is not None
    replies = [forged, b"", b"\x00" * 300_000, forged[:100]]

    async def answer(_: bytes) -> bytes:
        return replies[len(node.said) % len(replies)]

    node.ask = answer  # type: ignore[assignment,method-assign]
    node.make()
    async with Running(node):
        await days(node.clock, 300)
        assert node.certificate.serial == before
        assert node.works()
        assert node.renewal.condition[0] is False


@in_loop
async def test_a_revoked_node_cannot_renew(node: NodeSide) -> None:
    with node.hub.store.transaction():
        node.hub.store.execute("UPDATE nodes SET state = 'revoked' WHERE name = ?", (NODE,))
    async with Running(node):
        node.cut("TLS failed: SSLV3_ALERT_CERTIFICATE_REVOKED")
        await node.clock.settle()
        good, reason, message = node.renewal.condition
        assert (good, reason) == (False, "Revoked")
        assert "enrol it anew" in message
    assert pending(node.hub.store, NODE) == []


@in_loop
async def test_a_revoked_node_cannot_make_a_newer_key_count(node: NodeSide) -> None:
    new = PrivateKey.generate()
    assert node.hub.renewals.answer(request(node, own_key(node), new.request(NODE))) is not None
    with node.hub.store.transaction():
        node.hub.store.execute("UPDATE nodes SET state = 'revoked' WHERE name = ?", (NODE,))
    asked = request(node, new)
    answer = node.hub.renewals.answer(asked)
    assert answer is not None
    assert open_renewal_answer(answer, asked, node.anchor).reason == "Revoked"
    assert len(pending(node.hub.store, NODE)) == 1


@in_loop
async def test_a_hub_whose_store_is_of_before_the_last_renewal_goes_on(node: NodeSide) -> None:
    store = node.hub.store
    before = store.execute("SELECT * FROM nodes"), store.execute("SELECT * FROM certificates")
    stolen = own_key(node)
    shown = node.certificate
    async with Running(node):
        await days(node.clock, 300)
        # From a backup.
        with store.transaction():
            store.execute("DELETE FROM nodes")
            store.execute("DELETE FROM certificates")
            for table, rows in zip(("nodes", "certificates"), before, strict=True):
                for row in rows:
                    marks = ", ".join("?" for _ in row)
                    store.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608
        last = node.certificate.serial
        await days(node.clock, 300)
        assert node.certificate.serial != last
        assert node.works()
        assert current(store)[NODE].serial == node.certificate.serial
    # What the store knows to be older does not come back this way.
    old = RenewalRequest(
        cluster=CLUSTER,
        node=NODE,
        certificate=shown.der,
        nonce=bytes(16),
        csr=PrivateKey.generate().request(NODE),
    )
    assert node.hub.renewals.answer(encode_renewal(old, stolen)) is None
