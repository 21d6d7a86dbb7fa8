"""Fetching objects by digest: subscribe to what is missing, check each one, unsubscribe."""

import asyncio
import logging
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
PAYLOAD_SLACK_BYTES = 400_000
"""What a payload may have over its object: the first byte, and at most a list of chunks."""

log = logging.getLogger(__name__)


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
        self._limits: dict[str, int] = {}
        self._kept: dict[str, bytes] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def deliver(self, digest_: str, payload: bytes) -> None:
        """A payload came in on the topic of ``digest_``."""
        future = self._waiting.get(digest_)
        if future is not None and not future.done() and 0 < len(payload) <= self._limits[digest_]:
            future.set_result(payload)

    async def fetch(self, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
        """The bodies by digest, each checked to be the object that its entry names.

        TemporaryError where an object does not come or is not what its digest says: the hub can mend both
        by publishing it again, and what has come is kept for the next try. PermanentError where the digest
        is right and this program cannot read the object.
        """
        wanted = {entry.digest for entry in entries}
        self._kept = {name: body for name, body in self._kept.items() if name in wanted}
        missing = [entry for entry in entries if entry.digest not in self._kept]
        for start in range(0, len(missing), BATCH):
            self._kept.update(await self._batch(missing[start : start + BATCH]))
        bodies, self._kept = self._kept, {}
        return bodies

    async def _batch(self, entries: Sequence[IndexEntry]) -> dict[str, bytes]:
        names = {entry.digest: describe_entry(entry) for entry in entries}
        payloads = await self._payloads(names, {entry.digest: entry.size for entry in entries})
        bodies = {}
        for entry in entries:
            try:
                body = decode_blob(payloads[entry.digest], entry.size)
                if isinstance(body, ChunkList):
                    body = await self.assemble(body, entry.size, names[entry.digest])
            except InvalidObjectError as error:
                raise TemporaryError(f"{names[entry.digest]}: {error}", reason="BadObject") from None
            if digest(body) != entry.digest:
                raise TemporaryError(f"{names[entry.digest]} does not have its digest", reason="BadObject")
            check_object(entry, body)
            bodies[entry.digest] = body
        return bodies

    async def assemble(self, listing: ChunkList, size: int, name: str) -> bytes:
        """The body whose chunks ``listing`` names, each checked by its digest."""
        chunks: dict[str, bytes] = {}
        missing, total = list(dict.fromkeys(listing.chunks)), 0
        while missing:
            # Nobody signs the list: it must not make this node collect more than the object can need.
            batch, missing = missing[:CHUNKS_AT_ONCE], missing[CHUNKS_AT_ONCE:]
            parts = dict.fromkeys(batch, f"a part of {name}")
            limits = dict.fromkeys(batch, min(size, MAX_OBJECT_BYTES))
            for chunk, payload in (await self._payloads(parts, limits)).items():
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

    async def _payloads(self, names: dict[str, str], sizes: dict[str, int]) -> dict[str, bytes]:
        """The payloads by digest, none larger than its size allows for."""
        loop = asyncio.get_running_loop()
        filters = [self._topics.object(name) for name in names]
        futures = {name: loop.create_future() for name in names}
        self._waiting.update(futures)
        self._limits.update({name: size + PAYLOAD_SLACK_BYTES for name, size in sizes.items()})
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
                self._limits.pop(name, None)
            # Nothing waits for the broker's answer to this.
            leaving = loop.create_task(self._forget(filters))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _forget(self, filters: list[str]) -> None:
        try:
            await self._session.unsubscribe(filters)
        except EdgeAgentError as error:
            # The connection is gone, and with it the subscription; at worst an object comes once more.
            log.debug("not unsubscribed: %s", error)
