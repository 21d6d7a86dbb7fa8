"""TLS contexts for the MQTT session: nothing older than 1.2, the cluster's CA and no other, but to enrol."""

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


def unverified_context() -> ssl.SSLContext:
    """For those who have no CA to believe yet: encrypted, but whoever answers is not believed by it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
