"""The hub's signing key and the chain of rotations that led to it, in one file, so that neither is alone.

May not know what is signed. Nodes pin a key when they are enrolled and follow the chain from there.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cluster.layout import PRIVATE, read_file, write_file
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import MAX_CHAIN, ROTATION_TYPE, Envelope, decode_envelope, encode_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.trust import follow, rotate

log = logging.getLogger(__name__)


class _SigningFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key`` is private and raw; ``first`` the public key number 1; ``chain`` encoded rotations."""

    cluster: str
    serial: int
    key: bytes
    first: bytes
    chain: list[bytes]


@dataclass(frozen=True, slots=True)
class Signing:
    """The key that signs now, as nodes enrolled now pin it, and as the first node did."""

    cluster: str
    serial: int
    key: SigningKey
    first: bytes
    chain: tuple[Envelope, ...]

    @property
    def anchor(self) -> TrustAnchor:
        """What a node enrolled now pins."""
        return TrustAnchor(cluster=self.cluster, serial=self.serial, key=self.key.public.raw)

    @property
    def origin(self) -> TrustAnchor:
        """From here the chain leads to every key that this hub ever had."""
        return TrustAnchor(cluster=self.cluster, serial=1, key=self.first)

    @classmethod
    def create(cls, cluster: str) -> "Signing":
        """Key number 1 of a new cluster."""
        key = SigningKey.generate()
        return cls(cluster, 1, key, key.public.raw, ())

    def rotated(self) -> "Signing":
        """A new key, signed over to by this one."""
        if len(self.chain) >= MAX_CHAIN:
            raise PermanentError(
                f"the key was rotated {MAX_CHAIN} times, more than nodes follow: enrol them anew"
            )
        key = SigningKey.generate()
        link = rotate(self.cluster, self.serial + 1, self.key, key.public)
        return Signing(self.cluster, self.serial + 1, key, self.first, (*self.chain, link))

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write the file."""
        chain = [encode_envelope(link) for link in self.chain]
        content = _SigningFile(
            cluster=self.cluster, serial=self.serial, key=self.key.raw, first=self.first, chain=chain
        )
        write_file(path, canonical_json(content) + b"\n", PRIVATE, replace=replace)

    @classmethod
    def load(cls, path: Path) -> "Signing":
        """Read the file; PermanentError where it is not what ``save`` wrote."""
        try:
            content = decode_json(read_file(path), _SigningFile)
            chain = tuple(decode_envelope(link, ROTATION_TYPE) for link in content.chain)
            signing = cls(content.cluster, content.serial, SigningKey(content.key), content.first, chain)
            led_to = follow(signing.origin, signing.chain)
        except (PermanentError, ValueError) as error:
            raise PermanentError(f"{path} holds no usable signing key: {error}") from None
        if led_to != signing.anchor:
            raise PermanentError(
                f"{path} holds a key that its own chain does not lead to: restore it from a backup"
            )
        return signing


class SigningSource:
    """The signing key as it is in the file now: ``edgehub keys rotate`` is seen at the next signature."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._read_stamp()
        self._signing = Signing.load(path)

    def current(self) -> Signing:
        """The key to sign with. A file that cannot be read keeps the key that was."""
        stamp = self._read_stamp()
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                self._signing = Signing.load(self._path)
            except PermanentError as error:
                log.error("keeping signing key %d: %s", self._signing.serial, error)
        return self._signing

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
