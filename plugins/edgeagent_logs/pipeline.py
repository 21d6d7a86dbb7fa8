"""From a line of a container or unit to a record: taken apart, given a severity, and through the rules."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from edgeagent.api.logs import LogBatch, LogChunk, LogOrigin, LogRecord, Severity
from edgeagent_logs import severity, structured
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.rules import Draft, Step, steps_for

CHUNK_BYTES = 384 * 1024
"""A chunk with so much text is handed out."""
CHUNK_RECORDS = 4096
RECORD_BYTES = 64
"""What a record counts beside its text."""


class ChunkBuilder:
    """The chunk that is being made: records, whose they are, and what was left out on the way."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._origins: list[LogOrigin] = []
        self.records: list[LogRecord] = []
        self.dropped: Counter[str] = Counter()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be handed out."""
        return self._bytes >= CHUNK_BYTES or len(self.records) >= CHUNK_RECORDS

    def place(self, origin: LogOrigin) -> int:
        """The place of ``origin`` among the chunk's; the same object has one place."""
        place = self._places.get(id(origin))
        if place is None:
            place = self._places[id(origin)] = len(self._origins)
            self._origins.append(origin)  # held from here on: its id is nobody else's
        return place

    def add(
        self, time: int, place: int, stream: str, body: str, severity: Severity, fields: bytes = b""
    ) -> None:
        """One more record."""
        self.records.append(LogRecord(time, place, stream, body, severity, fields))
        self._bytes += len(body) + len(fields) + RECORD_BYTES

    def chunk(self, positions: dict[str, str]) -> LogChunk:
        """All of it, with how far was read."""
        batch = LogBatch(origins=self._origins, records=self.records)
        return LogChunk(batch=batch, positions=positions, dropped=dict(self.dropped))


class Pipeline:
    """For the lines of one ``origin``."""

    def __init__(self, config: LogsConfig, origin: LogOrigin, random: Random) -> None:
        self.origin = origin
        self._parse_json = config.parse_json
        self._steps: Sequence[Step] = steps_for(config.rules, origin, random)

    def line(self, chunk: ChunkBuilder, time: int, stream: str, text: bytes) -> None:
        """A line of a container, of any bytes, or several with line ends between them."""
        if text[-1:] == b"\r":
            text = text[:-1]
        body = text.decode("utf-8", "replace")
        if self._parse_json and text[:1] == b"{" and (parsed := structured.parse(text)) is not None:
            said = body if parsed.body is None else parsed.body
            grave = severity.of_text(said) if parsed.severity is None else parsed.severity
            at = time if parsed.time is None else parsed.time
            self.record(chunk, at, stream, said, grave, parsed.fields)
        elif not self._steps:
            chunk.add(time, chunk.place(self.origin), stream, body, severity.of_text(body))
        else:
            self.record(chunk, time, stream, body, severity.of_text(body), {})

    def record(
        self, chunk: ChunkBuilder, time: int, stream: str, body: str, grave: Severity, fields: dict[str, Any]
    ) -> None:
        """What is known of a record already, through the rules."""
        if self._steps:
            draft = Draft(stream, body, grave, fields)
            for step in self._steps:
                if why := step(draft):
                    chunk.dropped[why] += 1
                    return
            body, grave, fields = draft.body, draft.severity, draft.fields
        encoded = msgspec.json.encode(fields) if fields else b""
        chunk.add(time, chunk.place(self.origin), stream, body, grave, encoded)
