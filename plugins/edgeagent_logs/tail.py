"""Tail: one container's log, its entries through the rate limit, the joining of lines and the rules."""

import logging
from collections.abc import Mapping
from pathlib import Path
from random import Random

import msgspec

from edgeagent.api.logs import LogTarget
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.entries import EntryParser
from edgeagent_logs.limiter import Limiter
from edgeagent_logs.lines import StreamLines
from edgeagent_logs.pipeline import ChunkBuilder, Pipeline
from edgeagent_logs.position import Ahead, Position
from edgeagent_logs.reader import BLOCK_BYTES, LogReader
from edgeagent_logs.rules import begins_of
from edgeagent_logs.traces import JoinRules, PatternRules, TraceRules

log = logging.getLogger(__name__)

PREFIX_BYTES = 128
"""The most that an entry has before its text."""
NOTICE_SECONDS = 5.0
"""How long what was left out is counted before a record says so."""
RATE_LIMIT = "rate-limit"
_STREAMS = (b"stdout", b"stderr")


class Tail:
    """``turn`` reads at most a block, so that many tails can take turns. ``now`` is monotonic, in seconds.

    ``wall`` is the time of day in nanoseconds, for what has no time of its own. ``from_end``: without a
    position, what is in the log already is passed over.
    """

    def __init__(
        self,
        target: LogTarget,
        config: LogsConfig,
        random: Random,
        *,
        position: Position | None = None,
        from_end: bool = False,
    ) -> None:
        self.path = Path(target.path)
        self._config = config
        self._random = random
        block = max(BLOCK_BYTES, config.max_line_bytes + PREFIX_BYTES)
        self._reader = LogReader(self.path, position, from_end=from_end, block_bytes=block)
        self._pipeline = Pipeline(config, target.origin, random)
        self._limiter = Limiter(config.rate)
        self._parser = EntryParser()
        self._rules = self._join_rules(target)
        self._ahead = {} if position is None else {key.encode(): one for key, one in position.ahead.items()}
        self._chunk = ChunkBuilder()
        self._streams: Mapping[bytes, StreamLines] = {name: self._lines(name.decode()) for name in _STREAMS}
        self._entry_bytes = 100.0
        self._left_out_bytes = 0
        self._left_out_lines = 0.0
        self._notice_due: float | None = None
        self._problem = ""

    def _join_rules(self, target: LogTarget) -> JoinRules:
        multiline = self._config.multiline
        begins = begins_of(multiline.patterns, target.origin)
        return TraceRules(multiline.languages) if begins is None else PatternRules(begins)

    def _lines(self, name: str) -> StreamLines:
        def emit(time: int, text: bytes) -> None:
            self._pipeline.line(self._chunk, time, name, text)

        return StreamLines(name, self._config, self._rules, emit)

    def retarget(self, target: LogTarget) -> None:
        """The same container, with other labels; what comes from here on has them."""
        self._pipeline = Pipeline(self._config, target.origin, self._random)

    @property
    def deadline(self) -> float | None:
        """When ``flush`` is due; None where nothing is held."""
        due = [lines.deadline for lines in self._streams.values()] + [self._notice_due]
        return min((at for at in due if at is not None), default=None)

    def turn(self, chunk: ChunkBuilder, now: float, wall: int) -> bool:
        """Read one block; whether there may be more to read at once."""
        self._chunk = chunk
        try:
            truncations = self._reader.truncations
            data = self._reader.lines()
            if self._reader.truncations != truncations:
                self._finish_lines()  # no position can say that a part of them was in what is gone
            if self._ahead:
                self._forget_ahead()
            if data:
                self._take(data, now, wall)
        except OSError as error:
            self._trouble(error)
            return False
        self._problem = ""
        return data is not None

    def flush(self, chunk: ChunkBuilder, now: float) -> None:
        """Hand out what was held long enough."""
        self._chunk = chunk
        for lines in self._streams.values():
            lines.flush(now)
        if self._notice_due is not None and self._notice_due <= now:
            self._give_notice()

    def finish(self, chunk: ChunkBuilder, now: float, wall: int) -> None:
        """Hand out all that is left, a line without its end too. ``turn`` came to the end of the log."""
        self._chunk = chunk
        try:
            while rest := self._reader.rest():
                self._take(rest, now, wall)
        except OSError as error:
            self._trouble(error)
        self._finish_lines()
        if self._notice_due is not None:
            self._give_notice()

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()

    def position(self) -> str | None:
        """How far records were handed out; None where there was no file yet."""
        reader = self._reader
        if not reader.is_open:
            return None
        marks = {name: lines.since or reader.mark for name, lines in self._streams.items()}
        base = min(*marks.values(), reader.mark)
        ahead = dict(self._ahead)
        for name, mark in marks.items():
            skipping = self._streams[name].skipping
            if name not in ahead and (mark != base or skipping):
                identity = reader.visit(mark[0]).file
                ahead[name] = Ahead(identity.device, identity.inode, mark[1], skipping)
        reader.forget_before(base[0])
        visit = reader.visit(base[0])
        return Position(
            file=visit.file,
            offset=base[1],
            middle=reader.middle and base == reader.mark,
            previous=visit.previous,
            written=visit.written,
            ahead={name.decode(): one for name, one in ahead.items()},
        ).text()

    def _take(self, data: bytes, now: float, wall: int) -> None:
        """Entries to lines. This is what the cost of a line is made of: most lines go straight through."""
        limiter, streams, rules = self._limiter, self._streams, self._rules
        parse, take_line, max_bytes = self._parser.parse, self._pipeline.line, self._config.max_line_bytes
        begins = rules.may_begin(data)
        order, offset = self._reader.mark
        at = 0
        entries = data.split(b"\n")
        entries.pop()  # every entry has an end, after the last of which is nothing
        for entry in entries:
            time, stream, ends, text = parse(entry)
            size = len(entry) + 1
            if time is None:
                time = wall
            if self._ahead and self._was_read(stream, offset + at):
                at += size
                continue
            if not limiter.take(time, size):
                self._reader.advance(at)
                self._leave_out(now, wall)
                return
            lines = streams[stream]
            if ends and lines.idle and len(text) <= max_bytes and not (begins and rules.may_begin(text)):
                take_line(self._chunk, time, lines.name, text)
            else:
                lines.entry(time, text, ends=ends, at=(order, offset + at), now=now)
            at += size
        self._entry_bytes = len(data) / len(entries)
        self._reader.advance(len(data))

    def _was_read(self, stream: bytes, offset: int) -> bool:
        """Whether an entry was handed out before the position was kept; it lies before the stream's own."""
        ahead = self._ahead.get(stream)
        if ahead is None:
            return False
        if not self._reader.is_in(ahead.device, ahead.inode) or offset < ahead.offset:
            return True
        del self._ahead[stream]
        self._streams[stream].resume(skipping=ahead.skipping)
        return False

    def _forget_ahead(self) -> None:
        """A stream's own position in a file that is there no more, or was read to its end, says nothing."""
        for name, ahead in list(self._ahead.items()):
            if self._reader.is_past(ahead.device, ahead.inode):
                del self._ahead[name]
                self._streams[name].resume(skipping=ahead.skipping)

    def _finish_lines(self) -> None:
        for lines in self._streams.values():
            lines.finish()

    def _leave_out(self, now: float, wall: int) -> None:
        """Too much: go on with the newest lines that there is room for; what is before them is not read."""
        offset, data = self._reader.newest_lines(BLOCK_BYTES)
        end = offset + (data.rfind(b"\n") + 1 or len(data))
        self._limiter.refill(self._parser.last_time(data) or wall)
        room = self._limiter.room(self._entry_bytes)
        began = self._reader.mark[1]
        if room < min(self._config.rate.bytes_per_second / 10, BLOCK_BYTES / 2):
            room = 0
        self._reader.skip_to(max(began, end - room))
        if not (left_out := self._reader.mark[1] - began):
            self._limiter.lend()
            return
        for lines in self._streams.values():
            lines.interrupt()
        self._left_out_bytes += left_out
        self._left_out_lines += left_out / self._entry_bytes
        if self._notice_due is None:
            self._notice_due = now + NOTICE_SECONDS

    def _give_notice(self) -> None:
        """A record that says what was left out, in the place where it is missing."""
        count, lines = self._left_out_bytes, round(self._left_out_lines)
        self._left_out_bytes, self._left_out_lines, self._notice_due = 0, 0.0, None
        rate = self._config.rate
        limits = f"{rate.lines_per_second} lines or {rate.bytes_per_second} bytes a second"
        body = f"[{count} bytes, about {lines} lines, were left out: more than {limits}]"
        fields = msgspec.json.encode({"dropped_bytes": count, "dropped_lines": lines})
        place = self._chunk.place(self._pipeline.origin)
        self._chunk.add(self._limiter.at, place, "stderr", body, "warn", fields)
        self._chunk.dropped[RATE_LIMIT] += lines

    def _trouble(self, error: OSError) -> None:
        problem = error.strerror or str(error)
        if problem != self._problem:
            log.warning("%s is not read at the moment: %s", self.path, problem)
        self._problem = problem
