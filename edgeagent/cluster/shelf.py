"""What lies on the broker under ``objects/``, which of it is in use, and since when the rest is not.

Pure bookkeeping: may not publish, and knows no node. Rebuilt from the broker's own retained messages on
every connection: the broker is the only one who knows what it still has.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from edgeagent.api.errors import InvalidObjectError
from edgeagent.wire.blob import ChunkList, decode_blob
from edgeagent.wire.canonical import digest
from edgeagent.wire.index import MAX_INDEX_BYTES

MAX_BODY_BYTES = MAX_INDEX_BYTES


class Shelf:
    """Digests that are retained on the broker, and how many users each has."""

    def __init__(self) -> None:
        self._plain: set[str] = set()
        self._lists: dict[str, tuple[str, ...]] = {}
        self._users: Counter[str] = Counter()
        self._unused: dict[str, float] = {}

    def found(self, name: str, payload: bytes) -> None:
        """Take note of a retained message. One whose bytes are not what its name says does not count."""
        try:
            body = decode_blob(payload, MAX_BODY_BYTES)
        except InvalidObjectError:
            self._forget(name)
            return
        if isinstance(body, ChunkList):
            self._lists[name] = tuple(body.chunks)
        elif digest(body) == name:
            self._plain.add(name)
        else:
            self._forget(name)

    def published(self, name: str, chunks: Collection[str]) -> None:
        """Take note of an object that the broker has acknowledged, with its chunks."""
        if chunks:
            self._lists[name] = tuple(chunks)
            self._plain.update(chunks)
        else:
            self._plain.add(name)

    def cleared(self, name: str) -> None:
        """Take note that the broker no longer has it."""
        self._forget(name)
        self._unused.pop(name, None)

    def _forget(self, name: str) -> None:
        self._plain.discard(name)
        self._lists.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether the whole object is there."""
        if name in self._plain:
            return True
        return name in self._lists and all(chunk in self._plain for chunk in self._lists[name])

    def expand(self, names: Iterable[str]) -> frozenset[str]:
        """``names`` and the chunks they consist of."""
        every = set(names)
        for name in list(every):
            every.update(self._lists.get(name, ()))
        return frozenset(every)

    def use(self, names: Iterable[str]) -> None:
        """One more user of each."""
        for name in names:
            self._users[name] += 1
            self._unused.pop(name, None)

    def release(self, names: Iterable[str], now: float) -> None:
        """One user less of each."""
        for name in names:
            self._users[name] -= 1
            if self._users[name] <= 0:
                del self._users[name]
                self._note_unused(name, now)

    def sweep(self, now: float) -> None:
        """Find what nobody uses, once all users are known."""
        for name in [*self._plain, *self._lists]:
            self._note_unused(name, now)

    def _note_unused(self, name: str, now: float) -> None:
        if name not in self._users and (name in self._plain or name in self._lists):
            self._unused.setdefault(name, now)

    def due(self, before: float) -> list[str]:
        """What nobody has used since ``before``."""
        return [name for name, since in self._unused.items() if since <= before]

    def is_unused(self, name: str) -> bool:
        """Whether it is there and nobody uses it."""
        return name in self._unused

    def oldest_unused(self) -> float | None:
        """Since when the longest unused is so; None where all is in use."""
        return min(self._unused.values(), default=None)
