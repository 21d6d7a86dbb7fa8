"""From the entries of a stream of a container to records: parts of lines joined, and lines that are one.

Nothing here crosses a stream. What is held is bounded in bytes, in lines and in time, and ``since`` says
where in the log it begins, so that a position never passes what was not handed out.
"""

from collections.abc import Callable

from edgeagent_logs.config import LogsConfig
from edgeagent_logs.reader import Mark
from edgeagent_logs.traces import JoinRules

CUT = b"\xe2\x80\xa6 [cut]"
"""Put after the beginning of a line that was too long, where the rest is left out."""
PART_SECONDS = 30.0
"""A line without its end is taken as it is after so long without more of it."""

Emit = Callable[[int, bytes], None]
"""Takes a record: its time in nanoseconds, and its text."""


class StreamLines:
    """Takes entries in their order, and emits records. ``idle``: nothing is held and nothing is skipped.

    ``deadline`` is when what is held must go (monotonic seconds), None where nothing is.
    """

    def __init__(self, name: str, config: LogsConfig, rules: JoinRules, emit: Emit) -> None:
        self.name = name
        self._rules = rules
        self._emit = emit
        self._max_bytes = config.max_line_bytes
        self._max_lines = config.multiline.max_lines
        self._timeout = config.multiline.timeout_seconds
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._parts_time = 0
        self._parts_since: Mark = (0, 0)
        self._parts_deadline = 0.0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_time = 0
        self._held_since: Mark = (0, 0)
        self._held_deadline = 0.0
        self._state: str | None = None
        self.skipping = False
        self.idle = True

    @property
    def since(self) -> Mark | None:
        """Where what was not emitted yet begins; None where all was."""
        if self._held:
            return self._held_since
        return self._parts_since if self._parts else None

    @property
    def deadline(self) -> float | None:
        """When ``flush`` is due."""
        due = [
            at
            for at, holds in ((self._held_deadline, self._held), (self._parts_deadline, self._parts))
            if holds
        ]
        return min(due, default=None)

    def entry(self, time: int, text: bytes, *, ends: bool, at: Mark, now: float) -> None:
        """The next entry of the stream: a part of a line, or its end."""
        if self.skipping:
            self.skipping = not ends
            self._settle()
            return
        if not self._parts:
            self._parts_time, self._parts_since = time, at
        self._parts.append(text)
        self._parts_bytes += len(text)
        if ends or self._parts_bytes > self._max_bytes:
            self._line(ends, now)
        else:
            self._parts_deadline = now + PART_SECONDS
        self._settle()

    def resume(self, *, skipping: bool) -> None:
        """Begin where a stream was left; ``skipping``: in the rest of a line that was cut."""
        self.skipping = skipping
        self._settle()

    def flush(self, now: float) -> None:
        """Emit what is due at ``now``."""
        if self._parts and self._parts_deadline <= now:
            self._line(True, now)
        if self._held and self._held_deadline <= now:
            self._release()
        self._settle()

    def interrupt(self) -> None:
        """Emit all that is held: what comes next is not what followed it. A line that has begun is cut."""
        if self._parts:
            self._line(True, 0.0, cut=True)
            self.skipping = True
        self._release()
        self._settle()

    def finish(self) -> None:
        """Emit all that is held: nothing follows it."""
        if self._parts:
            self._line(True, 0.0)
        self._release()
        self.skipping = False
        self._settle()

    def _settle(self) -> None:
        self.idle = not (self._held or self._parts or self.skipping)

    def _line(self, ends: bool, now: float, *, cut: bool = False) -> None:
        text = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        time, since = self._parts_time, self._parts_since
        self._parts, self._parts_bytes = [], 0
        if cut or len(text) > self._max_bytes:
            self._release()
            self.skipping = not ends
            self._emit(time, text[: self._max_bytes] + CUT)
            return
        state = self._rules.step(self._state, text) if self._state is not None else None
        if state is None:
            self._release()
            state = self._rules.begin(text)
            if state is None:
                self._emit(time, text)
                return
            self._held_time, self._held_since = time, since
        elif self._held_bytes + len(text) > self._max_bytes:
            self._release()
            self._held_time, self._held_since = time, since
        self._state = state
        self._held.append(text)
        self._held_bytes += len(text) + 1
        self._held_deadline = now + self._timeout
        if len(self._held) >= self._max_lines:
            self._release()

    def _release(self) -> None:
        if self._held:
            held, self._held, self._held_bytes, self._state = self._held, [], 0, None
            self._emit(self._held_time, held[0] if len(held) == 1 else b"\n".join(held))
