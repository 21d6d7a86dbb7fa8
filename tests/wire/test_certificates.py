"""Certificates, requests and chains, against the hub's authority."""

import dataclasses
import datetime
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edgeagent.api.errors import PermanentError
from edgeagent.cluster.ca import CA_DAYS, NODE_DAYS, Authority
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import (
    MAX_BUNDLE,
    PrivateKey,
    check_chain,
    read_bundle,
    read_certificate,
    read_certificate_der,
    read_request,
    verifies,
)

DAY = 86_400.0
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Cluster:
    """An authority and its clock."""

    authority: Authority
    clock: ManualClock


@pytest.fixture
def cluster() -> Cluster:
    clock = ManualClock(NOW)
    return Cluster(Authority.create("c1", clock)[0], clock)


def test_a_request_becomes_a_certificate_for_the_nodes_own_key(cluster: Cluster) -> None:
    key = PrivateKey.generate()
    signed = cluster.authority.sign_csr(key.request("gw-1"), "gw-1", 365)
    found = read_certificate(signed.certificate)
    assert (found.serial, found.common_name, found.public_key) == (signed.serial, "gw-1", key.public)
    assert found.fits(key)
    assert not found.fits(PrivateKey.generate())
    assert found.not_before == NOW - DAY
    assert found.not_after == NOW + 365 * DAY
    assert read_certificate_der(found.der) == found
    assert read_certificate(found.pem) == found
    check_chain(found, cluster.authority.certificate, now=NOW)


def test_a_key_survives_its_pem(cluster: Cluster) -> None:
    key = PrivateKey.generate()
    again = PrivateKey(key.pem)
    assert again.public == key.public
    signature = again.sign(b"data")
    assert verifies(key.public, signature, b"data")
    assert not verifies(key.public, signature, b"other")
    assert not verifies(PrivateKey.generate().public, signature, b"data")
    assert not verifies(b"no key", signature, b"data")
    assert not verifies(key.public, b"no signature", b"data")


def test_a_request_for_another_name_or_key_is_refused(cluster: Cluster) -> None:
    with pytest.raises(PermanentError, match="'gw-2', not 'gw-1'"):
        cluster.authority.sign_csr(PrivateKey.generate().request("gw-2"), "gw-1", 365)
    with pytest.raises(PermanentError, match="cannot be read"):
        read_request(b"\x30\x03\x02\x01\x01")
    request = bytearray(PrivateKey.generate().request("gw-1"))
    request[-1] ^= 1
    with pytest.raises(PermanentError, match=r"not signed by the key|cannot be read"):
        read_request(bytes(request))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw-1")])
    for other in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        hashing = None if isinstance(other, ed25519.Ed25519PrivateKey) else SHA256()
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(other, hashing)
        with pytest.raises(PermanentError, match="no ECDSA key on P-256"):
            read_request(csr.public_bytes(Encoding.DER))


def test_other_kinds_of_keys_are_refused() -> None:
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(PermanentError, match="P-256"):
        PrivateKey(pem)
    with pytest.raises(PermanentError, match="cannot be read"):
        PrivateKey("nothing")


