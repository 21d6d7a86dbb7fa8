"""A node's certificate over the years, with a clock that is moved by hand."""

from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.cluster.certificates import current, pending
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import PrivateKey, read_certificate
from edgeagent.wire.renewal import RenewalRequest, decode_renewal, encode_renewal, open_renewal_answer
from tests.node.renewalkit import CLUSTER, DAY, NODE, YEAR, HubSide, NodeSide, Running, in_loop

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


# Offline for long


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
