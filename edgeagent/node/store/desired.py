"""Desired state as the node keeps it: the newest accepted index, and every object it names."""

import logging
from collections.abc import Iterable, Mapping

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.node.store.database import CorruptError, Database
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.index import Index, IndexEntry, check_object, describe_entry

log = logging.getLogger(__name__)


class Change(msgspec.Struct, frozen=True):
    """What one switch of generation changed, by uid."""

    added: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


class DesiredState:
    """The accepted index and its objects, in memory as on disk. ``generation`` 0: none was ever accepted."""

    def __init__(self, database: Database, *, now: float) -> None:
        """Read everything, and check it: what lies on a disk for years may come back changed."""
        self._database = database
        try:
            self._load()
        except CorruptError as error:
            database.restart_from_snapshot(str(error), now)
            try:
                self._load()
            except CorruptError as again:
                database.restart_empty(str(again), now)
                self._load()
        self.confirmed = not database.recovered
        """False for what came out of a snapshot, until the hub's index is accepted or found the same."""

    def _load(self) -> None:
        meta = {str(key): str(value) for key, value in self._database.rows("SELECT key, value FROM meta")}
        try:
            self.generation = int(meta.get("generation", "0"))
            self.anchor = decode_json(meta["anchor"].encode(), TrustAnchor) if "anchor" in meta else None
        except (ValueError, InvalidObjectError) as error:
            raise CorruptError(f"the facts about the generation: {error}") from None
        self.index_digest = meta.get("index_digest", "")
        self.entries: dict[str, IndexEntry] = {}
        self.objects: dict[str, KubernetesObject] = {}
        self.unreadable: dict[str, str] = {}
        columns = "uid, kind, namespace, name, digest, size, body"
        query = f"SELECT {columns} FROM desired LEFT JOIN object USING (digest)"  # noqa: S608 - no input
        for *values, body in self._database.rows(query):
            entry = IndexEntry(**dict(zip(columns.split(", "), values, strict=False)))  # type: ignore[arg-type]
            if not isinstance(body, bytes) or digest(body) != entry.digest:
                raise CorruptError(f"{describe_entry(entry)} is missing or does not have its digest")
            self.entries[entry.uid] = entry
            try:
                self.objects[entry.uid] = check_object(entry, body)
            except InvalidObjectError as error:
                # Accepted by an older edgeagent, refused by this one: its pod is left as it is.
                self.unreadable[entry.uid] = str(error)
                log.error("%s is left alone: %s", describe_entry(entry), error)

    def missing(self, index: Index) -> list[IndexEntry]:
        """The entries whose objects are not here yet, each digest once."""
        here = {entry.digest for entry in self.entries.values()}
        wanted = {entry.digest: entry for entry in index.objects if entry.digest not in here}
        return list(wanted.values())

    def switch(
        self, index: Index, index_digest: str, bodies: Mapping[str, bytes], anchor: TrustAnchor
    ) -> Change:
        """Make ``index`` the desired state, in one durable transaction. ``bodies``: the missing, by digest.

        The caller has verified the signature and that the generation rises. Raises InvalidObjectError where
        an object is not what its entry says, TemporaryError where the disk does not take it; nothing has
        changed then.
        """
        objects: dict[str, KubernetesObject] = {}
        for entry in index.objects:
            if self.entries.get(entry.uid) == entry and entry.uid in self.objects:
                objects[entry.uid] = self.objects[entry.uid]
            else:
                body = bodies.get(entry.digest)
                objects[entry.uid] = check_object(entry, self._body(entry.digest) if body is None else body)
        entries = {entry.uid: entry for entry in index.objects}
        change = self._difference(entries)
        with self._database.durable() as connection:
            connection.executemany("INSERT OR IGNORE INTO object VALUES (?, ?)", bodies.items())
            gone = [(uid,) for uid in change.removed | change.changed]
            connection.executemany("DELETE FROM desired WHERE uid = ?", gone)
            connection.executemany(
                "INSERT INTO desired VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (e.uid, e.kind, e.namespace, e.name, e.digest, e.size)
                    for e in (entries[uid] for uid in change.added | change.changed)
                ],
            )
            connection.execute("DELETE FROM object WHERE digest NOT IN (SELECT digest FROM desired)")
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [
                    ("generation", str(index.generation)),
                    ("index_digest", index_digest),
                    ("anchor", canonical_json(anchor).decode()),
                ],
            )
        self.generation, self.index_digest, self.anchor = index.generation, index_digest, anchor
        self.entries, self.objects, self.unreadable = entries, objects, {}
        self.confirmed = True
        return change

    def adopt_origin(self, origin: str) -> None:
        """Note which enrolment desired state is from; after another, its generations count for nothing.

        The pods stay until the new cluster's index says otherwise: generation 0 removes nothing.
        """
        before = get_meta(self._database, "origin")
        if before == origin:
            return
        set_meta(self._database, [("origin", origin)])
        if before:
            with self._database.durable() as connection:
                connection.execute("DELETE FROM meta WHERE key IN ('generation', 'index_digest', 'anchor')")
            self.generation, self.index_digest, self.anchor = 0, "", None

    def _body(self, wanted: str) -> bytes:
        [(body,)] = self._database.rows("SELECT body FROM object WHERE digest = ?", (wanted,))
        return body if isinstance(body, bytes) else b""

    def _difference(self, entries: Mapping[str, IndexEntry]) -> Change:
        old, new = self.entries.keys(), entries.keys()
        changed = (uid for uid in old & new if self.entries[uid] != entries[uid])
        return Change(frozenset(new - old), frozenset(changed), frozenset(old - new))


def set_meta(database: Database, values: Iterable[tuple[str, str]]) -> None:
    """Write small facts durably."""
    with database.durable() as connection:
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values))


def get_meta(database: Database, key: str) -> str:
    """A fact written by ``set_meta``, empty where there is none."""
    for (value,) in database.rows("SELECT value FROM meta WHERE key = ?", (key,)):
        return str(value)
    return ""
