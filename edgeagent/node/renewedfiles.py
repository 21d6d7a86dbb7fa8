"""A new key and certificate in the place of the old: both or neither, wherever it is cut short.

The new pair is made whole in a folder of its own, and one rename puts that folder in force. Then its files
take the places of the old ones, the certificate last: the folder names the certificate that it replaces, and
counts for nothing once another is there. May not know what is in the files, or who made them.
"""

import os
import shutil
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edgeagent.api.errors import TemporaryError
from edgeagent.node.identity import IdentityDir
from edgeagent.node.privatefiles import write_private
from edgeagent.wire.canonical import digest


class TlsFiles(msgspec.Struct, frozen=True):
    """The PEM files that a connection is made with."""

    ca: Path
    certificate: Path
    key: Path


class RenewedFiles:
    """The node's TLS files, and what is to replace them. TemporaryError where the disk does not take it."""

    def __init__(self, identity: IdentityDir) -> None:
        self._identity = identity
        self._renewed = identity.path / "renewed"
        self._partial = identity.path / ".renewed.partial"

    @property
    def in_force(self) -> TlsFiles:
        """What to connect with. PermanentError where the key is sealed and cannot be opened."""
        return self._usable(self._renewed if self._renewed_counts() else self._identity.path)

    def stage(self, *, ca: str, certificate: str, key: str) -> TlsFiles:
        """Write a new set of files (PEM texts). It counts for nothing yet."""
        try:
            self.settle()
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(mode=0o700)
            staged = _files(self._partial)
            write_private(staged.ca, ca.encode())
            self._identity.keys.write(staged.key, key.encode())
            write_private(staged.certificate, certificate.encode())
            write_private(self._partial / "replaces", self._replaced().encode())
            _sync(self._partial)
        except OSError as error:
            raise _unwritten(error) from None
        return self._usable(self._partial)

    def adopt(self) -> None:
        """From now on the staged files count, whatever happens."""
        try:
            os.rename(self._partial, self._renewed)
            _sync(self._identity.path)
        except OSError as error:
            raise _unwritten(error) from None

    def settle(self) -> None:
        """Put what counts into the usual places, and nothing beside it. OSError where the disk is full."""
        if self._renewed_counts():
            new, identity = _files(self._renewed), self._identity
            write_private(identity.ca, new.ca.read_bytes())
            identity.keys.copy(new.key, identity.private_key)
            _sync(identity.path)
            write_private(identity.certificate, new.certificate.read_bytes())
            _sync(identity.path)
        if self._renewed.exists():
            # Out of the way in one step: a folder half removed must not look like one.
            shutil.rmtree(self._partial, ignore_errors=True)
            os.rename(self._renewed, self._partial)
            shutil.rmtree(self._partial, ignore_errors=True)

    def write_ca(self, ca: str) -> None:
        """Believe these CAs from now on."""
        try:
            self.settle()
            write_private(self._identity.ca, ca.encode())
            _sync(self._identity.path)
        except OSError as error:
            raise _unwritten(error) from None

    def _usable(self, folder: Path) -> TlsFiles:
        files = _files(folder)
        return replace(files, key=self._identity.keys.usable(files.key))

    def _renewed_counts(self) -> bool:
        try:
            return (self._renewed / "replaces").read_text() == self._replaced()
        except OSError:
            return False

    def _replaced(self) -> str:
        return digest(self._identity.certificate.read_bytes())


def _files(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "ca.crt", folder / "node.crt", folder / "node.key")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritten(error: OSError) -> TemporaryError:
    return TemporaryError(
        f"the new certificate cannot be kept: {error.strerror or error}", reason="StorageFailed"
    )
