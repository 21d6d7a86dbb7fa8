"""TLS towards a sink: who is believed, and what this node shows. Files may change while the agent runs."""

import os
import ssl

from edgeagent.api.errors import PermanentError
from edgeagent_logs.sinkconfig import TlsConfig

_MENDED_BY_A_PERSON = (
    "CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL",
    "HANDSHAKE_FAILURE", "PROTOCOL_VERSION", "HTTP_REQUEST",
)  # fmt: skip


class TlsContexts:
    """A context by the files of ``config``, made anew when one of them has changed."""

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._made: tuple[object, ssl.SSLContext] | None = None

    def current(self) -> ssl.SSLContext:
        """The context for a new connection; PermanentError names the file that cannot be used."""
        version = self._version()
        if self._made is None or self._made[0] != version:
            self._made = (version, self._make())
        return self._made[1]

    def _version(self) -> object:
        files = (self._config.ca_file, self._config.certificate_file, self._config.key_file)
        found = []
        for path in filter(None, files):
            try:
                status = os.stat(path)
            except OSError as error:
                raise PermanentError(f"cannot read {path}: {error.strerror}", reason="TlsFiles") from None
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found

    def _make(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if config.ca_file:
                context.load_verify_locations(config.ca_file)
            else:
                context.set_default_verify_paths()
        except (OSError, ssl.SSLError) as error:
            raise PermanentError(
                f"cannot use the CA file {config.ca_file}: {error}", reason="TlsFiles"
            ) from None
        if config.certificate_file:
            pair = f"the certificate {config.certificate_file} with key {config.key_file}"
            try:
                context.load_cert_chain(config.certificate_file, config.key_file, password="")
            except (OSError, ssl.SSLError) as error:
                raise PermanentError(f"cannot use {pair}: {error}", reason="TlsFiles") from None
        return context


def needs_a_person(error: OSError) -> bool:
    """Whether TLS failed for something that time does not mend: certificates, versions, plain text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    reason = getattr(error, "reason", None) or ""
    return isinstance(error, ssl.SSLError) and any(word in reason for word in _MENDED_BY_A_PERSON)
