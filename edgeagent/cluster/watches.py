"""Watches: the objects that match now, then what changes, one stream per operator's call.

Level-triggered like everything else: a change says which object to look at, and what is sent is the
difference between what is and what was sent last. May not know how a stream travels.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.cluster.views import Views
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.hubapi import WatchEvent, WatchParams

Key = tuple[str, str]
Change = Literal["ADDED", "MODIFIED", "DELETED"]


class Watch:
    """One stream, from the moment it is made. ``wake`` is called on every change; one task takes ``events``.

    Raises PermanentError for an unknown kind.
    """

    def __init__(self, params: WatchParams, views: Views) -> None:
        self._params = params
        self._views = views
        self._sent: dict[Key, tuple[str, bytes]] = {}
        self._dirty: dict[Key, None] = {}
        self._woken = asyncio.Event()
        # What exists is looked at now: a change that is asked for after the watch must be seen by it.
        self._first: list[WatchEvent] = []
        for found in self._matching(params.namespace, params.name):
            body = canonical_json(found)
            self._sent[found.metadata.namespace, found.metadata.name] = found.metadata.uid, body
            self._first.append(_event("ADDED", body))

    def _matching(self, namespace: str, name: str) -> list[KubernetesObject]:
        wanted = self._params
        return self._views.select(
            wanted.kind,
            namespace,
            name,
            wanted.labels,
            involved_kind=wanted.involved_kind,
            involved_name=wanted.involved_name,
        )

    def wake(self, kind: str, namespace: str, name: str) -> None:
        """Look at that object again, should it be one to watch."""
        wanted = self._params
        if kind == wanted.kind and wanted.namespace in ("", namespace) and wanted.name in ("", name):
            self._dirty[namespace, name] = None
            self._woken.set()

    async def events(self) -> AsyncGenerator[WatchEvent]:
        """Without end; the caller stops it."""
        while self._first:
            yield self._first.pop(0)
        while True:
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                for event in self._differences(key):
                    yield event
            self._woken.clear()
            await self._woken.wait()

    def _differences(self, key: Key) -> list[WatchEvent]:
        matching = self._matching(*key)
        now = matching[0] if matching else None
        before = self._sent.get(key)
        if now is None:
            if before is None:
                return []
            del self._sent[key]
            return [_event("DELETED", before[1])]
        uid, body = now.metadata.uid, canonical_json(now)
        if before is not None and before[1] == body:
            return []
        self._sent[key] = uid, body
        if before is None:
            return [_event("ADDED", body)]
        if before[0] != uid:
            return [_event("DELETED", before[1]), _event("ADDED", body)]
        return [_event("MODIFIED", body)]


def _event(kind: Change, body: bytes) -> WatchEvent:
    return WatchEvent(type=kind, object=msgspec.Raw(body))
