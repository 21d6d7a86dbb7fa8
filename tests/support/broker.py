"""A real Mosquitto on loopback, plain or with TLS, and the certificates for it."""

import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.proc import Process, free_port, port_answers

MOSQUITTO = "/usr/sbin/mosquitto"


@dataclass(frozen=True, slots=True)
class CertKey:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """A certificate authority, the server's certificate, and clients' certificates by name."""

    ca: CertKey
    server: CertKey
    clients: Mapping[str, CertKey]

    def client_context(self, name: str | None = None) -> ssl.SSLContext:
        """Return a context that trusts this CA alone and shows the certificate of ``name``, if given."""
        context = ssl.create_default_context(cafile=str(self.ca.cert))
        if name is not None:
            context.load_cert_chain(self.clients[name].cert, self.clients[name].key)
        return context


class _Authority:
    """Issues certificates that strict verification (Python 3.13's default) accepts."""

    def __init__(self, directory: Path, common_name: str) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usage = _key_usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
        builder = (
            self._builder(self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        self.pair = self._write("ca", builder.sign(self.key, hashes.SHA256()), self.key)

    def issue(
        self,
        file_name: str,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        sans: Sequence[x509.GeneralName],
    ) -> CertKey:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                _key_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True
            )
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return self._write(file_name, certificate, key)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> CertKey:
        pair = CertKey(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(pem)
        return pair


def _key_usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def tls_material(directory: Path, names: Iterable[str] = ()) -> TlsMaterial:
    """Make a CA, a server certificate for localhost and 127.0.0.1, and a client certificate for each name."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = _Authority(directory, "edgeagent test CA")
    local: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    server = authority.issue("server", "localhost", ExtendedKeyUsageOID.SERVER_AUTH, local)
    clients = {
        name: authority.issue(f"client-{name}", name, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(name)])
        for name in names
    }
    return TlsMaterial(authority.pair, server, clients)


class Mosquitto:
    """``mosquitto`` with its configuration, log and persistence in ``directory``.

    ``options`` are lines of mosquitto.conf, as ``{"max_packet_size": "1000"}``; ``extra`` are lines verbatim
    (for options given more than once). ``config`` replaces all of it: it must listen on ``port``.
    With ``tls``, clients must show a certificate of that CA, and its common name is their user name.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        tls: TlsMaterial | None = None,
        require_certificate: bool = True,
        persistence: bool = False,
        options: Mapping[str, str] | None = None,
        extra: Sequence[str] = (),
        config: str | None = None,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.tls = tls
        self.log = directory / "mosquitto.log"
        self._settings = (require_certificate, persistence, dict(options or {}), list(extra))
        directory.mkdir(parents=True, exist_ok=True)
        self.config_path = directory / "mosquitto.conf"
        self.config_path.write_text(self._config() if config is None else config)
        self.process = Process([MOSQUITTO, "-c", str(self.config_path)], log=self.log)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _config(self) -> str:
        require_certificate, persistence, options, extra = self._settings
        # These are global; the listener's own options come after its line.
        settings = {
            "log_dest": "stderr",
            "log_type": "all",
            "persistence": "true" if persistence else "false",
            "persistence_location": f"{self.directory}/",
        }
        if os.geteuid() == 0:
            settings["user"] = "root"
        settings |= {"listener": f"{self.port} 127.0.0.1", "allow_anonymous": "true"}
        if self.tls is not None:
            settings |= {
                "cafile": str(self.tls.ca.cert),
                "certfile": str(self.tls.server.cert),
                "keyfile": str(self.tls.server.key),
                "require_certificate": "true" if require_certificate else "false",
                "use_identity_as_username": "true" if require_certificate else "false",
            }
        settings |= options
        return "".join(
            f"{line}\n" for line in [*(f"{key} {value}" for key, value in settings.items()), *extra]
        )

    @property
    def running(self) -> bool:
        """Whether the broker runs."""
        return self.process.running

    def start(self) -> Self:
        """Start it unless it runs, and return once it accepts connections."""
        if not self.process.running:
            self.process.start()
            self.process.wait_until(lambda: port_answers(self.port), what="accepting connections")
        return self

    def stop(self) -> None:
        """End it in an orderly way; with persistence it writes its database."""
        self.process.terminate()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def log_text(self) -> str:
        """Return all that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
