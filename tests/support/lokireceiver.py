"""What Loki checks in a push, and what it keeps of it.

https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs and the limits of
https://grafana.com/docs/loki/latest/configure/#limits_config
"""

import json
import re
from typing import Any

from tests.support.httpreceiver import Answer, ApiError, HttpReceiver, Request

_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
_TOO_FAR_BEHIND = 3600 * 10**9

Entry = tuple[int, str]


class LokiReceiver(HttpReceiver):
    """``streams``: what each has, by its labels; ``metadata``: what was said with an entry.

    Entries of more than an hour before the newest of their stream are refused, as Loki's are, and those with
    ``poison`` in their line; the others of the request are taken all the same.
    """

    max_line = 256 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
        self.metadata: dict[Entry, dict[str, str]] = {}
        self.tenants: list[str | None] = []

    def lines(self) -> list[str]:
        """Every line, by stream and in the order in which it came."""
        return [line for entries in self.streams.values() for _, line in entries]

    def refuse(self, problem: str) -> Answer:
        """Loki answers in plain text."""
        return Answer(400, problem.encode(), {"Content-Type": "text/plain; charset=utf-8"})

    def serve(self, request: Request) -> Answer:
        """One push."""
        if request.path != "/loki/api/v1/push":
            raise ApiError(f"path {request.path}")
        self.tenants.append(request.headers.get("x-scope-orgid"))
        body = json.loads(request.body)
        if not isinstance(body, dict) or body.keys() != {"streams"} or not body["streams"]:
            raise ApiError("expected streams, and nothing else")
        problems: list[str] = []
        for stream in body["streams"]:
            self._stream(stream, problems)
        if problems:
            text = "entry for stream '{}' has an error: " + "; ".join(problems[:10])
            return Answer(400, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
        return Answer(204)

    def _stream(self, stream: dict[str, Any], problems: list[str]) -> None:
        if stream.keys() != {"stream", "values"}:
            raise ApiError(f"unknown fields of a stream: {sorted(stream)}")
        labels = stream["stream"]
        if not 0 < len(labels) <= 15:
            raise ApiError(f"{len(labels)} labels")
        for name, value in labels.items():
            if not _LABEL.match(name) or name.startswith("__") or len(name) > 1024:
                raise ApiError(f"label name {name!r}")
            if not isinstance(value, str) or not value or len(value.encode()) > 2048:
                raise ApiError(f"value of label {name}: {value!r}")
        entries = self.streams.setdefault(tuple(sorted(labels.items())), [])
        newest = max((time for time, _ in entries), default=0)
        for value in stream["values"]:
            time, line = self._entry(value)
            if "poison" in line:
                problems.append("invalid structured metadata")
            elif time < newest - _TOO_FAR_BEHIND:
                problems.append(f"entry too far behind, entry timestamp is: {time}")
            elif (time, line) not in entries:
                entries.append((time, line))
                newest = max(newest, time)

    def _entry(self, value: Any) -> Entry:
        if not isinstance(value, list) or len(value) not in (2, 3):
            raise ApiError(f"an entry of {len(value)} values")
        time, line, *metadata = value
        if not isinstance(time, str) or not time.isascii() or not time.isdigit() or int(time) >= 2**63:
            raise ApiError(f"time {time!r}")
        if not isinstance(line, str) or len(line.encode()) > self.max_line:
            raise ApiError("a line that is no text, or too long")
        for one in metadata:
            if not isinstance(one, dict) or not 0 < len(one) <= 128:
                raise ApiError("structured metadata")
            for name, text in one.items():
                if not _LABEL.match(name) or not isinstance(text, str) or not text:
                    raise ApiError(f"structured metadata {name!r}: {text!r}")
            self.metadata[int(time), line] = one
        return int(time), line
