"""TLS contexts for the MQTT session: mutual TLS, nothing older than 1.2, the cluster's CA and no other."""

import ssl
from pathlib import Path

from edgeagent.api.errors import PermanentError


def client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for PEM files; PermanentError names the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(f"cannot use the CA certificate {ca}: {error}") from None
    try:
        context.load_cert_chain(certificate, key, password="")  # else OpenSSL asks on the terminal
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(f"cannot use the certificate {certificate} with key {key}: {error}") from None
    return context
