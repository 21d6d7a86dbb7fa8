"""``metrics.toml`` in the hub's directory: what becomes of the metrics that nodes send.

Without the file, the hub asks the broker for none. May not start anything.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.decode import convert
from edgeagent.api.quantity import parse_quantity
from edgeagent.wire.clientnames import OPERATORS, AllowedClients
from edgeagent.wire.remotewriteclient import (
    RemoteWriteTarget,
    basic_authorization,
    bearer_authorization,
    check_url,
)

LEAST_QUEUE_BYTES = 1 << 20


class ListenSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[listen]``: where the newest metrics of all nodes can be scraped, at ``/metrics``.

    Any address but loopback needs ``certificate_file``, ``key_file`` and ``client_ca_file``: who scrapes
    shows a certificate of that CA, with a name of ``allowed_clients`` as its common name or in
    ``subjectAltName``.
    """

    address: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 19101
    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    allowed_clients: AllowedClients = msgspec.field(default_factory=lambda: [OPERATORS])

    def __post_init__(self) -> None:
        """InvalidObjectError that names the key that is wrong."""
        files = self.certificate_file, self.key_file, self.client_ca_file
        if any(files) and not all(files):
            problem = "certificate_file, key_file and client_ca_file belong together"
            raise InvalidObjectError("listen", problem)
        if not any(files) and self.address != "::1" and not self.address.startswith("127."):
            problem = f"{self.address} can be reached from outside: that needs certificate_file and its like"
            raise InvalidObjectError("listen.address", problem)


class RemoteWriteSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[remote_write]``: to whom all metrics of all nodes are passed on, backlog included.

    What cannot be passed on waits in ``metrics.db``, up to ``queue_size``. Each series has the labels
    ``node`` and ``instance``, the node's name, and ``job``; ``external_labels`` are added where a series has
    no such label. Secrets are in files, read for each request, and sent over plain ``http`` only with
    ``plain_credentials``.
    """

    url: str
    headers: dict[str, str] = {}
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    token_file: str = ""
    plain_credentials: bool = False
    external_labels: dict[str, str] = {}
    timeout_seconds: Annotated[float, msgspec.Meta(ge=1, le=300)] = 30.0
    queue_size: str = "256Mi"

    def __post_init__(self) -> None:
        """InvalidObjectError that names the key that is wrong."""
        try:
            check_url(self.url)
        except InvalidObjectError as error:
            raise error.within("remote_write") from None
        if bool(self.username) != bool(self.password_file) or (self.username and self.token_file):
            problem = "give username and password_file, or token_file, or none of them"
            raise InvalidObjectError("remote_write", problem)
        if bool(self.certificate_file) != bool(self.key_file):
            raise InvalidObjectError("remote_write", "certificate_file and key_file belong together")
        if urlsplit(self.url).scheme == "http" and not self.plain_credentials and (key := self._secret_key()):
            problem = "would be sent in clear over http: use https, or set plain_credentials = true"
            raise InvalidObjectError(f"remote_write.{key}", problem)
        if self.queue_bytes < LEAST_QUEUE_BYTES:
            raise InvalidObjectError("remote_write.queue_size", "must be at least 1Mi")

    @property
    def queue_bytes(self) -> int:
        """``queue_size`` as a number."""
        try:
            return int(parse_quantity(self.queue_size))
        except ValueError as error:
            raise InvalidObjectError("remote_write.queue_size", str(error)) from None

    def target(self) -> RemoteWriteTarget:
        """Where to, for the client."""
        return RemoteWriteTarget(
            url=self.url,
            headers=self.headers,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            authorization=self._authorization(),
            timeout=self.timeout_seconds,
        )

    def _secret_key(self) -> str:
        """The key by which the receiver learns a secret; empty where none is sent."""
        found = {
            "password_file": self.password_file,
            "token_file": self.token_file,
            "headers": any(name.lower() == "authorization" for name in self.headers),
        }
        return next((key for key, value in found.items() if value), "")

    def _authorization(self) -> Callable[[], str]:
        if self.username:
            return lambda: basic_authorization(self.username, self.password_file)
        if self.token_file:
            return lambda: bearer_authorization(self.token_file)
        return lambda: ""


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; a section that is not there is not done."""

    listen: ListenSection | None = None
    remote_write: RemoteWriteSection | None = None

    @property
    def wanted(self) -> bool:
        """Whether the hub has any use for metrics."""
        return self.listen is not None or self.remote_write is not None


def load_metrics_config(path: Path) -> MetricsConfig:
    """The file as a checked config, empty where there is none. PermanentError names file and key."""
    try:
        return convert(tomllib.loads(path.read_text()), MetricsConfig)
    except FileNotFoundError:
        return MetricsConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{path} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError, InvalidObjectError) as error:
        raise PermanentError(f"{path}: {error}") from None
