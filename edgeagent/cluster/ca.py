"""The cluster's certificate authority: who may talk to the broker, and under which name.

The one user of ``cryptography.x509`` in edgeagent. May not know where its files lie or what a name is
used for: it makes PEM texts and gives them back. A certificate's common name is the MQTT user name:
a node's name as it is, ``user:<name>`` for an operator, ``hub`` for the hub.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError

VALID_DAYS = 3652
"""Ten years: a device in the field outlives every renewal that depends on somebody remembering it."""
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


class Authority:
    """Signs certificates with the cluster's CA key (ECDSA P-256)."""

    def __init__(self, certificate: str, key: str, clock: Clock) -> None:
        try:
            loaded = load_pem_private_key(key.encode(), None)
            self._certificate = x509.load_pem_x509_certificate(certificate.encode())
        except (ValueError, TypeError) as error:
            raise PermanentError(f"the CA's certificate or key cannot be read: {error}") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise PermanentError("the CA's key is no ECDSA key")
        self._key = loaded
        self._clock = clock
        self.certificate = certificate

    @classmethod
    def create(cls, cluster: str, clock: Clock) -> tuple["Authority", Issued]:
        """A new authority for ``cluster``, and its own certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"edgeagent {cluster} CA")
        usage = _key_usage(signs_certificates=True)
        certificate = (
            _builder(name, name, key.public_key(), key.public_key(), _now(clock), None)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, SHA256())
        )
        issued = _issued(certificate, key)
        return cls(issued.certificate, issued.key, clock), issued

    def server(self, hosts: Sequence[str]) -> Issued:
        """For a broker that is reached under ``hosts``: names or IP addresses."""
        names = [_host_name(host) for host in dict.fromkeys(hosts)]
        return self._issue(hosts[0][:64], ExtendedKeyUsageOID.SERVER_AUTH, names)

    def hub(self) -> Issued:
        """For the hub."""
        return self._client(HUB_NAME)

    def node(self, name: str) -> Issued:
        """For a node. The name ``hub`` is the hub's own."""
        if name == HUB_NAME or not name or ":" in name:
            raise PermanentError(f"a node cannot be called {name!r}: the name is reserved", reason="Invalid")
        return self._client(name)

    def operator(self, name: str) -> Issued:
        """For a person; the colon in the common name keeps it from ever being a node's."""
        return self._client(USER_PREFIX + name)

    def _client(self, common_name: str) -> Issued:
        # A URI takes any name; a DNS name would not take the operators' colon.
        names = [x509.UniformResourceIdentifier(f"urn:edgeagent:{common_name}")]
        return self._issue(common_name, ExtendedKeyUsageOID.CLIENT_AUTH, names)

    def _issue(
        self, common_name: str, purpose: x509.ObjectIdentifier, names: Sequence[x509.GeneralName]
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(
                _name(common_name),
                self._certificate.subject,
                key.public_key(),
                self._key.public_key(),
                _now(self._clock),
                self._certificate.not_valid_after_utc,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, SHA256())
        )
        return _issued(certificate, key)


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
    latest: datetime.datetime | None,
) -> x509.CertificateBuilder:
    end = now + datetime.timedelta(days=VALID_DAYS)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(end, latest) if latest else end)
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
