"""The certificates that nodes were given, in a table of the hub's store: which key is whose, and of which CA.

A node has one key that counts, which ``nodes`` has too, and may have others that were certified since: the
answer that brought one may have been lost, so the key before stays good until the node has signed something
with a newer one. May not issue anything or talk to anybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeagent.cluster.store import Store
from edgeagent.wire.certificates import read_certificate

MAX_PENDING = 8
"""How many keys of a node may wait for their first use; the oldest are forgotten."""

State = Literal["pending", "current", "past"]
_COLUMNS = "serial, name, public_key, ca, issued, not_after, state, certificate"


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """One certificate. ``ca`` is the id of its CA's key, ``public_key`` SPKI in DER; times in seconds."""

    serial: str
    name: str
    public_key: bytes
    ca: str
    issued: float
    not_after: float
    state: State
    certificate: str


def record_certificate(store: Store, name: str, certificate: str, *, now: float, state: State) -> None:
    """Keep what was just issued to ``name`` (PEM). As ``current`` it takes the place of all that were before.

    Inside a transaction. What has run out is forgotten.
    """
    found = read_certificate(certificate)
    store.execute("DELETE FROM certificates WHERE not_after < ? AND state = 'past'", (now,))
    if state == "current":
        store.execute("UPDATE certificates SET state = 'past' WHERE name = ?", (name,))
    store.execute(
        f"INSERT OR REPLACE INTO certificates ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            found.serial, name, found.public_key, found.issuer_key, now, found.not_after, state, certificate
        ),
    )  # fmt: skip
    store.execute(
        "UPDATE certificates SET state = 'past' WHERE name = ? AND state = 'pending' AND serial NOT IN"
        " (SELECT serial FROM certificates WHERE name = ? AND state = 'pending'"
        " ORDER BY issued DESC, rowid DESC LIMIT ?)",
        (name, name, MAX_PENDING),
    )


def pending(store: Store, name: str) -> list[StoredCertificate]:
    """What the node was given and has not used yet, the newest first."""
    rows = store.execute(
        f"SELECT {_COLUMNS} FROM certificates WHERE name = ? AND state = 'pending'"  # noqa: S608
        " ORDER BY issued DESC, rowid DESC",
        (name,),
    )
    return [StoredCertificate(*row) for row in rows]


def confirm(store: Store, used: StoredCertificate) -> None:
    """The node has the key of this one: from now on no other counts. Inside a transaction."""
    store.execute("UPDATE certificates SET state = 'past' WHERE name = ?", (used.name,))
    store.execute("UPDATE certificates SET state = 'current' WHERE serial = ?", (used.serial,))
    store.execute(
        "UPDATE nodes SET serial = ?, public_key = ? WHERE name = ?",
        (used.serial, used.public_key, used.name),
    )


def current(store: Store) -> dict[str, StoredCertificate]:
    """The certificate in use of each name, as far as it was kept."""
    rows = store.execute(f"SELECT {_COLUMNS} FROM certificates WHERE state = 'current'")  # noqa: S608
    return {str(row[1]): StoredCertificate(*row) for row in rows}


def find(store: Store, serial: str) -> StoredCertificate | None:
    """The certificate with that serial number, as far as it was kept."""
    rows = store.execute(f"SELECT {_COLUMNS} FROM certificates WHERE serial = ?", (serial,))  # noqa: S608
    return StoredCertificate(*rows[0]) if rows else None


def names_with(store: Store, prefix: str) -> list[str]:
    """The names that begin with ``prefix`` and were ever given a certificate, as far as it was kept."""
    rows = store.execute(
        "SELECT DISTINCT name FROM certificates WHERE substr(name, 1, ?) = ? ORDER BY name",
        (len(prefix), prefix),
    )
    return [str(row[0]) for row in rows]


def serials_of(store: Store, name: str, now: float) -> list[str]:
    """The serials of all that was ever given to ``name`` and has not run out: what to revoke with it."""
    rows = store.execute(
        "SELECT serial FROM certificates WHERE name = ? AND not_after >= ? ORDER BY serial", (name, now)
    )
    return [str(row[0]) for row in rows]


def serials_under(store: Store, cas: Sequence[str], now: float) -> list[str]:
    """The serials of all that these CAs (ids of their keys) have signed and that has not run out."""
    marks = ", ".join("?" for _ in cas)
    rows = store.execute(
        f"SELECT serial FROM certificates WHERE ca IN ({marks}) AND not_after >= ? ORDER BY serial",  # noqa: S608
        (*cas, now),
    )
    return [str(row[0]) for row in rows]
