"""The operator file: read and checked, and made into a TLS context."""

import os
import ssl
import tempfile
from pathlib import Path

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import validate_label
from edgeagent.wire.join import OperatorFile
from edgeagent.wire.tls import client_context

MAX_OPERATOR_FILE_BYTES = 1_000_000


def read_operator_file(path: Path) -> OperatorFile:
    """The operator file at ``path``; raises PermanentError that says what to do, or InvalidObjectError."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_OPERATOR_FILE_BYTES + 1)
    except FileNotFoundError:
        raise PermanentError(
            f"there is no operator file at {path}: copy the one that `edgehub init` wrote there, "
            "or name it with --config or EDGECTL_CONFIG"
        ) from None
    except OSError as error:
        raise PermanentError(f"cannot read the operator file {path}: {error.strerror}") from None
    try:
        operator = decode_json(text, OperatorFile, limit=MAX_OPERATOR_FILE_BYTES)
        validate_label(operator.cluster, "cluster")
        if not operator.user or any(c in "/+#" or not c.isprintable() for c in operator.user):
            raise InvalidObjectError("user", f"{operator.user[:80]!r} cannot be part of a topic")
        if not operator.brokers:
            raise InvalidObjectError("brokers", "at least one is required")
    except InvalidObjectError as error:
        raise PermanentError(f"the operator file {path} cannot be used: {error}") from None
    return operator


def others_can_read(path: Path) -> bool:
    """Whether the file's mode lets users other than its owner read it."""
    try:
        return bool(path.stat().st_mode & 0o044)
    except OSError:
        return False


def tls_context(operator: OperatorFile) -> ssl.SSLContext | None:
    """The TLS context for the operator's certificate; None where no broker wants TLS.

    ``ssl`` reads certificates from files alone: they exist, for this user only and in memory where the
    system has a place for that, for as long as they are being read.
    """
    if not any(broker.tls for broker in operator.brokers):
        return None
    with tempfile.TemporaryDirectory(prefix="edgectl-", dir=_memory_directory()) as name:
        folder = Path(name)
        paths = []
        for part in ("ca", "certificate", "private_key"):
            path = folder / f"{part}.pem"
            with open(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as stream:
                stream.write(getattr(operator, part))
            paths.append(path)
        try:
            return client_context(paths[0], paths[1], paths[2])
        except PermanentError as error:
            problem = str(error).replace(f"{folder}/", "")
            raise PermanentError(f"the operator file's certificates cannot be used: {problem}") from None


def _memory_directory() -> str | None:
    for name in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - a private folder is made in it
        if name and os.access(name, os.W_OK | os.X_OK):
            return name
    return None
