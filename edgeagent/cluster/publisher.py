"""Brings what is published to every node up to what the store wants: objects first, then the signed index.

Level-triggered: a wake says only "look at this node again". May not change an object, answer an operator
or listen to what nodes report.

What the broker has is learned from its retained messages on every connection, not remembered in the
database: a broker may have lost them, be restored from a backup or be another one of several, and only
it knows. The generation is floored twice, by the database and by the newest authentic index on the broker,
so that it rises even where one of the two was lost.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.objects.config import ConfigMap, SealedSecret, Secret
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.references import Reference
from edgeagent.cluster.desired import Wanted, wanted
from edgeagent.cluster.shelf import Shelf
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store, StoredNode
from edgeagent.wire.blob import Blob, ChunkList, decode_blob, encode_blob, join_chunks
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope, encode_envelope, sign_envelope
from edgeagent.wire.index import MAX_INDEX_BYTES, Index, IndexEntry, decode_index, encode_index
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.keys import VerifyKey
from edgeagent.wire.sealing import seal_secret
from edgeagent.wire.session import MqttSession
from edgeagent.wire.topics import Topics
from edgeagent.wire.trust import verify

log = logging.getLogger(__name__)

MAX_ENVELOPE_BYTES = MAX_INDEX_BYTES + 200_000
AT_ONCE = 16
"""How many publications wait for their acknowledgement at a time."""
RETRY_FIRST_SECONDS = 1.0
RETRY_CEILING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Published:
    """What a node's desired topic holds. ``uses`` is what of ``objects/`` it needs."""

    generation: int
    entries: tuple[IndexEntry, ...]
    key_id: str
    uses: frozenset[str]


