"""TLS contexts for the MQTT session: nothing older than 1.2, the cluster's CA and no other, but to enrol."""

import ssl
from collections.abc import Callable
from pathlib import Path

from edgeagent.api.clock import rfc3339
from edgeagent.api.errors import PermanentError

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""``X509_V_FLAG_NO_CHECK_TIME``, for which ``ssl`` has no name: verify certificates, but for their dates.

https://docs.openssl.org/3.0/man3/X509_VERIFY_PARAM_set_flags/
"""


class ClocklessContext(ssl.SSLContext):
    """For machines that may not know the date: the other side's certificate is judged by ``floor``.

    ``floor`` returns a time, in seconds since the epoch, that is known to have passed. A certificate whose
    life ended before is refused. One that seems not to have begun yet is taken: the clock is behind.
    """

    floor: Callable[[], float]

    def check(self, secured: ssl.SSLSocket) -> None:
        """After the handshake: ``ssl.SSLError`` where the other side's certificate has expired."""
        certificate = secured.getpeercert() or {}
        until, floor = ssl.cert_time_to_seconds(str(certificate["notAfter"])), self.floor()
        if until < floor:
            raise ssl.SSLError(
                1,
                f"the broker's certificate has expired: it was valid until {rfc3339(until)}, and it is"
                f" {rfc3339(floor)} at least",
            )


def client_context(
    ca: Path, certificate: Path, key: Path, *, floor: Callable[[], float] | None = None
) -> ssl.SSLContext:
    """A context for PEM files; PermanentError names the file that cannot be used.

    With ``floor``, a ``ClocklessContext``: the machine's clock is not asked.
    """
    if floor is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ClocklessContext(ssl.PROTOCOL_TLS_CLIENT)
        context.floor = floor
        context.verify_flags |= NO_CHECK_TIME
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
