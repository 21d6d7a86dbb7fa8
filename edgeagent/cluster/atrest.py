"""What is secret in the hub's database, encrypted with a key that lies in a file of its own beside it.

Secrets and the keys of enrolment tokens are encrypted one by one, each bound to the row that it stands in, so
that a copy of the database gives none of them away, and none can be put in another's place. What this does
not keep out is whoever reads the whole directory. May not know what the values mean.

The key file holds raw keys, the newest first. Which of them is in force stands in the database, and changes
in the transaction that encrypts everything anew: so another process with the file open goes on with the
right one, and a crash leaves rows of one key only.
"""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.cluster.layout import PRIVATE, read_file, storage_key_file, write_file
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.keys import StorageKey

log = logging.getLogger(__name__)

SCHEMA = """
    CREATE TABLE at_rest (
        id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL, clean INTEGER NOT NULL
    ) STRICT;
    INSERT INTO at_rest VALUES (1, x'', 0);
    """
"""``key``: the id of the key in force. ``clean``: whether nothing older is left in the file's free pages."""

_MARK = b"\x01"
"""How an encrypted value begins, and no JSON does; after it come the key's id and what it encrypted."""
_ID_BYTES = 8
_RAW_BYTES = 32
_MAC_KEY_BYTES = 32
"""The length of a token's key as it was stored in clear."""

Context = tuple[str | int, ...]


def object_context(kind: str, namespace: str, name: str, uid: str, version: int) -> Context:
    """What an object's body is bound to."""
    return ("objects", kind, namespace, name, uid, version)


def token_context(token: str, column: str) -> Context:
    """What a key of a token is bound to."""
    return ("tokens", token, column)


