"""Certificates as a node and its hub handle them: P-256 keys, requests (RFC 2986), dates, names, chains.

May not issue anything: that is the hub's authority (``edgeagent.cluster.ca``). Imports ``cryptography.x509``,
which costs several megabytes: a node imports this module when it enrols or renews, never when it starts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from edgeagent.api.errors import PermanentError

BAD_CERTIFICATE = "BadCertificate"
"""The reason of every error here."""
MAX_CERTIFICATE_BYTES = 16_384
"""Of one certificate, request or key, in whichever encoding."""
MAX_BUNDLE_BYTES = 131_072
MAX_BUNDLE = 16
"""How many certificates one PEM text may hold."""
MAX_CHAIN_LENGTH = 16
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What ``cryptography`` says of keys and certificates that are none, or of a kind it does not know."""


class PrivateKey:
    """An ECDSA key on P-256: a node's or an operator's, for TLS and to sign requests with."""

    def __init__(self, pem: str | bytes) -> None:
        """From PEM; PermanentError where it is something else."""
        data = pem.encode() if isinstance(pem, str) else pem
        try:
            loaded = load_pem_private_key(data[:MAX_CERTIFICATE_BYTES], None)
        except _UNREADABLE as error:
            raise PermanentError(f"the key cannot be read: {error}", reason=BAD_CERTIFICATE) from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(loaded.curve, ec.SECP256R1):
            raise PermanentError("the key is no ECDSA key on P-256", reason=BAD_CERTIFICATE)
        self._key = loaded
        self.public = _spki(loaded.public_key())
        """The public half: SubjectPublicKeyInfo in DER (RFC 5280, 4.1.2.7)."""

    @classmethod
    def generate(cls) -> "PrivateKey":
        """A new key from the system's randomness."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @property
    def pem(self) -> str:
        """The private key as PEM (PKCS #8), not encrypted."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature with SHA-256 over ``data``, in DER."""
        return self._key.sign(data, ec.ECDSA(SHA256()))

    def request(self, common_name: str) -> bytes:
        """A certificate signing request in DER for ``common_name``; it proves that this key is held."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, SHA256())
        return request.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a certificate. Times are seconds since 1970; ``public_key`` is SPKI in DER.

    ``key_id`` names its key and ``issuer_key`` that of its CA (RFC 5280, 4.2.1.1 and 4.2.1.2), in hex; empty
    where it does not say.
    """

    serial: str
    common_name: str
    not_before: float
    not_after: float
    public_key: bytes
    key_id: str
    issuer_key: str
    der: bytes = field(repr=False)

    @property
    def pem(self) -> str:
        """As PEM, the certificate alone."""
        return _load_der(self.der).public_bytes(Encoding.PEM).decode()

    def due(self, fraction: float) -> float:
        """When that fraction of its life is over; seconds since 1970."""
        return self.not_before + (self.not_after - self.not_before) * fraction

    def fits(self, key: PrivateKey) -> bool:
        """Whether ``key`` is the private half of what is certified."""
        return self.public_key == key.public


@dataclass(frozen=True, slots=True)
class Request:
    """A certificate signing request whose own signature was checked."""

    common_name: str
    public_key: bytes


def read_certificate(pem: str | bytes) -> Certificate:
    """The first certificate of a PEM text; PermanentError where there is none."""
    return read_bundle(pem)[0]


def read_bundle(pem: str | bytes) -> list[Certificate]:
    """All certificates of a PEM text, in order, at least one; PermanentError."""
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > MAX_BUNDLE_BYTES:
        raise PermanentError(f"more than {MAX_BUNDLE_BYTES} bytes of certificates", reason=BAD_CERTIFICATE)
    if data.count(b"-----BEGIN CERTIFICATE") > MAX_BUNDLE:
        raise PermanentError(f"more than {MAX_BUNDLE} certificates", reason=BAD_CERTIFICATE)
    try:
        return [_facts(one) for one in x509.load_pem_x509_certificates(data)]
    except _UNREADABLE as error:
        raise PermanentError(f"the certificate cannot be read: {error}", reason=BAD_CERTIFICATE) from None


def read_certificate_der(der: bytes) -> Certificate:
    """A certificate from DER; PermanentError."""
    return _facts(_load_der(der))


def read_request(der: bytes) -> Request:
    """A certificate signing request from DER, for a P-256 key that whoever made it holds; PermanentError."""
    try:
        if len(der) > MAX_CERTIFICATE_BYTES:
            raise ValueError(f"more than {MAX_CERTIFICATE_BYTES} bytes")
        loaded = x509.load_der_x509_csr(der)
        public = loaded.public_key()
        valid = loaded.is_signature_valid
        common_name = _common_name(loaded.subject)
    except (*_UNREADABLE, InvalidSignature) as error:
        raise PermanentError(f"the request cannot be read: {error}", reason=BAD_CERTIFICATE) from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise PermanentError("the request is for no ECDSA key on P-256", reason=BAD_CERTIFICATE)
    if not valid:
        raise PermanentError("the request is not signed by the key that it is for", reason=BAD_CERTIFICATE)
    return Request(common_name, _spki(public))


def verifies(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` (ECDSA with SHA-256, DER) over ``data`` is of this key (SPKI in DER, P-256)."""
    try:
        key = load_der_public_key(public_key[:MAX_CERTIFICATE_BYTES])
    except _UNREADABLE:
        return False
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    try:
        key.verify(signature, data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def check_chain(
    certificate: Certificate, bundle: str | bytes, *, now: float, between: Iterable[Certificate] = ()
) -> None:
    """PermanentError unless ``certificate`` is valid at ``now`` under one of the CAs of ``bundle`` (PEM).

    ``between`` may hold cross-signed CA certificates that lead there. The rules are those of RFC 5280, 6.1,
    as far as a cluster's certificates use them: signatures, names, dates, and who may sign certificates.
    """
    _check_dates(certificate, now)
    anchors = [_load_der(one.der) for one in read_bundle(bundle)]
    others = [_load_der(one.der) for one in between]
    if not _leads(_load_der(certificate.der), anchors, others[:MAX_BUNDLE], now):
        raise PermanentError(
            f"the certificate of {certificate.common_name[:80]!r} is not signed by the cluster's CA",
            reason=BAD_CERTIFICATE,
        )


def _leads(
    start: x509.Certificate, anchors: Sequence[x509.Certificate], others: list[x509.Certificate], now: float
) -> bool:
    """Whether signatures lead from ``start`` to an anchor; each certificate of ``others`` is tried once."""
    reached, unused = [start], list(others)
    for _ in range(MAX_CHAIN_LENGTH):
        if any(_signed(one, anchor, now) for one in reached for anchor in anchors):
            return True
        found = [issuer for issuer in unused if any(_signed(one, issuer, now) for one in reached)]
        if not found:
            return False
        unused = [one for one in unused if one not in found]
        reached = found
    return False


def _signed(certificate: x509.Certificate, issuer: x509.Certificate, now: float) -> bool:
    if not issuer.not_valid_before_utc.timestamp() <= now <= issuer.not_valid_after_utc.timestamp():
        return False
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.ca and usage.key_cert_sign


def _check_dates(certificate: Certificate, now: float) -> None:
    if now < certificate.not_before:
        raise PermanentError(
            f"the certificate of {certificate.common_name[:80]!r} is not valid yet", reason=BAD_CERTIFICATE
        )
    if now > certificate.not_after:
        raise PermanentError(
            f"the certificate of {certificate.common_name[:80]!r} has expired", reason=BAD_CERTIFICATE
        )


def _load_der(der: bytes) -> x509.Certificate:
    try:
        if len(der) > MAX_CERTIFICATE_BYTES:
            raise ValueError(f"more than {MAX_CERTIFICATE_BYTES} bytes")
        return x509.load_der_x509_certificate(der)
    except _UNREADABLE as error:
        raise PermanentError(f"the certificate cannot be read: {error}", reason=BAD_CERTIFICATE) from None


def _facts(loaded: x509.Certificate) -> Certificate:
    try:
        public = loaded.public_key()
        common_name = _common_name(loaded.subject)
    except _UNREADABLE as error:
        raise PermanentError(f"the certificate cannot be read: {error}", reason=BAD_CERTIFICATE) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise PermanentError("the certificate is not for an ECDSA key", reason=BAD_CERTIFICATE)
    return Certificate(
        serial=f"{loaded.serial_number:x}",
        common_name=common_name,
        not_before=loaded.not_valid_before_utc.timestamp(),
        not_after=loaded.not_valid_after_utc.timestamp(),
        public_key=_spki(public),
        key_id=_key_ids(loaded)[0],
        issuer_key=_key_ids(loaded)[1],
        der=loaded.public_bytes(Encoding.DER),
    )


def _key_ids(loaded: x509.Certificate) -> tuple[str, str]:
    """The key's own id, and that of the CA's key."""
    own = authority = b""
    try:
        for extension in loaded.extensions:
            if isinstance(extension.value, x509.SubjectKeyIdentifier):
                own = extension.value.digest
            elif isinstance(extension.value, x509.AuthorityKeyIdentifier):
                authority = extension.value.key_identifier or b""
    except _UNREADABLE as error:
        raise PermanentError(f"the certificate cannot be read: {error}", reason=BAD_CERTIFICATE) from None
    return own.hex(), authority.hex()


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1:
        raise ValueError("it must have one common name")
    value = found[0].value
    return value if isinstance(value, str) else value.decode()


def _spki(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
