"""The node's private keys on disk: as they are, or sealed by systemd-creds, with a TPM if there is one.

A key at ``node.key`` may lie there in clear, or at ``node.key.cred`` as a credential that only this machine
opens (systemd-creds(1)). Programs that need a file are given one below /run, where nothing outlives a
reboot, or the one that systemd itself has opened for the unit (``LoadCredentialEncrypted=``). May not know
what a key is for.
"""

import logging
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from edgeagent.api.errors import PermanentError
from edgeagent.node.privatefiles import DIRECTORY, write_private
from edgeagent.wire.canonical import digest

log = logging.getLogger(__name__)

SealWith = Literal["", "auto", "host", "tpm2"]
"""What to seal new keys with, as ``systemd-creds --with-key=`` has it; empty: they lie in clear."""
Program = Callable[[Sequence[str], bytes], bytes]
"""Runs a program with that input, for its output; OSError where it fails."""

PROGRAM = "systemd-creds"
PROGRAM_SECONDS = 60.0
"""A TPM may be slow, and be busy."""
MAX_KEY_BYTES = 65_536


def run_program(argv: Sequence[str], data: bytes) -> bytes:
    """What ``argv`` writes when it reads ``data``; OSError with what it says where it fails."""
    try:
        done = subprocess.run(
            list(argv), input=data, capture_output=True, timeout=PROGRAM_SECONDS, check=False
        )
    except FileNotFoundError:
        raise OSError(f"{argv[0]} is not installed (Debian: package systemd)") from None
    except subprocess.TimeoutExpired:
        raise OSError(f"{argv[0]} took longer than {PROGRAM_SECONDS:.0f} seconds") from None
    if done.returncode != 0:
        said = done.stderr[:1000].decode(errors="replace").strip()
        raise OSError(f"{argv[0]} ended with status {done.returncode}: {said}")
    return done.stdout


class KeyFiles:
    """Reads and writes the private keys of one identity's folder."""

    def __init__(
        self,
        folder: Path,
        *,
        opened: Path | None = None,
        seal: SealWith = "",
        program: Program = run_program,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """``opened``: where keys may lie in clear when a file of them is needed, on a tmpfs.

        Keys are sealed where ``seal`` says so, and where the node's key in ``folder`` is sealed already.
        """
        self._folder = folder
        self._opened = opened
        self._seal = seal
        self._program = program
        self._given = self._given_by_systemd(environment)

    def exists(self, path: Path) -> bool:
        """Whether there is a key."""
        return path.exists() or _sealed(path).exists()

    @property
    def seals(self) -> bool:
        """Whether a new key is sealed."""
        return bool(self._seal) or _sealed(self._folder / "node.key").exists()

    def write(self, path: Path, data: bytes) -> None:
        """Keep a key; it is written whole or not at all. OSError where the disk or the seal fails."""
        if not self.seals:
            write_private(path, data)
            _sealed(path).unlink(missing_ok=True)
            return
        with_key = f"--with-key={self._seal or 'auto'}"
        credential = self._program([PROGRAM, "encrypt", f"--name={path.name}", with_key, "-", "-"], data)
        write_private(_sealed(path), credential)
        path.unlink(missing_ok=True)

    def copy(self, source: Path, target: Path) -> None:
        """Keep the key at ``source``, sealed or not, at ``target`` as well, which has the same name."""
        if source.exists():
            write_private(target, source.read_bytes())
            _sealed(target).unlink(missing_ok=True)
        else:
            write_private(_sealed(target), _sealed(source).read_bytes())
            target.unlink(missing_ok=True)

    def read(self, path: Path) -> bytes:
        """The key; OSError where there is none, or it is sealed and not opened here."""
        if path.exists():
            return path.read_bytes()
        credential = self._credential(path)
        if (given := self._given_file(path, credential)) is not None:
            return given.read_bytes()
        return self._program([PROGRAM, "decrypt", f"--name={path.name}", "-", "-"], credential)

    def usable(self, path: Path) -> Path:
        """A file that holds the key, and has its name. PermanentError where there can be none.

        Of a sealed key that is a file below /run, made at the first question.
        """
        if path.exists() or not _sealed(path).exists():
            return path
        try:
            credential = self._credential(path)
            if (given := self._given_file(path, credential)) is not None:
                return given
            if self._opened is None:
                raise OSError("there is no place to open it in")
            return self._open(path, credential, self._opened)
        except OSError as error:
            raise PermanentError(
                f"the sealed key {_sealed(path)} cannot be opened: {error}. It opens on the machine that"
                " sealed it alone; where that cannot be had back, enrol anew with `edgeagent enroll --force`",
                reason="BadIdentity",
            ) from None

    def seal_what_is_in_clear(self, *paths: Path) -> list[Path]:
        """Where keys are to be sealed, seal these, and return those that were in clear. OSError."""
        found = [path for path in paths if self.seals and path.exists()]
        for path in found:
            self.write(path, path.read_bytes())
        return found

    def _open(self, path: Path, credential: bytes, opened: Path) -> Path:
        place = opened / path.parent.name
        key, of = place / path.name, place / f"{path.name}.of"
        told = digest(credential).encode()
        if not (key.exists() and of.exists() and of.read_bytes() == told):
            for folder in (opened, place):
                folder.mkdir(mode=DIRECTORY, parents=True, exist_ok=True)
                folder.chmod(DIRECTORY)
            write_private(key, self.read(path))
            write_private(of, told)
        return key

    def _credential(self, path: Path) -> bytes:
        return _sealed(path).read_bytes()[:MAX_KEY_BYTES]

    def _given_by_systemd(self, environment: Mapping[str, str]) -> Mapping[Path, tuple[str, Path]]:
        """What systemd has opened when it started this process, and the credentials that it was."""
        if not (directory := environment.get("CREDENTIALS_DIRECTORY", "")):
            return {}
        found = {}
        for name in ("node.key", "sealing.key"):
            path, given = self._folder / name, Path(directory, name)
            if given.exists() and _sealed(path).exists():
                found[path] = digest(self._credential(path)), given
        return found

    def _given_file(self, path: Path, credential: bytes) -> Path | None:
        of, given = self._given.get(path, ("", None))
        return given if of == digest(credential) else None


def _sealed(path: Path) -> Path:
    return path.with_name(f"{path.name}.cred")
