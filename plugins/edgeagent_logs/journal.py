"""Journal: messages of chosen units of systemd, from ``journalctl --follow`` as a child.

python3-systemd would be one more dependency, for what a program that every systemd has does; a child costs
nothing while no unit is chosen. https://www.freedesktop.org/software/systemd/man/latest/journalctl.html
"""

import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from random import Random
from typing import IO, Any, Protocol

import msgspec

from edgeagent.api.logs import LogOrigin
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.lines import CUT
from edgeagent_logs.pipeline import ChunkBuilder, Pipeline
from edgeagent_logs.severity import of_priority

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
MAX_ENTRY_BYTES = 2 * 1024 * 1024
"""An entry of more is passed over."""
FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_PID,_SYSTEMD_UNIT,UNIT,_COMM,CODE_FILE,CODE_LINE,MESSAGE_ID"
SAID_BYTES = 4096
AGAIN_SECONDS = 5.0
LATEST_SECONDS = 600.0
_KEPT = ("SYSLOG_IDENTIFIER", "_PID", "_COMM", "CODE_FILE", "CODE_LINE", "MESSAGE_ID")
_decoder = msgspec.json.Decoder(dict[str, Any])


class Child(Protocol):
    """A running ``journalctl``: as ``subprocess.Popen`` has it."""

    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def poll(self) -> int | None:
        """The exit status; None while it runs."""

    def kill(self) -> None:
        """End it."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended."""


Start = Callable[[Sequence[str]], Child]
"""Starts a program with these arguments, its output piped."""


def start_program(argv: Sequence[str]) -> Child:
    """As ``Start`` says. FileNotFoundError where there is no such program."""
    pipe = subprocess.PIPE
    return subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


class Journal:
    """``cursor`` is the position: that of the last entry handed out, empty before the first.

    Without one, what is in the journal of this boot is read. Where there is no journal that is told once, and
    looked at again more and more rarely.
    """

    def __init__(self, config: LogsConfig, random: Random, start: Start = start_program) -> None:
        units = [config.journal.agent, *config.journal.units]
        self._units = [unit for unit in dict.fromkeys(units) if unit]
        self._config = config
        self._random = random
        self._start = start
        self._child: Child | None = None
        self._buffer = bytearray()
        self._oversized = False
        self._pipelines: dict[str, Pipeline] = {}
        self._again = AGAIN_SECONDS
        self._told = ""
        self._said = b""
        self.cursor = ""
        self.start_at: float | None = 0.0 if self._units else None

    @property
    def descriptors(self) -> list[int]:
        """Readable where there are entries or complaints, or where the child has ended."""
        if self._child is None:
            return []
        pipes = (self._child.stdout, self._child.stderr)
        return [pipe.fileno() for pipe in pipes if pipe is not None and not pipe.closed]

    def open(self, now: float) -> None:
        """Start the child, which is due: ``start_at`` has come (monotonic seconds)."""
        self.start_at = None
        where = ["--after-cursor", self.cursor] if self.cursor else ["--boot"]
        units = [word for unit in self._units for word in ("--unit", unit)]
        argv = ["journalctl", "--follow", "--no-tail", "--quiet", "--all", "--output", "json"]
        try:
            self._child = self._start([*argv, "--output-fields", FIELDS, *where, *units])
        except OSError as error:
            self._failed(f"journalctl cannot be started: {error.strerror}", now)
            return
        for descriptor in self.descriptors:
            os.set_blocking(descriptor, False)

    def read(self, chunk: ChunkBuilder, now: float) -> bool:
        """Take what the child wrote, at most a block; whether there may be more."""
        if self._child is None or self._child.stdout is None:
            return False
        self._hear(self._child)
        try:
            data = os.read(self._child.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._ended(now)
            return False
        *lines, rest = (bytes(self._buffer) + data).split(b"\n")
        self._buffer[:] = rest
        for line in lines:
            if self._oversized:
                self._oversized = False
                continue
            self._entry(chunk, line)
        if len(self._buffer) > MAX_ENTRY_BYTES:
            self._buffer.clear()
            self._oversized = True
        return True

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        self._buffer.clear()
        self._oversized = False
        self._said = b""

    def _hear(self, child: Child) -> None:
        """Take what the child complains of, whose end is kept: a pipe that nobody reads would stop it."""
        if child.stderr is None or child.stderr.closed:
            return
        try:
            while data := os.read(child.stderr.fileno(), READ_BYTES):
                self._said = (self._said + data)[-SAID_BYTES:]
        except BlockingIOError:
            return
        child.stderr.close()

    def _entry(self, chunk: ChunkBuilder, line: bytes) -> None:
        try:
            entry = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        cursor = entry.get("__CURSOR")
        if not isinstance(cursor, str):
            return
        self._again = AGAIN_SECONDS
        self._told = ""
        self.cursor = cursor
        text = _bytes(entry.get("MESSAGE"))
        if text is None:
            return
        if len(text) > self._config.max_line_bytes:
            text = text[: self._config.max_line_bytes] + CUT
        # What systemd says of a unit is systemd's own, and names the unit in UNIT.
        unit = _text(entry.get("UNIT")) or _text(entry.get("_SYSTEMD_UNIT"))
        fields = {key: value for key in _KEPT if isinstance(value := entry.get(key), str)}
        micros = _text(entry.get("__REALTIME_TIMESTAMP"))
        time = int(micros) * 1000 if micros.isdecimal() and len(micros) < 17 else 0
        severity = of_priority(_text(entry.get("PRIORITY")))
        body = text.decode("utf-8", "replace").rstrip("\n")
        self._pipeline(unit).record(chunk, time, "journal", body, severity, fields)

    def _pipeline(self, unit: str) -> Pipeline:
        if unit not in self._pipelines:
            if len(self._pipelines) > 1000:
                self._pipelines.clear()
            self._pipelines[unit] = Pipeline(self._config, LogOrigin(unit=unit), self._random)
        return self._pipelines[unit]

    def _ended(self, now: float) -> None:
        child = self._child
        assert child is not None
        child.kill()  # it has closed its output, and may be there still
        child.wait()
        self._hear(child)
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        self.close()
        self._failed(lines[-1] if lines else "journalctl has ended", now)

    def _failed(self, problem: str, now: float) -> None:
        if problem != self._told:
            log.warning("the journal is not read at the moment: %s", problem)
        self._told = problem
        self.start_at = now + self._again
        self._again = min(self._again * 2, LATEST_SECONDS)


def _bytes(value: object) -> bytes | None:
    """A field as journalctl has it: text, a list of bytes where it is not UTF-8, or the last of several."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list) and value:
        if all(isinstance(one, int) and 0 <= one < 256 for one in value):
            return bytes(value)
        return _bytes(value[-1])
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
