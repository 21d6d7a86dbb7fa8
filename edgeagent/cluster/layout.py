"""Where the hub's files lie, and how they are written: whole or not at all, never readable by others.

May not know what the files mean: the makers of keys, certificates and configuration hand over texts.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeagent.api.errors import PermanentError

PRIVATE, PUBLIC, DIRECTORY = 0o600, 0o644, 0o700


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of one hub directory."""

    root: Path

    @property
    def settings(self) -> Path:
        """Cluster name, broker addresses: what ``edgehub init`` was told."""
        return self.root / "hub.json"

    @property
    def metrics(self) -> Path:
        """What becomes of nodes' metrics; there need not be one."""
        return self.root / "metrics.toml"

    @property
    def metrics_queue(self) -> Path:
        """Metrics that wait to be passed on."""
        return self.root / "metrics.db"

    @property
    def ca_certificate(self) -> Path:
        """The cluster's CAs, which everybody trusts: the one that issues first."""
        return self.root / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Needed only to add nodes and operators."""
        return self.root / "ca.key"

    @property
    def previous_ca_keys(self) -> Path:
        """The keys of the CAs that count beside the one that issues, in the order of their certificates."""
        return self.root / "ca.previous.key"

    @property
    def ca_chain(self) -> Path:
        """What each CA signed for the one after it, the newest first."""
        return self.root / "ca.chain"

    @property
    def ca_lock(self) -> Path:
        """Held while the CAs are changed."""
        return self.root / "ca.lock"

    @property
    def next_ca(self) -> Path:
        """What a change of the CAs is to lead to, while it is under way."""
        return self.root / "ca.next"

    @property
    def hub_certificate(self) -> Path:
        """The hub's client certificate."""
        return self.root / "hub.crt"

    @property
    def hub_key(self) -> Path:
        """Its key."""
        return self.root / "hub.key"

    @property
    def broker_certificate(self) -> Path:
        """The broker's server certificate."""
        return self.root / "broker.crt"

    @property
    def broker_key(self) -> Path:
        """Its key."""
        return self.root / "broker.key"

    @property
    def sealing_key(self) -> Path:
        """The hub's private X25519 key: operators seal their calls to its public half."""
        return self.root / "sealing.key"

    @property
    def signing(self) -> Path:
        """The Ed25519 key that signs indexes and requests, with the chain of rotations that led to it."""
        return self.root / "signing.key"

    @property
    def database(self) -> Path:
        """The hub's SQLite file."""
        return self.root / "hub.db"

    @property
    def database_key(self) -> Path:
        """What of the database is secret is encrypted with it: a backup needs both."""
        return storage_key_file(self.database)

    @property
    def lock(self) -> Path:
        """Held by the running hub."""
        return self.root / "hub.lock"

    @property
    def mosquitto(self) -> Path:
        """The directory of the broker's configuration and retained messages."""
        return self.root / "mosquitto"

    @property
    def mosquitto_config(self) -> Path:
        """What to give to ``mosquitto -c``."""
        return self.mosquitto / "mosquitto.conf"

    @property
    def mosquitto_acl(self) -> Path:
        """Who may read and write which topic."""
        return self.mosquitto / "acl"

    @property
    def mosquitto_passwords(self) -> Path:
        """Who may come with a password: it is empty, so that nobody gives a name without a certificate."""
        return self.mosquitto / "passwords"

    @property
    def mosquitto_pid(self) -> Path:
        """Which process the broker is, as it says itself."""
        return self.mosquitto / "mosquitto.pid"

    @property
    def revocation_list(self) -> Path:
        """The certificates that the broker lets in no more (a CRL)."""
        return self.root / "revoked.crl"

    @property
    def mosquitto_data(self) -> Path:
        """Where the broker keeps its retained messages."""
        return self.mosquitto / "data"

    @property
    def operator(self) -> Path:
        """The file that ``edgectl`` needs to act as the first operator."""
        return self.root / "operator.json"


def storage_key_file(database: Path) -> Path:
    """Where the key of a database lies: beside it."""
    return database.with_name(f"{database.name}.key")


def make_directory(path: Path) -> None:
    """A new directory for its owner alone, whatever the umask; FileExistsError where it exists."""
    path.mkdir(mode=DIRECTORY)
    path.chmod(DIRECTORY)


def write_file(
    path: Path,
    data: str | bytes,
    mode: int = PRIVATE,
    *,
    replace: bool = False,
    owner_of: Path | None = None,
) -> None:
    """Write ``path``: after a crash it is the old content or the new. FileExistsError without ``replace``.

    ``owner_of``: the file whose owner is to have this one too, where root writes it.
    """
    content = data.encode() if isinstance(data, str) else data
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            if owner_of is not None:
                give_to_owner_of(owner_of, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(name, path)
        else:
            _link_new(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_directory(path.parent)


def give_to_owner_of(path: Path, descriptor: int) -> None:
    """Have an open file owned as ``path`` is. Only root can, and only root makes files for others."""
    if os.geteuid() == 0:
        owned = os.stat(path, follow_symlinks=False)
        os.fchown(descriptor, owned.st_uid, owned.st_gid)


def _link_new(name: str, path: Path) -> None:
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:
        # FAT, as on a USB stick, has no links.
        if path.exists():
            raise FileExistsError(f"{path} exists") from None
        os.rename(name, path)
    else:
        os.unlink(name)


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """The bytes of one of the hub's files; PermanentError that says what to do where it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PermanentError(
            f"{path} is not there: is {path.parent} a hub's directory? `edgehub init` makes one",
            reason="NotFound",
        ) from None
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from None