class AtRest:
    """The encrypted values of one open database."""

    def __init__(self, database: sqlite3.Connection, path: Path, *, fresh: bool) -> None:
        """``fresh``: nothing has ever stood in the database.

        A database from before is encrypted now. PermanentError where the key file is not there or not right.
        """
        self._database = database
        self._path = path
        self._file = storage_key_file(path)
        self._ring: tuple[StorageKey, ...] = ()
        current, clean = self._state()
        if not current:
            self._transaction(lambda: self._begin(fresh))
            clean = fresh
        else:
            self._tighten()
            self._key(current)
        if not clean:
            self._clean()

    def encrypt(self, context: Context, data: bytes) -> bytes:
        """``data`` as it is to be stored. Inside a transaction: the key may change between two."""
        return _encrypt(self._key(self._state()[0]), context, data)

    def decrypt(self, context: Context, stored: bytes) -> bytes:
        """What was stored; PermanentError names the row where it is not what was encrypted for it."""
        if stored[:1] != _MARK:
            raise _unreadable(self._path, context, "it is not encrypted")
        key = self._key(stored[1 : 1 + _ID_BYTES])
        try:
            return key.decrypt(stored[1 + _ID_BYTES :], canonical_json(context))
        except PermanentError as error:
            raise _unreadable(self._path, context, str(error)) from None

    def rotate(self) -> None:
        """Encrypt everything with a new key. The old one is kept until nothing is left of it."""
        self._transaction(self._rotate)
        self._clean()

    # The key file

    def _state(self) -> tuple[bytes, bool]:
        key, clean = self._database.execute("SELECT key, clean FROM at_rest").fetchone()
        return bytes(key), bool(clean)

    def _key(self, key_id: bytes) -> StorageKey:
        for again in (False, True):
            if again or not self._ring:
                self._load()
            for key in self._ring:
                if key.id == key_id:
                    return key
        raise PermanentError(
            f"{self._file} does not hold the key that {self._path} is encrypted with: restore both from the"
            " same backup",
            reason="NoStorageKey",
        )

    def _load(self) -> None:
        try:
            raw = read_file(self._file)
        except PermanentError as error:
            raise PermanentError(
                f"{self._path} is encrypted, and its key cannot be read ({error}): restore both from the same"
                " backup",
                reason="NoStorageKey",
            ) from None
        if not raw or len(raw) % _RAW_BYTES:
            raise PermanentError(
                f"{self._file} is no key file: restore it and {self._path} from the same backup",
                reason="NoStorageKey",
            )
        self._ring = tuple(StorageKey(raw[at : at + _RAW_BYTES]) for at in range(0, len(raw), _RAW_BYTES))

    def _save(self, *ring: StorageKey) -> None:
        raw = b"".join(key.raw for key in ring)
        # The hub may run as another user than who gives it commands.
        write_file(self._file, raw, PRIVATE, replace=True, owner_of=self._path)
        self._ring = ring

    def _tighten(self) -> None:
        try:
            if os.stat(self._file).st_mode & 0o077:
                self._file.chmod(PRIVATE)
                log.warning("%s could be read by others, and no longer can", self._file)
        except OSError as error:
            log.warning("%s: %s", self._file, error.strerror)

    # Encrypting anew

    def _transaction(self, work: Callable[[], None]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._database.execute("COMMIT")
        except OSError as error:
            raise PermanentError(f"the key {self._file} cannot be written: {error.strerror}") from None
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def _begin(self, fresh: bool) -> None:
        if self._state()[0]:
            return  # another process was faster
        if self._file.exists():
            self._load()
        else:
            self._save(StorageKey.generate())
        key = self._ring[0]
        _encrypt_all(
            self._database,
            lambda context, stored: _encrypt(key, context, stored) if _is_clear(context, stored) else stored,
        )
        self._database.execute("UPDATE at_rest SET key = ?, clean = ?", (key.id, int(fresh)))

    def _rotate(self) -> None:
        old = self._key(self._state()[0])
        new = StorageKey.generate()
        self._save(new, old)
        _encrypt_all(
            self._database, lambda context, stored: _encrypt(new, context, self.decrypt(context, stored))
        )
        self._database.execute("UPDATE at_rest SET key = ?, clean = 0", (new.id,))

    def _clean(self) -> None:
        """Leave nothing older in free pages, in the write-ahead log or in copies; then forget old keys."""
        current = self._key(self._state()[0])
        try:
            for copy in sorted(self._path.parent.glob(f"{self._path.name}.schema*")):
                if copy.suffix.removeprefix(".schema").isdigit():
                    self._clean_copy(copy, current)
            self._database.execute("VACUUM")
            self._truncate_log()
            self._transaction(self._cleaned)
            self._truncate_log()
        except (sqlite3.Error, EdgeAgentError) as error:
            log.warning(
                "%s: what was deleted or encrypted since may still stand in free pages of the file (%s);"
                " the next start tries again to take it out", self._path, error,
            )  # fmt: skip

    def _cleaned(self) -> None:
        # In a transaction, as all that changes the key file: so nobody rotates meanwhile.
        self._save(self._key(self._state()[0]))
        self._database.execute("UPDATE at_rest SET clean = 1")

    def _truncate_log(self) -> None:
        if self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise PermanentError("another process reads it")

    def _clean_copy(self, path: Path, current: StorageKey) -> None:
        """Encrypt a copy that an upgrade left. An older edgehub finds everything but the Secrets in it."""

        def anew(context: Context, stored: bytes) -> bytes:
            if _is_clear(context, stored):
                return _encrypt(current, context, stored)
            if stored[1 : 1 + _ID_BYTES] == current.id:
                return stored
            return _encrypt(current, context, self.decrypt(context, stored))

        copy = sqlite3.connect(path, isolation_level=None)
        try:
            copy.execute("BEGIN IMMEDIATE")
            _encrypt_all(copy, anew)
            if copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'at_rest'").fetchone():
                copy.execute("UPDATE at_rest SET key = ?", (current.id,))
            copy.execute("COMMIT")
            copy.execute("VACUUM")
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            copy.close()


def _encrypt(key: StorageKey, context: Context, data: bytes) -> bytes:
    return _MARK + key.id + key.encrypt(data, canonical_json(context))


def _is_clear(context: Context, stored: bytes) -> bool:
    """A token's key in clear may begin like anything: its length tells it."""
    return len(stored) == _MAC_KEY_BYTES if context[0] == "tokens" else stored[:1] != _MARK


def _encrypt_all(database: sqlite3.Connection, change: Callable[[Context, bytes], bytes]) -> None:
    rows = database.execute(
        "SELECT kind, namespace, name, uid, version, body FROM objects WHERE kind = 'Secret'"
    ).fetchall()
    for *place, body in rows:
        context = object_context(*place)
        database.execute("UPDATE objects SET body = ? WHERE uid = ?", (change(context, body), place[3]))
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'tokens'").fetchone():
        return
    for token, request_key, answer_key in database.execute(
        "SELECT id, request_key, answer_key FROM tokens"
    ).fetchall():
        database.execute(
            "UPDATE tokens SET request_key = ?, answer_key = ? WHERE id = ?",
            (
                change(token_context(token, "request_key"), request_key),
                change(token_context(token, "answer_key"), answer_key),
                token,
            ),
        )


def _unreadable(path: Path, context: Context, why: str) -> PermanentError:
    where = "/".join(str(part) for part in context[1:4] if part)
    return PermanentError(f"{path}: {where} cannot be read: {why}", reason="DecryptFailed")