def test_texts_that_hold_no_certificates_are_refused(cluster: Cluster) -> None:
    for text in ("", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(PermanentError, match="cannot be read"):
            read_certificate(text)
    with pytest.raises(PermanentError, match="more than 16 certificates"):
        read_bundle(cluster.authority.certificate * (MAX_BUNDLE + 1))
    with pytest.raises(PermanentError, match="bytes of certificates"):
        read_bundle(b" " * 200_000)


def test_a_certificate_is_valid_under_its_own_ca_and_in_its_time_alone(cluster: Cluster) -> None:
    found = read_certificate(cluster.authority.node("gw-1").certificate)
    ca = cluster.authority.certificate
    check_chain(found, ca, now=found.not_after)
    with pytest.raises(PermanentError, match="has expired"):
        check_chain(found, ca, now=found.not_after + 1)
    with pytest.raises(PermanentError, match="not valid yet"):
        check_chain(found, ca, now=found.not_before - 1)
    other = Authority.create("c1", cluster.clock)[0]
    with pytest.raises(PermanentError, match="not signed by the cluster's CA"):
        check_chain(found, other.certificate, now=NOW)
    check_chain(found, other.certificate + ca, now=NOW)


def test_a_nodes_certificate_signs_for_nobody(cluster: Cluster) -> None:
    node = cluster.authority.node("gw-1")
    impostor = Authority(node.certificate, node.key, cluster.clock)
    forged = read_certificate(impostor.node("gw-2").certificate)
    with pytest.raises(PermanentError, match="not signed by the cluster's CA"):
        check_chain(
            forged, cluster.authority.certificate, now=NOW, between=[read_certificate(node.certificate)]
        )


def test_cross_signatures_lead_from_an_old_ca_over_others_to_the_newest(cluster: Cluster) -> None:
    authorities = [cluster.authority]
    crosses = []
    for number in (2, 3, 4):
        following = Authority.create("c1", cluster.clock, number)[0]
        crosses.append(read_certificate(authorities[-1].cross_sign(following.certificate).certificate))
        authorities.append(following)
    found = read_certificate(authorities[-1].node("gw-1").certificate)
    check_chain(found, authorities[0].certificate, now=NOW, between=crosses)
    with pytest.raises(PermanentError, match="not signed"):
        check_chain(found, authorities[0].certificate, now=NOW, between=crosses[1:])
    with pytest.raises(PermanentError, match="not signed"):
        check_chain(found, authorities[0].certificate, now=NOW)
    check_chain(found, authorities[2].certificate, now=NOW, between=crosses)


def test_lives_end_with_the_ca(cluster: Cluster) -> None:
    end = read_certificate(cluster.authority.certificate).not_after
    assert end == NOW + CA_DAYS * DAY
    cluster.clock.set_wall_clock(end - 10 * DAY - NOW)
    assert read_certificate(cluster.authority.node("gw-1", NODE_DAYS).certificate).not_after == end
    cluster.clock.set_wall_clock(10 * DAY + 1)
    with pytest.raises(PermanentError, match="edgehub ca rotate"):
        cluster.authority.node("gw-1")


def test_due_is_a_fraction_of_the_life(cluster: Cluster) -> None:
    found = read_certificate(cluster.authority.node("gw-1", 299).certificate)
    assert found.due(2 / 3) == pytest.approx(found.not_before + 200 * DAY)


def test_a_revocation_list_names_serials_and_lives_as_long_as_the_ca(cluster: Cluster) -> None:
    one = cluster.authority.node("gw-1")
    crl = x509.load_pem_x509_crl(cluster.authority.revocation_list([one.serial, one.serial]).encode())
    assert [f"{revoked.serial_number:x}" for revoked in crl] == [one.serial]
    assert crl.next_update_utc == datetime.datetime.fromtimestamp(NOW + CA_DAYS * DAY, datetime.UTC)
    ca = x509.load_pem_x509_certificate(cluster.authority.certificate.encode())
    public = ca.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(public)
    assert list(x509.load_pem_x509_crl(cluster.authority.revocation_list([]).encode())) == []


def test_a_cluster_may_have_the_longest_name(cluster: Cluster) -> None:
    Authority.create("c" * 63, cluster.clock, 12)


@pytest.mark.parametrize("now", [NOW, NOW - 10 * DAY, NOW + 400 * DAY])
def test_what_is_said_of_a_strangers_certificate_is_short_and_one_line(cluster: Cluster, now: float) -> None:
    """Whoever makes a certificate chooses the name in it, and with that what stands in others' logs."""
    strangers = read_certificate(Authority.create("c2", cluster.clock)[0].node("gw-1").certificate)
    named = dataclasses.replace(strangers, common_name="user:ann\nall is well" + "x" * 4_000)
    with pytest.raises(PermanentError) as raised:
        check_chain(named, cluster.authority.certificate, now=now)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200