class Publisher:
    """One per hub; all on the event loop. ``run`` does the work while there is a connection."""

    def __init__(
        self,
        store: Store,
        session: MqttSession,
        signing: Callable[[], Signing],
        topics: Topics,
        *,
        clock: Clock,
        rng: random.Random,
        grace: float,
        shared: Callable[[str], Iterable[Wanted]] = lambda node: (),
        on_published: Callable[[str], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._session = session
        self._signing = signing
        self._topics = topics
        self._clock = clock
        self._rng = rng
        self._grace = grace
        self._shared = shared
        self._on_published = on_published
        self._on_failed = on_failed
        self._shelf = Shelf()
        self._published: dict[str, Published] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._found: dict[str, bytes] = {}
        self._chunks: dict[str, bytes | None] = {}
        self._dirty: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._working = False
        self._suspect = ""
        self._swept = asyncio.Event()
        self.failures: dict[str, str] = {}

    # What the broker has, on a new connection

    def begin(self) -> None:
        """Forget what was known of the broker: its retained messages tell it anew."""
        self._shelf = Shelf()
        self._published.clear()
        self._held.clear()
        self._found.clear()
        self._chunks.clear()

    def found_desired(self, node: str, payload: bytes) -> None:
        """A retained index on the broker."""
        if not payload:
            self._found.pop(node, None)
            return
        self._found[node] = payload
        try:
            body = decode_blob(payload, MAX_ENVELOPE_BYTES)
        except InvalidObjectError:
            return
        if isinstance(body, ChunkList):
            self._chunks.update(dict.fromkeys(body.chunks))

    def found_object(self, name: str, payload: bytes) -> None:
        """A retained object or chunk on the broker; those of a chunked index must come after the index."""
        if not payload:
            return
        self._shelf.found(name, payload)
        if name in self._chunks:
            self._chunks[name] = payload

    def known(self) -> None:
        """All retained messages have come: judge them, and look at every node."""
        now = self._clock.monotonic()
        for node, payload in self._found.items():
            try:
                published = self._judge(node, payload)
            except EdgeAgentError as error:
                log.warning("the index that the broker holds for node %s does not count: %s", node, error)
                continue
            self._published[node] = published
            self._shelf.use(published.uses)
        self._shelf.sweep(now)
        self._found.clear()
        self._chunks.clear()
        self.wake_all()

    def _judge(self, node: str, payload: bytes) -> Published:
        body = decode_blob(payload, MAX_ENVELOPE_BYTES)
        chunks: tuple[str, ...] = ()
        if isinstance(body, ChunkList):
            chunks = tuple(body.chunks)
            pieces: dict[str, bytes] = {}
            for name in chunks:
                piece = self._chunks.get(name)
                data = decode_blob(piece, MAX_ENVELOPE_BYTES) if piece is not None else None
                if not isinstance(data, bytes):
                    raise InvalidObjectError("", f"its chunk {name} is missing")
                pieces[name] = data
            body = join_chunks(body, pieces, MAX_ENVELOPE_BYTES)
        envelope = decode_envelope(body, INDEX_TYPE)
        signer = verify(envelope, self._signing().origin)
        index = decode_index(envelope.payload, cluster=self._topics.cluster, node=node)
        names = self._shelf.expand(entry.digest for entry in index.objects)
        return Published(
            index.generation, tuple(index.objects), VerifyKey(signer.key).id, names.union(chunks)
        )

    # Waking

    def wake(self, node: str) -> None:
        """Look at ``node`` again."""
        self._dirty[node] = None
        self._woken.set()

    def wake_all(self) -> None:
        """Look at every node again."""
        for node in self._store.nodes():
            self._dirty[node.name] = None
        # Whoever's objects the last connection was lost over must not keep the others from theirs.
        if self._suspect in self._dirty:
            self._dirty[self._suspect] = self._dirty.pop(self._suspect)
        self._woken.set()

    def published(self, node: str) -> Published | None:
        """What the broker is known to hold for ``node``."""
        return self._published.get(node)

    @property
    def idle(self) -> bool:
        """Whether every wake was followed to its end."""
        return not self._dirty and not self._working

    # The work

    async def run(self) -> None:
        """Follow wakes until cancelled. Start it once ``known`` was called."""
        backoff = Backoff(self._rng, first=RETRY_FIRST_SECONDS, ceiling=RETRY_CEILING_SECONDS)
        cleaner = asyncio.create_task(self._clean())
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                while self._dirty:
                    if await self._one(next(iter(self._dirty))):
                        backoff.reset()
                    else:
                        await self._clock.sleep(backoff.next())
        finally:
            cleaner.cancel()
            await asyncio.gather(cleaner, return_exceptions=True)

    async def _one(self, name: str) -> bool:
        """Bring one node up to date; False where it is to be tried again later."""
        del self._dirty[name]
        self._working = True
        # Many nodes may be waiting: let the session breathe between two.
        await asyncio.sleep(0)
        problem = ""
        try:
            node = self._store.node(name)
            if node is not None:
                await self._reconcile(node)
            elif self._store.any_node(name) is not None:
                await self._withdraw(name)
        except TemporaryError as error:
            problem = str(error)
            self._suspect = name
            self._dirty.setdefault(name)
            return False
        except EdgeAgentError as error:
            problem = str(error)
        except asyncio.CancelledError:
            self._suspect = name
            problem = "the connection to the broker was lost while it was published"
            raise
        except Exception as error:
            log.exception("node %s", name)
            problem = f"{type(error).__name__}; see the hub's log"
        finally:
            self._working = False
            self._note(name, problem)
        return True

    def _note(self, name: str, problem: str) -> None:
        before = self.failures.get(name, "")
        if problem:
            self.failures[name] = problem
        else:
            self.failures.pop(name, None)
        if problem != before:
            if problem:
                log.warning("node %s does not get its desired state: %s", name, problem)
            self._on_failed(name)

    async def _reconcile(self, node: StoredNode) -> None:
        want = self.desired(node)
        signing = self._signing()
        entries = tuple(one.entry for one in want)
        before = self._published.get(node.name)
        await self._publish_objects(node.name, want)
        if before is None or before.entries != entries or before.key_id != signing.key.public.id:
            await self._publish_index(node.name, entries, signing, before)
        self._unhold(node.name)
        self._on_published(node.name)

    async def _withdraw(self, name: str) -> None:
        """A former node is to have no desired state. What it runs it goes on running."""
        if (before := self._published.get(name)) is not None:
            await self._session.publish(self._topics.desired(name), b"", retain=True)
            self._shelf.release(before.uses, self._clock.monotonic())
            del self._published[name]
            self._swept.set()

    def desired(self, node: StoredNode) -> list[Wanted]:
        """What ``node`` should have now."""
        pods = [decode_json(stored.body, Pod) for stored in self._store.pods_on(node.name)]
        versions: dict[str, int] = {}
        fresh: list[tuple[str, str, int, bytes]] = []

        def find(reference: Reference) -> ConfigMap | Secret | None:
            stored = self._store.find(*reference)
            if stored is None:
                return None
            versions[stored.uid] = stored.version
            if stored.kind == "ConfigMap":
                return decode_json(stored.body, ConfigMap)
            return decode_json(stored.body, Secret)

        def seal(secret: Secret) -> SealedSecret:
            uid = secret.metadata.uid
            kept = self._store.sealed(uid, node.name, versions[uid])
            if kept is not None:
                return decode_json(kept, SealedSecret)
            sealed = seal_secret(secret, node.sealing_key, cluster=self._topics.cluster, node=node.name)
            fresh.append((uid, node.name, versions[uid], canonical_json(sealed)))
            return sealed

        want = wanted(node.name, pods, find, seal, self._shared(node.name))
        if fresh:
            self._store.keep_sealed(fresh)
        return want

    async def _publish_objects(self, node: str, want: list[Wanted]) -> None:
        blobs: dict[str, Blob] = {}
        limit = self._limit()
        for one in want:
            if not self._shelf.has(one.entry.digest) and one.entry.digest not in blobs:
                blobs[one.entry.digest] = encode_blob(one.body, limit)
        names = set(self._shelf.expand(one.entry.digest for one in want))
        pieces: dict[str, Blob] = {}
        for blob in blobs.values():
            names.update(blob.chunks)
            pieces.update(self._missing_chunks(blob))
        self._hold(node, frozenset(names))
        # A list of chunks is there only once all of its chunks are.
        await self._publish_all(pieces)
        await self._publish_all(blobs)

    def _missing_chunks(self, blob: Blob) -> dict[str, Blob]:
        return {name: Blob(data, {}) for name, data in blob.chunks.items() if not self._shelf.has(name)}

    async def _publish_all(self, blobs: Mapping[str, Blob]) -> None:
        """Objects by name, a few at a time; the first failure is raised once all of its batch are done."""
        names = list(blobs)
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            done = await asyncio.gather(
                *(
                    self._session.publish(self._topics.object(n), blobs[n].payload, retain=True)
                    for n in batch
                ),
                return_exceptions=True,
            )
            for name, error in zip(batch, done, strict=True):
                if error is None:
                    self._shelf.published(name, list(blobs[name].chunks))
            for error in done:
                if error is not None:
                    raise error

    async def _publish_index(
        self, node: str, entries: tuple[IndexEntry, ...], signing: Signing, before: Published | None
    ) -> None:
        generation = self._store.next_generation(node, before.generation if before else 0)
        index = Index(
            cluster=self._topics.cluster,
            node=node,
            generation=generation,
            issued_at=rfc3339(self._clock.now()),
            objects=list(entries),
        )
        key = signing.key
        envelope = sign_envelope(INDEX_TYPE, encode_index(index), key.public.id, key, signing.chain)
        blob = encode_blob(encode_envelope(envelope), self._limit())
        objects = self._held[node]
        if blob.chunks:
            self._hold(node, objects.union(blob.chunks))
            await self._publish_all(self._missing_chunks(blob))
        await self._session.publish(self._topics.desired(node), blob.payload, retain=True)
        uses = objects.union(blob.chunks)
        self._shelf.use(uses)
        if before is not None:
            self._shelf.release(before.uses, self._clock.monotonic())
        self._published[node] = Published(generation, entries, key.public.id, uses)
        log.info("node %s: generation %d, %d objects", node, generation, len(entries))

    def _limit(self) -> int:
        connection = self._session.connection
        if connection is None:
            raise TemporaryError("not connected to a broker", reason="Disconnected")
        return connection.payload_limit

    def _hold(self, node: str, names: frozenset[str]) -> None:
        """Keep ``names`` from being cleared while the index that needs them is under way."""
        self._shelf.use(names)
        self._unhold(node)
        self._held[node] = names

    def _unhold(self, node: str) -> None:
        self._shelf.release(self._held.pop(node, ()), self._clock.monotonic())
        self._swept.set()

    # Clearing what no index uses

    async def _clean(self) -> None:
        """Clear each object some time after its last use: a slow node may still be fetching it."""
        while True:
            self._swept.clear()
            since = self._shelf.oldest_unused()
            if since is None:
                await self._swept.wait()
                continue
            delay = since + self._grace - self._clock.monotonic()
            if delay > 0:
                await self._clock.sleep(delay)
            try:
                for name in self._shelf.due(self._clock.monotonic() - self._grace):
                    if self._shelf.is_unused(name):
                        # Noted first: whoever needs it from here on publishes it anew, behind this.
                        self._shelf.cleared(name)
                        await self._session.publish(self._topics.object(name), b"", retain=True)
            except (TemporaryError, PermanentError) as error:
                log.warning("objects that no node uses stay on the broker for now: %s", error)
                await self._clock.sleep(max(self._grace, RETRY_CEILING_SECONDS))
