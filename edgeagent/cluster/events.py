"""Events as the hub keeps them: one for what happened to one object, however often nodes say it.

A node counts repeats for as long as it remembers them. After a restart of the agent it begins anew, under
another name; here the counts are added up. What is kept is bounded by number and by age. May not know how
a report travels.

In the table ``what`` tells events apart: a digest of all but their times and counts. ``reported`` is the name
that the node uses at present, ``earlier`` how often the same had happened under its earlier names. ``id``
rises with every change, so that it is the order of arrival.
"""

import secrets
from typing import Any

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.event import Event
from edgeagent.cluster.store import Store
from edgeagent.wire.canonical import canonical_json, digest

MAX_EVENTS = 10_000
MAX_EVENTS_PER_NODE = 1_000
"""How many are kept; those that were told of longest ago go first."""
EVENT_SECONDS = 7 * 86_400.0
"""How long an event is kept after it was told of last. Kubernetes keeps an hour, for a cluster where somebody
watches. Here a node may tell of a weekend on Monday, and whoever is to look comes days after. Repeats take no
room, so that the numbers above bound what a week costs."""
MAX_STREAMS_PER_NODE = 8
"""A node has a new stream where its store was lost."""
MAX_COUNT = 2**31 - 1
"""What Kubernetes' ``count`` can hold."""


class EventLog:
    """The events of all nodes, in the hub's database."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def add(self, node: str, stream: str, sequence: int, event: Event) -> tuple[str, str] | None:
        """Take a report of ``node``; namespace and name of the event that it made or changed.

        Within a stream sequences rise; None where this one has come before. ``event`` must have a name and a
        namespace that can be those of an object. TemporaryError where the database cannot be written.
        """
        now = self._clock.now()
        with self._store.transaction():
            if not self._is_news(node, stream, sequence, now):
                return None
            key, is_new = self._put(node, event, now)
            if is_new:
                self._prune(node, now)
        return key

    def select(
        self, namespace: str = "", name: str = "", *, about_kind: str = "", about_name: str = ""
    ) -> list[Event]:
        """Events, the one told of longest ago first; an empty argument stands for every one.

        ``about_kind`` and ``about_name`` are those of the object that it happened to.
        """
        wanted = {
            "namespace": namespace,
            "name": name,
            "about_kind": about_kind,
            "about_name": about_name,
        }
        given = [(column, value) for column, value in wanted.items() if value]
        where = "".join(f" AND {column} = ?" for column, _ in given)
        rows = self._store.execute(
            f"SELECT body FROM events WHERE seen >= ?{where} ORDER BY id",  # noqa: S608 - the names above
            [self._clock.now() - EVENT_SECONDS, *(value for _, value in given)],
        )
        return [decode_json(body, Event) for (body,) in rows]

    def _is_news(self, node: str, stream: str, sequence: int, now: float) -> bool:
        # A node sends in order, and one connection keeps the order: what is not above the last is a repeat.
        rows = self._store.execute(
            "INSERT INTO event_streams VALUES (?, ?, ?, ?) ON CONFLICT (node, stream) DO UPDATE"
            " SET sequence = excluded.sequence, seen = excluded.seen WHERE excluded.sequence > sequence"
            " RETURNING 1",
            (node, stream, sequence, now),
        )
        return bool(rows)

    def _put(self, node: str, event: Event, now: float) -> tuple[tuple[str, str], bool]:
        """Namespace and name, and whether there is one event more than before."""
        meta, what = event.metadata, _what(event)
        found = self._same(node, event, what)
        earlier, name = 0, meta.name
        if found is None:
            event = msgspec.structs.replace(event, count=_bounded(event.count))
            if self._store.execute("SELECT 1 FROM events WHERE (namespace, name) = (?, ?)", _key(event)):
                # Another node's, for instance. No node takes the place of another's event.
                name = f"{name[:200].rstrip('.-')}.{secrets.token_hex(8)}"
                event = _renamed(event, name)
        else:
            identifier, reported, earlier, body = found
            old = decode_json(body, Event)
            if reported != meta.name:
                earlier = old.count
            event = _continued(old, event, earlier)
            self._store.execute("DELETE FROM events WHERE id = ?", (identifier,))
        about = event.involved_object
        self._store.execute(
            "INSERT INTO events (node, namespace, name, about_kind, about_name, what, reported, earlier,"
            " seen, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                node,
                *_key(event),
                about.kind,
                about.name,
                what,
                meta.name,
                earlier,
                now,
                canonical_json(event),
            ),
        )
        return _key(event), found is None

    def _same(self, node: str, event: Event, what: str) -> Any | None:
        """The row of what happened before: the same, or told under the same name."""
        columns = "id, reported, earlier, body"
        rows = self._store.execute(
            f"SELECT {columns} FROM events WHERE node = ? AND what = ?",  # noqa: S608 - constants
            (node, what),
        ) or self._store.execute(
            f"SELECT {columns} FROM events WHERE node = ? AND reported = ? AND namespace = ?",  # noqa: S608
            (node, event.metadata.name, event.metadata.namespace),
        )
        return rows[0] if rows else None

    def _prune(self, node: str, now: float) -> None:
        self._drop_oldest(MAX_EVENTS_PER_NODE, "WHERE node = ?", node)
        self._drop_oldest(MAX_EVENTS, "")
        self._store.execute(
            "DELETE FROM event_streams WHERE node = ? AND stream NOT IN"
            " (SELECT stream FROM event_streams WHERE node = ? ORDER BY seen DESC, stream LIMIT ?)",
            (node, node, MAX_STREAMS_PER_NODE),
        )
        for table in ("events", "event_streams"):
            self._store.execute(
                f"DELETE FROM {table} WHERE seen < ?",  # noqa: S608 - constants
                (now - EVENT_SECONDS,),
            )

    def _drop_oldest(self, most: int, where: str, *values: str) -> None:
        """Keep ``most`` of those events. They are counted in an index: to walk along the rows costs more."""
        [[count]] = self._store.execute(f"SELECT count(*) FROM events {where}", values)  # noqa: S608
        if count > most:
            self._store.execute(
                f"DELETE FROM events WHERE id IN (SELECT id FROM events {where} ORDER BY id LIMIT ?)",  # noqa: S608
                (*values, count - most),
            )


def _what(event: Event) -> str:
    """What makes two events the same, as Kubernetes' EventCorrelator has it."""
    about = event.involved_object
    told = event.source.component, event.type, event.reason, event.message
    return digest(
        canonical_json([about.kind, about.namespace, about.name, about.uid, about.field_path, *told])
    )


def _continued(old: Event, new: Event, earlier: int) -> Event:
    """``new``, as the same event as ``old``: its name and its beginning, and ``earlier`` times more."""
    return msgspec.structs.replace(
        new,
        metadata=old.metadata,
        first_timestamp=old.first_timestamp or new.first_timestamp,
        last_timestamp=new.last_timestamp or old.last_timestamp,
        count=_bounded(earlier + new.count),
    )


def _bounded(count: int) -> int:
    return min(max(count, 1), MAX_COUNT)


def _renamed(event: Event, name: str) -> Event:
    return msgspec.structs.replace(event, metadata=msgspec.structs.replace(event.metadata, name=name))


def _key(event: Event) -> tuple[str, str]:
    return event.metadata.namespace, event.metadata.name
