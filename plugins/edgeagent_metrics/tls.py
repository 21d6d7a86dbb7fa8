"""Mutual TLS for the endpoint: what is shown, who is let in. Files may change while the agent runs."""

import os
import ssl
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent.wire.clientnames import is_allowed
from edgeagent_metrics.config import TlsConfig


class Gatekeeper:
    """Makes contexts by the files of ``config``, and judges clients by their names."""

    def __init__(self, config: TlsConfig, *, cluster_ca: Path) -> None:
        self._certificate = config.certificate_file
        self._key = config.key_file
        self._client_ca = config.client_ca_file or str(cluster_ca)
        self._allowed = config.allowed_clients
        self._made: tuple[object, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """For a new connection; PermanentError names the file that cannot be used."""
        version = [_version(path) for path in (self._certificate, self._key, self._client_ca)]
        if self._made is None or self._made[0] != version:
            self._made = (version, self._make())
        return self._made[1]

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self._client_ca)
        except (OSError, ssl.SSLError) as error:
            raise PermanentError(f"cannot use the clients' CA {self._client_ca}: {error}") from None
        try:
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ssl.SSLError) as error:
            pair = f"the certificate {self._certificate} with key {self._key}"
            raise PermanentError(f"cannot use {pair}: {error}") from None
        return context

    def admits(self, connection: ssl.SSLSocket) -> bool:
        """Whether the client, whose certificate the CA vouches for, has a name that is let in."""
        return is_allowed(connection.getpeercert() or {}, self._allowed)


def _version(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns
