"""The hub's objects, nodes, sealed secrets and events in one SQLite file.

May not decode an object or know a rule about one: bodies are bytes, and what may change is decided by
the API. Every write is in a transaction, on disk before it is answered. The bodies of Secrets are encrypted
on their way in and decrypted on their way out (``edgeagent.cluster.atrest``).
"""

import logging
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.cluster.atrest import SCHEMA as AT_REST_SCHEMA
from edgeagent.cluster.atrest import AtRest, Context, object_context
from edgeagent.cluster.layout import PRIVATE, give_to_owner_of

log = logging.getLogger(__name__)

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (1, 0);
    CREATE TABLE objects (
        uid TEXT PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        version INTEGER NOT NULL, node TEXT NOT NULL, deleting TEXT NOT NULL, body BLOB NOT NULL,
        UNIQUE (kind, namespace, name)
    ) STRICT;
    CREATE INDEX objects_by_node ON objects (node, kind);
    CREATE TABLE nodes (
        name TEXT PRIMARY KEY, uid TEXT NOT NULL, created TEXT NOT NULL, sealing_key BLOB NOT NULL,
        serial TEXT NOT NULL, generation INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE sealed (
        uid TEXT NOT NULL, node TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (uid, node)
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        node TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL,
        namespace TEXT NOT NULL, name TEXT NOT NULL, seen REAL NOT NULL, body BLOB NOT NULL,
        UNIQUE (node, stream, sequence)
    ) STRICT;
    CREATE INDEX events_by_node ON events (node, id);
    CREATE INDEX events_by_age ON events (seen);
    """,
    """
    CREATE TABLE seen_pods (
        namespace TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE nodes ADD COLUMN state TEXT NOT NULL DEFAULT 'member';
    ALTER TABLE nodes ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE nodes ADD COLUMN public_key BLOB NOT NULL DEFAULT x'';
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, request_key BLOB NOT NULL, answer_key BLOB NOT NULL, created REAL NOT NULL,
        expires REAL NOT NULL, uses INTEGER NOT NULL, used INTEGER NOT NULL, names TEXT NOT NULL,
        approval TEXT NOT NULL, replace INTEGER NOT NULL, failed INTEGER NOT NULL, ended TEXT NOT NULL
    ) STRICT;
    CREATE TABLE enrolments (
        token TEXT NOT NULL REFERENCES tokens (id), public_key BLOB NOT NULL, node TEXT NOT NULL,
        sealing_key BLOB NOT NULL, client_id TEXT NOT NULL, csr BLOB NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL, message TEXT NOT NULL, certificate TEXT NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (token, public_key)
    ) STRICT;
    CREATE UNIQUE INDEX enrolments_pending ON enrolments (node) WHERE state = 'pending';
    CREATE TABLE revoked (
        serial TEXT PRIMARY KEY, name TEXT NOT NULL, client_id TEXT NOT NULL, revoked REAL NOT NULL,
        enforced INTEGER NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE certificates (
        serial TEXT PRIMARY KEY, name TEXT NOT NULL, public_key BLOB NOT NULL, ca TEXT NOT NULL,
        issued REAL NOT NULL, not_after REAL NOT NULL, state TEXT NOT NULL, certificate TEXT NOT NULL
    ) STRICT;
    CREATE INDEX certificates_by_name ON certificates (name, state);
    """,
    """
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, chain TEXT NOT NULL,
        sequence INTEGER NOT NULL, hash TEXT NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_source ON audit (source, id);
    CREATE INDEX audit_by_row ON audit (source, chain, sequence);
    CREATE TABLE audit_findings (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, time TEXT NOT NULL, text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_findings_by_source ON audit_findings (source, id);
    """,
    AT_REST_SCHEMA,
    """
    ALTER TABLE events RENAME TO reports;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        node TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        about_kind TEXT NOT NULL, about_name TEXT NOT NULL,
        what TEXT NOT NULL, reported TEXT NOT NULL, earlier INTEGER NOT NULL,
        seen REAL NOT NULL, body BLOB NOT NULL,
        UNIQUE (node, what), UNIQUE (namespace, name)
    ) STRICT;
    INSERT INTO events
        SELECT id, node, namespace, name,
            coalesce(json_extract(CAST(body AS TEXT), '$.involvedObject.kind'), ''),
            coalesce(json_extract(CAST(body AS TEXT), '$.involvedObject.name'), ''),
            'report ' || id, name, 0, seen, body
        FROM reports WHERE id IN (SELECT max(id) FROM reports GROUP BY namespace, name) ORDER BY id;
    CREATE INDEX events_by_node_id ON events (node, id);
    CREATE INDEX events_by_reported ON events (node, reported);
    CREATE INDEX events_by_object ON events (about_name, about_kind);
    CREATE INDEX events_by_seen ON events (seen);
    CREATE TABLE event_streams (
        node TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, seen REAL NOT NULL,
        PRIMARY KEY (node, stream)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO event_streams
        SELECT node, stream, max(sequence), max(seen) FROM reports GROUP BY node, stream;
    DROP TABLE reports;
    """,
)
"""How the file came to be, step by step: version n of the schema is what the first n steps make."""

ENCRYPTED_KINDS = ("Secret",)
"""The kinds whose bodies are encrypted."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object. ``node`` is what a Pod is bound to; ``deleting`` its deletion time stamp or empty."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    node: str
    deleting: str
    body: bytes


NodeState = Literal["member", "revoked", "removed"]
_NODE = "name, uid, created, sealing_key, serial, generation, client_id, public_key, state"


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A node. ``generation`` is the highest that an index was ever made with.

    ``client_id`` is that of its MQTT sessions, ``public_key`` that of its certificate (SPKI in DER); both are
    empty where the node was added before they were kept. ``state``: only a member is served; one that was
    revoked keeps its name from others, one that was removed does not.
    """

    name: str
    uid: str
    created: str
    sealing_key: bytes
    serial: str
    generation: int
    client_id: str = ""
    public_key: bytes = b""
    state: NodeState = "member"


class Store:
    """One connection to the file; others may have theirs. Close it when done."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS, create: bool = False) -> None:
        if not create and not path.exists():
            raise PermanentError(f"{path} is not there: restore it from a backup", reason="NotFound")
        self._path = path
        try:
            if create:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE))
                path.chmod(PRIVATE)
            self._db = sqlite3.connect(path, timeout=5, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise PermanentError(f"cannot open {path}: {error}") from None
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            fresh = self._version() == 0
            self._migrate(migrations)
            self._at_rest = AtRest(self._db, path, fresh=fresh) if AT_REST_SCHEMA in migrations else None
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise PermanentError(f"{path} cannot be used: {error}; restore it from a backup") from None
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def _migrate(self, migrations: Sequence[str]) -> None:
        version = self._version()
        if version > len(migrations):
            raise PermanentError(
                f"{self._path} was written by a newer edgehub (schema {version}, this one knows"
                f" {len(migrations)}): install that version or a later one"
            )
        if 0 < version < len(migrations):
            self._keep_copy(version)
        for number in range(version, len(migrations)):
            script = f"BEGIN IMMEDIATE;{migrations[number]};PRAGMA user_version = {number + 1};COMMIT;"
            try:
                self._db.executescript(script)
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _keep_copy(self, version: int) -> None:
        copy = self._path.with_name(f"{self._path.name}.schema{version}")
        copy.unlink(missing_ok=True)
        descriptor = os.open(copy, os.O_CREAT | os.O_RDWR, PRIVATE)
        try:
            give_to_owner_of(self._path, descriptor)
        finally:
            os.close(descriptor)
        target = sqlite3.connect(copy)
        try:
            self._db.backup(target)
        finally:
            target.close()
        log.info("%s: schema %d kept as %s", self._path, version, copy)

    @contextmanager
    def transaction(self, *, dry_run: bool = False) -> Iterator[None]:
        """All that is written inside, or nothing. ``dry_run``: nothing in any case.

        TemporaryError where the file cannot be written (a full disk, above all).
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._rollback()
                raise
            if dry_run:
                self._rollback()
            else:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise TemporaryError(
                f"the hub's database cannot be written: {error}", reason="StorageFailed"
            ) from None

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows of one statement, for the modules with tables of their own. Writes in a transaction."""
        return self._db.execute(statement, tuple(values)).fetchall()

    @property
    def at_rest(self) -> AtRest:
        """For the modules with secrets in tables of their own."""
        if self._at_rest is None:
            raise PermanentError(f"{self._path} is of an older schema, where nothing is encrypted")
        return self._at_rest

    # Objects

    def next_version(self) -> int:
        """A new resource version; rises with every write to any object. Inside a transaction."""
        row = self._db.execute("UPDATE counter SET value = value + 1 RETURNING value").fetchone()
        return int(row[0])

    def put(self, stored: StoredObject) -> None:
        """Create or replace by uid. Inside a transaction."""
        body = stored.body
        if stored.kind in ENCRYPTED_KINDS and self._at_rest is not None:
            body = self._at_rest.encrypt(_context(stored), body)
        self._db.execute(
            "INSERT INTO objects (kind, namespace, name, uid, version, node, deleting, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET version = excluded.version,"
            " node = excluded.node, deleting = excluded.deleting, body = excluded.body",
            (
                stored.kind, stored.namespace, stored.name, stored.uid,
                stored.version, stored.node, stored.deleting, body,
            ),
        )  # fmt: skip

    def remove(self, uid: str) -> None:
        """Forget an object and what was sealed of it. Inside a transaction."""
        self._db.execute("DELETE FROM objects WHERE uid = ?", (uid,))
        self._db.execute("DELETE FROM sealed WHERE uid = ?", (uid,))

    def find(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        """The object of that name, if there is one."""
        row = self._db.execute(
            "SELECT kind, namespace, name, uid, version, node, deleting, body FROM objects"
            " WHERE kind = ? AND namespace = ? AND name = ?",
            (kind, namespace, name),
        ).fetchone()
        return self._object(row) if row else None

    def _object(self, row: Sequence[Any]) -> StoredObject:
        stored = StoredObject(*row)
        if stored.kind not in ENCRYPTED_KINDS or self._at_rest is None:
            return stored
        return replace(stored, body=self._at_rest.decrypt(_context(stored), stored.body))

    def select(self, kind: str, namespace: str = "", name: str = "") -> list[StoredObject]:
        """All of a kind, sorted; an empty namespace or name stands for every one."""
        if namespace and name:
            found = self.find(kind, namespace, name)
            return [found] if found else []
        return [
            self._object(row)
            for row in self._db.execute(
                "SELECT kind, namespace, name, uid, version, node, deleting, body FROM objects"
                " WHERE kind = ? AND (? = '' OR namespace = ?) AND (? = '' OR name = ?)"
                " ORDER BY namespace, name",
                (kind, namespace, namespace, name, name),
            )
        ]

    def pods_on(self, node: str) -> list[StoredObject]:
        """The Pods bound to ``node``, those being deleted too, sorted."""
        return [
            StoredObject(*row)
            for row in self._db.execute(
                "SELECT kind, namespace, name, uid, version, node, deleting, body FROM objects"
                " WHERE node = ? AND kind = 'Pod' ORDER BY namespace, name",
                (node,),
            )
        ]

    def nodes_using(self, namespace: str) -> list[str]:
        """The nodes that have Pods in ``namespace``."""
        rows = self._db.execute(
            "SELECT DISTINCT node FROM objects WHERE kind = 'Pod' AND namespace = ? ORDER BY node",
            (namespace,),
        )
        return [str(row[0]) for row in rows]

    def deleting(self) -> list[StoredObject]:
        """Everything that waits for a node to say that it is gone."""
        return [
            self._object(row)
            for row in self._db.execute(
                "SELECT kind, namespace, name, uid, version, node, deleting, body FROM objects"
                " WHERE deleting != ''"
            )
        ]

    # Nodes

    def put_node(self, node: StoredNode) -> None:
        """Add a node, or replace its keys and forget what was sealed to them. Inside a transaction."""
        self._db.execute("DELETE FROM sealed WHERE node = ?", (node.name,))
        self._db.execute(
            f"INSERT INTO nodes ({_NODE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
            " ON CONFLICT (name) DO UPDATE SET sealing_key = excluded.sealing_key, serial = excluded.serial,"
            " client_id = excluded.client_id, public_key = excluded.public_key, state = excluded.state",
            (
                node.name, node.uid, node.created, node.sealing_key, node.serial, node.generation,
                node.client_id, node.public_key, node.state,
            ),
        )  # fmt: skip

    def node(self, name: str) -> StoredNode | None:
        """The member of that name, if there is one."""
        found = self.any_node(name)
        return found if found is not None and found.state == "member" else None

    def any_node(self, name: str) -> StoredNode | None:
        """The node of that name, a member or not."""
        row = self._db.execute(
            f"SELECT {_NODE} FROM nodes WHERE name = ?",  # noqa: S608 - a constant
            (name,),
        ).fetchone()
        return StoredNode(*row) if row else None

    def nodes(self, state: NodeState = "member") -> list[StoredNode]:
        """All members by name, or all nodes that were revoked or removed."""
        rows = self._db.execute(
            f"SELECT {_NODE} FROM nodes WHERE state = ? ORDER BY name",  # noqa: S608 - a constant
            (state,),
        )
        return [StoredNode(*row) for row in rows]

    def next_generation(self, name: str, floor: int) -> int:
        """A generation for the node's next index: above ``floor`` and above every one before."""
        with self.transaction():
            row = self._db.execute(
                "UPDATE nodes SET generation = max(generation, ?) + 1 WHERE name = ? RETURNING generation",
                (floor, name),
            ).fetchone()
        if row is None:
            raise PermanentError(f"node {name} is not a member of the cluster", reason="NotFound")
        return int(row[0])

    # What nodes said of pods

    def seen_pods(self) -> list[tuple[str, str, bytes]]:
        """All that is kept: namespace, name and what was known."""
        return list(self._db.execute("SELECT namespace, name, body FROM seen_pods"))

    def keep_seen_pods(
        self, put: Iterable[tuple[str, str, bytes]], forget: Iterable[tuple[str, str]]
    ) -> None:
        """Keep what is known of some pods, and forget others, by namespace and name."""
        with self.transaction():
            self._db.executemany("DELETE FROM seen_pods WHERE namespace = ? AND name = ?", forget)
            self._db.executemany("INSERT OR REPLACE INTO seen_pods VALUES (?, ?, ?)", put)

    # Sealed secrets

    def sealed(self, uid: str, node: str, version: int) -> bytes | None:
        """What was sealed before, so that the same Secret is the same bytes again."""
        row = self._db.execute(
            "SELECT body FROM sealed WHERE uid = ? AND node = ? AND version = ?", (uid, node, version)
        ).fetchone()
        return bytes(row[0]) if row else None

    def keep_sealed(self, rows: Iterable[tuple[str, str, int, bytes]]) -> None:
        """Remember (uid, node, version, bytes), in place of what was sealed of an older version."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO sealed (uid, node, version, body) VALUES (?, ?, ?, ?)", rows
            )


def _context(stored: StoredObject) -> Context:
    return object_context(stored.kind, stored.namespace, stored.name, stored.uid, stored.version)


def new_uid() -> str:
    """A uid for an object that was just created."""
    return str(uuid.uuid4())
