"""The cluster's CAs over time: the one that issues, those before it that still count, and what links them.

In the hub's directory ``ca.crt`` holds the certificates to believe, that of the issuing CA first; ``ca.key``
its key; ``ca.previous.key`` the keys of the others; and ``ca.chain`` what each CA signed for the one after
it, the newest first. A rotation changes several files: it is written to ``ca.next`` first, and carried
through from there by whoever comes next, should it be cut short. Of several programs one at a time does that.

May not know who has which certificate.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.cluster.ca import Authority, Signed
from edgeagent.cluster.layout import PRIVATE, PUBLIC, HubFiles, read_file, sync_directory, write_file
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import MAX_BUNDLE, read_bundle, read_certificate

MAX_CHAIN = 12
"""How many signatures of a CA for the next are kept: a node may sleep through as many rotations."""

_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Authorities:
    """``current`` issues; ``previous``, the newest first, are believed until they are retired.

    ``chain``: each CA's certificate signed by the CA before it, as PEM, the newest first.
    """

    current: Authority
    previous: tuple[Authority, ...]
    chain: tuple[str, ...]

    @property
    def bundle(self) -> str:
        """The certificates to believe, as PEM."""
        return "".join(one.certificate for one in (self.current, *self.previous))

    def sign(self, csr: bytes, common_name: str, days: int) -> Signed:
        """A client certificate as ``Authority.sign_csr`` makes it.

        While there are CAs that count beside the current one, the signatures that lead from them to it
        follow in the PEM text, for a broker that does not believe the current one yet.
        """
        signed = self.current.sign_csr(csr, common_name, days)
        return replace(signed, certificate=signed.certificate + self.links)

    @property
    def links(self) -> str:
        """The signatures that lead from CAs which still count to the current one, as PEM."""
        return "".join(self.chain[: len(self.previous)])

    def revocation_lists(self, serials: list[str]) -> str:
        """A CRL of each CA, as PEM: OpenSSL wants one of whichever CA issued what it checks."""
        return "".join(one.revocation_list(serials) for one in (self.current, *self.previous))


class _Next(KubernetesStruct, frozen=True):
    """What the files are to hold."""

    certificates: str
    key: str
    previous_keys: str
    chain: str


def load_authorities(files: HubFiles, clock: Clock) -> Authorities:
    """The CAs as they are; a change that was cut short is carried through first.

    PermanentError where a file is not there (its key may lie elsewhere on purpose) or cannot be written.
    """
    if files.next_ca.exists():
        with _alone(files):
            _carry_through(files)
    return _load(files, clock)


def rotate_authority(files: HubFiles, cluster: str, clock: Clock) -> Authorities:
    """A new CA that issues from now on, signed by the one before, which counts until it is retired."""
    with _alone(files):
        _carry_through(files)
        _change(files, _rotated(_load(files, clock), cluster, clock))
        return _load(files, clock)


def _rotated(before: Authorities, cluster: str, clock: Clock) -> Authorities:
    if len(before.previous) + 2 > MAX_BUNDLE // 2:
        raise PermanentError(
            f"{len(before.previous) + 1} CAs count already: retire the old ones with"
            " `edgehub ca rotate --finish` first",
            reason="Conflict",
        )
    name = read_certificate(before.current.certificate).common_name
    number = int(name.rpartition(" CA ")[2]) if " CA " in name else 1
    authority, issued = Authority.create(cluster, clock, number + 1)
    cross = before.current.cross_sign(issued.certificate).certificate
    now = clock.now()
    chain = [cross, *(one for one in before.chain if read_certificate(one).not_after > now)][:MAX_CHAIN]
    return Authorities(authority, (before.current, *before.previous), tuple(chain))


def retire_previous(files: HubFiles, clock: Clock) -> int:
    """The CAs before the current one count no more; how many they were. What leads to it stays."""
    with _alone(files):
        _carry_through(files)
        before = _load(files, clock)
        if before.previous:
            _change(files, replace(before, previous=()))
    return len(before.previous)


@contextmanager
def _alone(files: HubFiles) -> Iterator[None]:
    """While others wait: what one program has read, another may not change before it has written."""
    try:
        descriptor = os.open(files.ca_lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PermanentError(f"the CAs in {files.root} cannot be changed: {error.strerror}") from None


def _load(files: HubFiles, clock: Clock) -> Authorities:
    own, *others = [one.pem for one in read_bundle(read_file(files.ca_certificate))]
    current = Authority(own, read_file(files.ca_key).decode(), clock)
    keys = _KEY.findall(read_file(files.previous_ca_keys).decode()) if others else []
    if len(keys) != len(others):
        raise PermanentError(
            f"{files.ca_certificate} holds {len(others)} older CAs, but {files.previous_ca_keys} the keys of"
            f" {len(keys)}: restore both from a backup"
        )
    previous = tuple(Authority(text, key, clock) for text, key in zip(others, keys, strict=True))
    chain: tuple[str, ...] = ()
    if files.ca_chain.exists() and (data := read_file(files.ca_chain)):
        chain = tuple(one.pem for one in read_bundle(data))
    return Authorities(current, previous, chain)


def _change(files: HubFiles, wanted: Authorities) -> None:
    """From here on it is so, whatever happens."""
    content = _Next(
        certificates=wanted.bundle,
        key=wanted.current.key,
        previous_keys="".join(one.key for one in wanted.previous),
        chain="".join(wanted.chain),
    )
    write_file(files.next_ca, canonical_json(content), PRIVATE, replace=True)
    _carry_through(files)


def _carry_through(files: HubFiles) -> None:
    if not files.next_ca.exists():
        return
    content = decode_json(read_file(files.next_ca), _Next)
    write_file(files.previous_ca_keys, content.previous_keys, PRIVATE, replace=True)
    write_file(files.ca_chain, content.chain, PUBLIC, replace=True)
    write_file(files.ca_key, content.key, PRIVATE, replace=True)
    write_file(files.ca_certificate, content.certificates, PUBLIC, replace=True)
    files.next_ca.unlink(missing_ok=True)
    sync_directory(files.root)
