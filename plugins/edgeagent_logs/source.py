"""The source: all containers' logs and the journal, read by the one thread that is in ``read``."""

import contextlib
import os
import select
import threading
from random import Random

from edgeagent.api.clock import Clock, SystemClock
from edgeagent.api.logs import LogChunk, LogTarget
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.journal import Journal, Start, start_program
from edgeagent_logs.news import LogNews
from edgeagent_logs.pipeline import ChunkBuilder
from edgeagent_logs.tails import Tails

JOURNAL_KEY = "journal"
UNKEPT_SECONDS = 60.0
"""Positions that no record came of, as rules left all out, are handed out so often only: it is a write."""
UNWATCHED_SECONDS = 5.0
HELD_SECONDS = 0.25
"""How long a record waits for more of them while there is always something to read."""


class NodeLogs:
    """``edgeagent.api.logs.LogSource``. ``start`` starts programs.

    It sleeps until the kernel tells of something new, then for ``gather_seconds`` so that more of it comes
    together in one chunk, and reads all there is. A writer that never pauses wakes it no oftener.
    """

    def __init__(
        self,
        config: LogsConfig,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        start: Start = start_program,
    ) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._random = random or Random()  # noqa: S311 - which lines are a sample is no secret
        self._start = start
        self._reading = threading.Lock()
        self._telling = threading.Lock()
        self._told_positions: dict[str, str] | None = None
        self._told_targets: list[LogTarget] | None = None
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._news: LogNews | None = None
        self._tails: Tails | None = None
        self._journal: Journal | None = None
        self._kept_cursor = ""
        self._unkept_since: float | None = None

    def resume(self, positions: dict[str, str]) -> None:
        """Go on from these; a call of ``read`` that is under way ends with nothing."""
        with self._telling:
            self._told_positions = positions
            self._told_targets = None
        os.eventfd_write(self._told, 1)

    def reconcile(self, targets: list[LogTarget]) -> None:
        """The containers to follow."""
        with self._telling:
            self._told_targets = targets
        os.eventfd_write(self._told, 1)

    def read(self, wait_seconds: float) -> LogChunk:
        """What there is."""
        with self._reading:
            with self._telling:
                positions, self._told_positions = self._told_positions, None
            if positions is not None:
                self._begin(positions)
            if self._tails is None or self._news is None or self._journal is None:
                raise RuntimeError("resume comes before read")
            return self._read(self._tails, self._news, self._journal, wait_seconds)

    def close(self) -> None:
        """Give everything back; nothing is called after this."""
        with self._reading:
            self._end()
        os.close(self._told)

    def _begin(self, positions: dict[str, str]) -> None:
        self._end()
        self._news = LogNews()
        self._tails = Tails(self._config, self._random, self._news, positions)
        self._journal = Journal(self._config, self._random, self._start)
        self._journal.cursor = self._kept_cursor = positions.get(JOURNAL_KEY, "")
        self._unkept_since = None

    def _end(self) -> None:
        for part in (self._tails, self._news, self._journal):
            if part is not None:
                part.close()
        self._tails = self._news = self._journal = None

    def _read(self, tails: Tails, news: LogNews, journal: Journal, wait_seconds: float) -> LogChunk:
        chunk = ChunkBuilder()
        end = self._clock.monotonic() + wait_seconds
        held_since: float | None = None
        while True:
            with self._telling:
                if self._told_positions is not None:
                    return LogChunk()  # whatever was read is read again, from there
                targets, self._told_targets = self._told_targets, None
            if targets is not None:
                tails.reconcile(targets)
            tails.wake(news.take())
            now, wall = self._clock.monotonic(), int(self._clock.now() * 1_000_000_000)
            tails.round(chunk, now, wall)
            tails.flush(chunk, now)
            more = self._read_journal(journal, chunk, now) or tails.has_more
            if chunk.records and held_since is None:
                held_since = now
            held = now - held_since if held_since is not None else 0.0
            # A writer whose lines are all left out is never done, and may not hold up another's.
            if chunk.is_full or (chunk.records and (not more or held >= HELD_SECONDS)):
                break
            if more:
                continue
            if now >= self._unkept_due(tails, journal, now):
                break
            if now >= end:
                return chunk.chunk({})
            self._wait(tails, news, journal, end, now)
        self._unkept_since = None
        positions = tails.positions()
        if journal.cursor != self._kept_cursor:
            positions[JOURNAL_KEY] = self._kept_cursor = journal.cursor
        return chunk.chunk(positions)

    def _read_journal(self, journal: Journal, chunk: ChunkBuilder, now: float) -> bool:
        if journal.start_at is not None and journal.start_at <= now:
            journal.open(now)
        return not chunk.is_full and journal.read(chunk, now)

    def _unkept_due(self, tails: Tails, journal: Journal, now: float) -> float:
        """When what was read has to be handed out although no record came of it."""
        if not tails.has_progress and journal.cursor == self._kept_cursor:
            return float("inf")
        if self._unkept_since is None:
            self._unkept_since = now
        return self._unkept_since + UNKEPT_SECONDS

    def _wait(self, tails: Tails, news: LogNews, journal: Journal, end: float, now: float) -> None:
        """Until there is something to do, at most until ``end``."""
        due = [end, self._unkept_due(tails, journal, now)]
        due += [at for at in (tails.deadline, journal.start_at) if at is not None]
        if news.unwatched:
            due.append(now + UNWATCHED_SECONDS)
        with select.epoll() as waiting:
            waiting.register(self._told, select.EPOLLIN)
            told = waiting.poll(0)
            waiting.register(news.descriptor, select.EPOLLIN)
            for descriptor in journal.descriptors:
                waiting.register(descriptor, select.EPOLLIN)
            ready = {descriptor for descriptor, _ in told or waiting.poll(max(0.0, min(due) - now))}
            if ready and self._told not in ready:
                waiting.unregister(news.descriptor)
                for descriptor in journal.descriptors:
                    waiting.unregister(descriptor)
                waiting.poll(max(0.0, min(self._config.gather_seconds, end - now)))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._told)
        if not ready:
            tails.wake(news.unwatched)
