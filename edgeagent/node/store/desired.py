"""Desired state as the node keeps it: the newest accepted index, and every object it names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.node.store.database import CorruptError, Database
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.index import Index, IndexEntry, check_object, describe_entry


@dataclass(frozen=True, slots=True)
class Change:
    """What one switch of generation changed, by uid."""

    added: frozenset[str]
    changed: frozenset[str]
    removed: frozenset[str]


class DesiredState:
    """The accepted index and its objects, in memory as on disk. ``generation`` 0: none was ever accepted."""

    def __init__(self, database: Database, *, now: float) -> None:
        """Read everything, and check it: what lies on a disk for years may come back changed."""
        self._database = database
        try:
            self._load()
        except (CorruptError, EdgeAgentError, ValueError) as error:
            database.restart_from_snapshot(str(error), now)
            self._load()

    def _load(self) -> None:
        meta = {str(key): str(value) for key, value in self._database.rows("SELECT key, value FROM meta")}
        self.generation = int(meta.get("generation", "0"))
        self.index_digest = meta.get("index_digest", "")
        self.anchor = decode_json(meta["anchor"].encode(), TrustAnchor) if "anchor" in meta else None
        self.entries: dict[str, IndexEntry] = {}
        self.objects: dict[str, KubernetesObject] = {}
        columns = "uid, kind, namespace, name, digest, size, body"
        query = f"SELECT {columns} FROM desired LEFT JOIN object USING (digest)"  # noqa: S608 - no input
        for uid, kind, namespace, name, sum_, size, body in self._database.rows(query):
            entry = msgspec.convert(
                {
                    "uid": uid,
                    "kind": kind,
                    "namespace": namespace,
                    "name": name,
                    "digest": sum_,
                    "size": size,
                },
                IndexEntry,
            )
            if not isinstance(body, bytes):
                raise CorruptError(f"{describe_entry(entry)} is missing from the store")
            self.objects[entry.uid] = check_object(entry, body)
            self.entries[entry.uid] = entry

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
        by_digest = {entry.digest: uid for uid, entry in self.entries.items()}
        objects: dict[str, KubernetesObject] = {}
        for entry in index.objects:
            body = bodies.get(entry.digest)
            if body is None:
                objects[entry.uid] = self._same(entry, by_digest[entry.digest])
            else:
                objects[entry.uid] = check_object(entry, body)
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
        self.entries, self.objects = entries, objects
        return change

    def _same(self, entry: IndexEntry, uid: str) -> KubernetesObject:
        found = self.objects[uid]
        body = canonical_json(found)
        if digest(body) == entry.digest:
            return check_object(entry, body)
        return check_object(entry, self._body(entry.digest))

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
