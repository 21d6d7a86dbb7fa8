"""Tails: all containers' logs, which take turns, so that none waits for another that has much to say."""

import logging
from collections.abc import Iterable, Mapping
from random import Random

from edgeagent.api.logs import LogTarget
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.news import LogNews
from edgeagent_logs.pipeline import ChunkBuilder
from edgeagent_logs.position import TURNED_OFF, Position, parse_position
from edgeagent_logs.tail import Tail

log = logging.getLogger(__name__)

ANNOTATION = "edgeagent.io/logs"
KEY_PREFIX = "container/"


class Tails:
    """Follows what ``reconcile`` was told last. ``positions`` are those kept, by ``container/<id>``."""

    def __init__(
        self, config: LogsConfig, random: Random, news: LogNews, positions: Mapping[str, str]
    ) -> None:
        self._config = config
        self._random = random
        self._news = news
        self._kept = {key: text for key, text in positions.items() if key.startswith(KEY_PREFIX)}
        self._tails: dict[str, Tail] = {}
        self._targets: dict[str, LogTarget] = {}
        self._ready: dict[str, None] = {}
        self._ending: set[str] = set()
        self._holding: set[str] = set()
        self._changed: dict[str, str] = {}
        self._dirty: set[str] = set()
        self._reconciled = False

    @property
    def has_more(self) -> bool:
        """Whether there is something that ``round`` could read at once."""
        return bool(self._ready)

    @property
    def has_progress(self) -> bool:
        """Whether ``positions`` may say something new."""
        return bool(self._dirty or self._changed)

    @property
    def deadline(self) -> float | None:
        """When ``flush`` is due (monotonic seconds)."""
        due = (self._tails[key].deadline for key in self._holding)
        return min((at for at in due if at is not None), default=None)

    def wake(self, keys: Iterable[str]) -> None:
        """There may be something new in these."""
        self._ready.update((key, None) for key in keys if key in self._tails)

    def reconcile(self, targets: Iterable[LogTarget]) -> None:
        """The containers to follow from now on."""
        wanted = {KEY_PREFIX + target.origin.container_id: target for target in targets}
        for key, target in wanted.items():
            if target.annotations.get(ANNOTATION) == "off":
                self._turn_off(key)
            else:
                self._follow(key, target)
        for key in self._tails.keys() - wanted.keys():
            self._ending.add(key)
            self._ready[key] = None
        for key in self._kept.keys() - wanted.keys() - self._tails.keys():
            self._changed[key] = ""
        self._reconciled = True

    def round(self, chunk: ChunkBuilder, now: float, wall: int) -> None:
        """A turn for each that has something, as long as there is room in the chunk."""
        for _ in range(len(self._ready)):
            if chunk.is_full:
                return
            key = next(iter(self._ready))
            del self._ready[key]
            tail = self._tails[key]
            self._dirty.add(key)
            if tail.turn(chunk, now, wall):
                self._ready[key] = None
            elif key in self._ending:
                tail.finish(chunk, now, wall)
                self._drop(key)
                self._changed[key] = ""
                continue
            self._mind(key, tail)

    def flush(self, chunk: ChunkBuilder, now: float) -> None:
        """Hand out what was held long enough."""
        for key in list(self._holding):
            tail = self._tails[key]
            if (due := tail.deadline) is not None and due <= now:
                tail.flush(chunk, now)
                self._dirty.add(key)
            self._mind(key, tail)

    def positions(self) -> dict[str, str]:
        """What has changed of the positions since they were asked for last."""
        changed, self._changed = self._changed, {}
        for key in self._dirty:
            text = self._tails[key].position()
            if text is not None and text != self._kept.get(key):
                changed[key] = text
        self._dirty.clear()
        for key, text in changed.items():
            if text:
                self._kept[key] = text
            else:
                self._kept.pop(key, None)
        return changed

    def close(self) -> None:
        """Give all files back."""
        for key in list(self._tails):
            self._drop(key)

    def _follow(self, key: str, target: LogTarget) -> None:
        self._ending.discard(key)
        before = self._targets.get(key)
        if before == target:
            return
        self._targets[key] = target
        if before is not None and before.path == target.path:
            self._tails[key].retarget(target)
            return
        if before is not None:
            self._drop(key)
            self._targets[key] = target
        kept = self._kept.get(key)
        passed_over = self._config.new_containers == "end" and not self._reconciled
        self._tails[key] = Tail(
            target,
            self._config,
            self._random,
            position=self._position(key, kept),
            from_end=kept == TURNED_OFF or (kept is None and passed_over),
        )
        self._news.follow(key, self._tails[key].path)
        self._ready[key] = None

    def _position(self, key: str, kept: str | None) -> Position | None:
        if kept is None or kept == TURNED_OFF:
            return None
        try:
            return parse_position(kept)
        except ValueError as error:
            log.warning("the log of %s is read from its beginning: %s", key, error)
            return None

    def _turn_off(self, key: str) -> None:
        self._drop(key)
        if self._kept.get(key) != TURNED_OFF:
            self._changed[key] = TURNED_OFF

    def _mind(self, key: str, tail: Tail) -> None:
        """Whether the tail holds something that has a deadline."""
        if tail.deadline is None:
            self._holding.discard(key)
        else:
            self._holding.add(key)

    def _drop(self, key: str) -> None:
        tail = self._tails.pop(key, None)
        if tail is not None:
            tail.close()
            self._news.leave(key)
        self._targets.pop(key, None)
        self._ready.pop(key, None)
        self._ending.discard(key)
        self._holding.discard(key)
        self._dirty.discard(key)
