"""The node's WireGuard key: made here, kept in one file that only root reads, and never told to anybody."""

import os
from pathlib import Path

from edgeagent.api.errors import TemporaryError
from edgeagent_network.programs import Runner

MAX_FILE_BYTES = 1_000


class NodeKey:
    """``file`` holds the private key as wg(8) writes it, with mode 0600.

    A file that holds none is set aside as ``<name>.corrupt`` (``set_aside``), and a new key is made.
    """

    def __init__(self, run: Runner, file: Path) -> None:
        self._run = run
        self.file = file
        self.set_aside: Path | None = None
        self._public = ""

    def public(self) -> str:
        """The public key, in base64. TemporaryError where the file can neither be read nor be made."""
        if not self._public or not self.file.exists():
            self._public = self._read() or self._make()
        return self._public

    def _read(self) -> str:
        try:
            with self.file.open("rb") as opened:
                held = opened.read(MAX_FILE_BYTES)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise TemporaryError(f"{self.file}: {error.strerror}", reason="NetworkFailed") from None
        public = ""
        if held.isascii():
            public = self._run(["wg", "pubkey"], held.decode(), check=False).strip()
        if public:
            self.file.chmod(0o600)
            return public
        self.set_aside = self.file.with_name(f"{self.file.name}.corrupt")
        self.file.replace(self.set_aside)
        return ""

    def _make(self) -> str:
        private = self._run(["wg", "genkey"])
        partial = self.file.with_name(f".{self.file.name}.partial")
        try:
            partial.unlink(missing_ok=True)
            opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(opened, private.encode())
                os.fsync(opened)
            finally:
                os.close(opened)
            partial.replace(self.file)
        except OSError as error:
            raise TemporaryError(
                f"{self.file}: WireGuard's key cannot be kept: {error.strerror}", reason="NetworkFailed"
            ) from None
        return self._run(["wg", "pubkey"], private).strip()
