"""Fetching objects by digest: subscribe to what is missing, check each one, unsubscribe."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, TemporaryError
from edgeagent.api.objects.decode import MAX_OBJECT_BYTES
from edgeagent.wire.blob import ChunkList, decode_blob, join_chunks
from edgeagent.wire.canonical import digest
from edgeagent.wire.index import IndexEntry, check_object, describe_entry
from edgeagent.wire.topics import Topics

BATCH = 50
"""How many objects are asked for at once: bounds what the broker queues for this node."""
CHUNKS_AT_ONCE = 8
CHUNK_SLACK_BYTES = 1024


class Subscriber(Protocol):
    """The part of an MQTT session that fetching needs."""

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for topics; their retained messages follow."""

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask no longer."""


class ObjectFetcher:
    """Turns digests into bytes. ``deliver`` is to be called with every message on an object topic."""

    def __init__(self, topics: Topics, session: Subscriber, *, patience: float) -> None:
        """``patience``: seconds without any arrival after which what is still missing is given up."""
        self._topics = topics
        self._session = session
        self._patience = patience
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    def deliver(self, digest_: str, payload: bytes) -> None:
        """A payload came in on the topic of ``digest_``."""
        if (future := self._waiting.get(digest_)) is not None and not future.done() and payload:
            future.set_result(payload)

    async def fetch(self, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
        """The bodies by digest, each checked to be the object that its entry names.

        TemporaryError where an object does not come, is not what its digest says, or is broken: the hub
        can mend all of these by publishing it again.
        """
        bodies: dict[str, bytes] = {}
        for start in range(0, len(entries), BATCH):
            bodies.update(await self._batch(entries[start : start + BATCH]))
        return bodies

    async def _batch(self, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
        names = {entry.digest: describe_entry(entry) for entry in entries}
        payloads = await self._payloads(names)
        bodies = {}
        for entry in entries:
            try:
                body = decode_blob(payloads[entry.digest], entry.size)
                if isinstance(body, ChunkList):
                    body = await self.assemble(body, entry.size, names[entry.digest])
                check_object(entry, body)
            except EdgeAgentError as error:
                if isinstance(error, TemporaryError):
                    raise
                raise TemporaryError(f"{names[entry.digest]}: {error}", reason="BadObject") from None
            bodies[entry.digest] = body
        return bodies

    async def assemble(self, listing: ChunkList, size: int, name: str) -> bytes:
        """The body whose chunks ``listing`` names, each checked by its digest."""
        chunks: dict[str, bytes] = {}
        missing, total = list(dict.fromkeys(listing.chunks)), 0
        while missing:
            # Nobody signs the list: it must not make this node collect more than the object can need.
            batch, missing = missing[:CHUNKS_AT_ONCE], missing[CHUNKS_AT_ONCE:]
            for chunk, payload in (await self._payloads(dict.fromkeys(batch, f"a part of {name}"))).items():
                piece = decode_blob(payload, MAX_OBJECT_BYTES)
                if isinstance(piece, ChunkList) or digest(piece) != chunk:
                    raise InvalidObjectError("", f"a part of {name} does not have the digest it should have")
                chunks[chunk] = piece
                total += len(piece)
            if total > size + CHUNK_SLACK_BYTES:
                raise InvalidObjectError(
                    "", f"the parts of {name} are larger than the {size} bytes announced"
                )
        return join_chunks(listing, chunks, size)

    async def _payloads(self, names: dict[str, str]) -> dict[str, bytes]:
        loop = asyncio.get_running_loop()
        filters = [self._topics.object(name) for name in names]
        futures = {name: loop.create_future() for name in names}
        self._waiting.update(futures)
        try:
            await self._session.subscribe(filters)
            missing = set(futures.values())
            while missing:
                arrived, missing = await asyncio.wait(
                    missing, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED
                )
                if not arrived:
                    absent = [names[name] for name, future in futures.items() if not future.done()]
                    raise TemporaryError(
                        f"{absent[0]} is not on the broker"
                        + (f", nor {len(absent) - 1} more" if absent[1:] else ""),
                        reason="ObjectMissing",
                    )
            return {name: future.result() for name, future in futures.items()}
        finally:
            for name in names:
                self._waiting.pop(name, None)
            await self._forget(filters)

    async def _forget(self, filters: list[str]) -> None:
        try:
            await self._session.unsubscribe(filters)
        except TemporaryError:
            # The connection is gone, and with it the subscription.
            return
