"""PodNews: who waits for something of a pod to change is woken."""

import asyncio
import contextlib
from collections.abc import Iterator


class PodNews:
    """Events of those who look at pods, by the pods' uids."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def of(self, uid: str) -> Iterator[asyncio.Event]:
        """Meanwhile the event is set whenever something of the pod may have changed; it is the caller's to
        clear.
        """
        event = asyncio.Event()
        self._events.setdefault(uid, set()).add(event)
        try:
            yield event
        finally:
            self._events[uid].discard(event)
            if not self._events[uid]:
                del self._events[uid]

    def tell(self, uid: str) -> None:
        """Something of the pod may have changed."""
        for event in self._events.get(uid, ()):
            event.set()
