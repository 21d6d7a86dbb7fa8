"""The cluster's certificate authority: who may talk to the broker, and under which name.

The one module that issues certificates. May not know where its files lie or what a name is
used for: it makes PEM texts and gives them back. A certificate's common name is the MQTT user name:
a node's name as it is, ``user:<name>`` for an operator, ``hub`` for the hub.
"""

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.wire.certificates import read_request

CA_DAYS = 7305
"""Twenty years; what it signs ends with it at the latest, so it is to be rotated well before."""
VALID_DAYS = 3652
"""Ten years: a person, and a hub whose CA key lies elsewhere, renew only when somebody remembers it."""
NODE_DAYS = 365
"""Nodes renew by themselves at two thirds of it."""
BACKDATE = datetime.timedelta(days=1)
"""A board without a battery clock may be a little behind when it first connects."""
HUB_NAME = "hub"
USER_PREFIX = "user:"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key as PEM texts, and the serial number in hex."""

    certificate: str
    key: str
    serial: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate as PEM text for a key that others hold, and the serial number in hex."""

    certificate: str
    serial: str


class Authority:
    """Signs certificates with a CA's key (ECDSA P-256).

    ``certificate`` is what it was made with: its own certificate, and perhaps others to believe, as PEM.
    """

    def __init__(self, certificate: str, key: str, clock: Clock) -> None:
        try:
            loaded = load_pem_private_key(key.encode(), None)
            self._certificate = x509.load_pem_x509_certificate(certificate.encode())
        except (ValueError, TypeError) as error:
            raise PermanentError(f"the CA's certificate or key cannot be read: {error}") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise PermanentError("the CA's key is no ECDSA key")
        if loaded.public_key() != self._certificate.public_key():
            raise PermanentError("the CA's certificate and key do not belong together")
        self._key = loaded
        self._clock = clock
        self.certificate = certificate
        self.key = key

    @property
    def key_id(self) -> str:
        """The id of its key in hex: what its certificates name as their issuer's (RFC 5280, 4.2.1.1)."""
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()).digest.hex()

    @classmethod
    def create(cls, cluster: str, clock: Clock, number: int = 1) -> tuple["Authority", Issued]:
        """A new authority for ``cluster``, its ``number``th, and its own certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        # A common name has 64 characters at most (RFC 5280, A.1); the number keeps CAs apart for people.
        name = _name(f"edgeagent {cluster[:40]} CA" + (f" {number}" if number > 1 else ""))
        certificate = _sign_ca(name, key.public_key(), name, key, _now(clock), None)
        issued = _issued(certificate, key)
        return cls(issued.certificate, issued.key, clock), issued

    def cross_sign(self, certificate: str) -> Signed:
        """``certificate``, that of another CA, signed by this one: who trusts this CA then trusts the other.

        PermanentError where this CA may not sign for another.
        """
        other = x509.load_pem_x509_certificate(certificate.encode())
        public = other.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise PermanentError("the other CA's key is no ECDSA key")
        constraints = self._certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if constraints.path_length is not None:
            raise PermanentError("the CA's certificate forbids it to sign for another CA", reason="Invalid")
        latest = min(self._certificate.not_valid_after_utc, other.not_valid_after_utc)
        signed = _sign_ca(
            other.subject, public, self._certificate.subject, self._key, _now(self._clock), latest
        )
        return Signed(signed.public_bytes(Encoding.PEM).decode(), f"{signed.serial_number:x}")

    def server(self, hosts: Sequence[str]) -> Issued:
        """For a broker that is reached under ``hosts``: names or IP addresses."""
        names = [_host_name(host) for host in dict.fromkeys(hosts)]
        return self._issue(hosts[0][:64], ExtendedKeyUsageOID.SERVER_AUTH, names)

    def hub(self) -> Issued:
        """For the hub."""
        return self._client(HUB_NAME)

    def node(self, name: str, days: int = NODE_DAYS) -> Issued:
        """For a node. The name ``hub`` is the hub's own."""
        if name == HUB_NAME or not name or ":" in name:
            raise PermanentError(f"a node cannot be called {name!r}: the name is reserved", reason="Invalid")
        return self._client(name, days)

    def operator(self, name: str) -> Issued:
        """For a person; the colon in the common name keeps it from ever being a node's."""
        return self._client(USER_PREFIX + name)

    def sign_csr(self, csr: bytes, common_name: str, days: int) -> Signed:
        """A client certificate for the key of ``csr`` (DER), valid for ``days``.

        The request must be for that very ``common_name``; nothing else of it is taken over but the key.
        PermanentError where it is not, or the request is not signed by its own key.
        """
        request = read_request(csr)
        if request.common_name != common_name:
            raise PermanentError(
                f"the request is for {request.common_name!r}, not {common_name!r}", reason="Invalid"
            )
        public = load_der_public_key(request.public_key)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise PermanentError("the request is for no ECDSA key", reason="Invalid")
        certificate = self._certify(
            public, common_name, ExtendedKeyUsageOID.CLIENT_AUTH, _client_names(common_name), days
        )
        return Signed(certificate.public_bytes(Encoding.PEM).decode(), f"{certificate.serial_number:x}")

    def reissue(self, certificate: str) -> Signed:
        """``certificate`` (PEM) anew, for the same key, name and purpose, valid for ten years from now.

        For the hub's own: with the key as it is, one file changes, and that in one step.
        """
        old = x509.load_pem_x509_certificate(certificate.encode())
        public = old.public_key()
        common_name = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(common_name, str):
            raise PermanentError("the certificate is for no ECDSA key, or has no name")
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        purpose = next(iter(old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value))
        signed = self._certify(public, common_name, purpose, list(names), VALID_DAYS)
        return Signed(signed.public_bytes(Encoding.PEM).decode(), f"{signed.serial_number:x}")

    def revocation_list(self, serials: Iterable[str]) -> str:
        """A CRL as PEM text (RFC 5280, 5) that names ``serials`` (hex), of this CA's own certificates.

        It is valid as long as the CA: a broker refuses everybody under a CRL that has run out.
        """
        now = _now(self._clock)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATE)
            .next_update(max(self._certificate.not_valid_after_utc, now))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(x509.CRLNumber(int(self._clock.now() * 1000)), critical=False)
        )
        for serial in sorted({int(serial, 16) for serial in serials}):
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - BACKDATE)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM).decode()

    def _client(self, common_name: str, days: int = VALID_DAYS) -> Issued:
        return self._issue(common_name, ExtendedKeyUsageOID.CLIENT_AUTH, _client_names(common_name), days)

    def _issue(
        self,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName],
        days: int = VALID_DAYS,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        return _issued(self._certify(key.public_key(), common_name, purpose, names, days), key)

    def _certify(
        self,
        public: ec.EllipticCurvePublicKey,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName],
        days: int,
    ) -> x509.Certificate:
        now, latest = _now(self._clock), self._certificate.not_valid_after_utc
        if now >= latest:
            raise PermanentError("the CA has expired: start the next with `edgehub ca rotate`")
        return (
            _builder(
                _name(common_name),
                self._certificate.subject,
                public,
                self._key.public_key(),
                now,
                min(now + datetime.timedelta(days=days), latest),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, SHA256())
        )


def _sign_ca(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    latest: datetime.datetime | None,
) -> x509.Certificate:
    """A CA's certificate. No limit on the path below: each CA signs for the one that follows it."""
    end = now + datetime.timedelta(days=CA_DAYS)
    return (
        _builder(subject, issuer, public, issuer_key.public_key(), now, min(end, latest or end))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(issuer_key, SHA256())
    )


def _client_names(common_name: str) -> list[x509.GeneralName]:
    # A URI takes any name; a DNS name would not take the operators' colon.
    return [x509.UniformResourceIdentifier(f"urn:edgeagent:{common_name}")]


def _now(clock: Clock) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(clock.now()), datetime.UTC)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(
        certificate.public_bytes(Encoding.PEM).decode(), pem.decode(), f"{certificate.serial_number:x}"
    )
