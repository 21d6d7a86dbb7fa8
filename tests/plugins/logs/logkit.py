"""A container's log as conmon writes it, and a source that reads such logs in a test's own time."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from edgeagent.api.logs import LogChunk, LogOrigin, LogTarget
from edgeagent_logs.config import JournalConfig, LogsConfig
from edgeagent_logs.source import NodeLogs

BEGIN = 1_700_000_000
NO_JOURNAL = JournalConfig(agent="")
NO_JOURNAL = JournalConfig(agent="")


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return BEGIN + self.seconds

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Nobody's need."""
        raise AssertionError("a thread does not sleep on a loop")


def stamp(nanoseconds: int) -> str:
    """As conmon writes a time."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}+00:00"


class LogWriter:
    """Writes to a log as the runtime does, and rotates and truncates it as the agent and others do.

    Every entry has a time of its own, a microsecond after the last.
    """

    def __init__(self, path: Path, *, begin: int = BEGIN * 1_000_000_000) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.time = begin
        self._file = path.open("ab", buffering=0)

    def entry(self, text: bytes, *, stream: str = "stdout", tag: str = "F") -> bytes:
        """An entry's bytes, at the next moment."""
        self.time += 1000
        return f"{stamp(self.time)} {stream} {tag} ".encode() + text + b"\n"

    def write(self, *texts: bytes, stream: str = "stdout", tag: str = "F") -> None:
        """Entries, one for each text, at once."""
        self.raw(b"".join(self.entry(text, stream=stream, tag=tag) for text in texts))

    def raw(self, data: bytes) -> None:
        """These very bytes."""
        self._file.write(data)

    def rotate(self, *, keep: int = 5, reopen: bool = True) -> None:
        """Rename ``path`` to ``path.1`` and so on, and go on in a new file unless told otherwise."""
        for number in range(keep - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if reopen:
            self.reopen()

    def reopen(self) -> None:
        """Go on in a new file at ``path``."""
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    def replace(self) -> None:
        """Go on in a new file at ``path``, the old one is gone, as conmon does at its own bound."""
        made = self.path.with_name("ctr.log.tmp")
        self._file.close()
        self._file = made.open("wb", buffering=0)
        made.rename(self.path)

    def truncate(self) -> None:
        """Empty the file in its place."""
        self._file.truncate(0)

    def copy_truncate(self) -> None:
        """Copy the file to ``path.1``, and empty it in its place, as logrotate can."""
        self._numbered(1).write_bytes(self.path.read_bytes())
        self._file.truncate(0)

    def remove(self) -> None:
        """Remove all files."""
        for path in self.path.parent.glob(self.path.name + "*"):
            path.unlink()

    def close(self) -> None:
        """End writing."""
        self._file.close()

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")


def target(
    path: Path,
    name: str = "c1",
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> LogTarget:
    """A container's target; its id is its name."""
    origin = LogOrigin(
        namespace="default", pod=f"pod-{name}", container=name, container_id=name, labels=dict(labels or {})
    )
    return LogTarget(origin=origin, path=str(path), annotations=dict(annotations or {}))


class Reading:
    """A source, and a core that keeps its chunks: what was kept, and from where to go on after a crash."""

    def __init__(self, config: LogsConfig | None = None) -> None:
        self.config = config or LogsConfig(gather_seconds=0, journal=NO_JOURNAL)
        self.clock = Hand()
        self.kept: list[LogChunk] = []
        self.positions: dict[str, str] = {}
        self.targets: list[LogTarget] = []
        self.source = self._new()

    def _new(self) -> NodeLogs:
        def no_program(argv: object) -> object:
            raise FileNotFoundError(2, "No such file or directory")

        source = NodeLogs(self.config, clock=self.clock, random=random.Random(1), start=no_program)  # type: ignore[arg-type]
        source.resume(dict(self.positions))
        return source

    def follow(self, *targets: LogTarget) -> None:
        """Have these followed."""
        self.targets = list(targets)
        self.source.reconcile(self.targets)

    def read(self, wait: float = 0.0) -> LogChunk:
        """One chunk, kept as the core does it."""
        chunk = self.source.read(wait)
        self.keep(chunk)
        return chunk

    def keep(self, chunk: LogChunk) -> None:
        """The core's transaction."""
        self.kept.append(chunk)
        for key, text in chunk.positions.items():
            if text:
                self.positions[key] = text
            else:
                self.positions.pop(key, None)

    def read_all(self) -> list[str]:
        """All chunks that there are now; the bodies in them."""
        bodies: list[str] = []
        while records := self.read().batch.records:
            bodies += [record.body for record in records]
        return bodies

    def crash(self) -> None:
        """The agent ends without a word, and starts again from what was kept."""
        self.source.close()
        self.source = self._new()
        if self.targets:
            self.source.reconcile(self.targets)

    def close(self) -> None:
        """Give the source back."""
        self.source.close()

    def bodies(self, container: str = "c1", stream: str | None = None) -> list[str]:
        """All that was kept of a container, in order."""
        return [
            record.body
            for chunk in self.kept
            for record in chunk.batch.records
            if chunk.batch.origins[record.origin].container == container and stream in (None, record.stream)
        ]
