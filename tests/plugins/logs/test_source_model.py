"""Containers that write, files that are rotated and emptied, an agent that dies at any moment, and a model.

Every line is handed out once, and those of a stream in their order, also what came while nobody looked.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent_logs.config import LogsConfig, MultilineConfig, RateConfig
from tests.plugins.logs.logkit import NO_JOURNAL, LogWriter, Reading, target

CONTAINERS = ("a", "b", "c")
STREAMS = ("stdout", "stderr")
KEEP = 4
MAX_BYTES = 1024
CONFIG = LogsConfig(
    gather_seconds=0,
    journal=NO_JOURNAL,
    max_line_bytes=MAX_BYTES,
    rate=RateConfig(lines_per_second=1_000_000, bytes_per_second=1_000_000_000),
    multiline=MultilineConfig(max_lines=4),
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            b"",
            b"plain",
            b"Traceback (most recent call last):",
            b'  File "x.py", line 1, in f',
            b"ValueError: bad",
            b"java.lang.IllegalStateException: no",
            b"\tat com.example.Main.main(Main.java:1)",
            b"Caused by: java.io.IOException: gone",
            b"panic: boom",
            b"goroutine 1 [running]:",
        ]
    ),
    st.integers(1000, 1100).map(lambda size: b"l" * size),
)


class Container:
    """What one container wrote, as lines: each has a number, so that no two are the same."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.writer = LogWriter(folder / name / "ctr.log")
        self.lines: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        self.begun: dict[str, bytes] = {}
        self.half = b""
        self.files_unread = 0

    def numbered(self, text: bytes) -> bytes:
        """Put a number at the end of a line, where no pattern looks."""
        total = sum(map(len, self.lines.values()))
        return text + b" #%d" % total

    def end(self, stream: str, text: bytes) -> None:
        """The end of a line was written, or the whole of one."""
        self.part(stream, text)
        whole = self.begun.pop(stream)
        if len(whole) <= MAX_BYTES:
            self.lines[stream].append(whole.decode())

    def part(self, stream: str, text: bytes) -> None:
        """A part of a line was written; one that is too long by then comes out at once."""
        before = self.begun.get(stream, b"")
        self.begun[stream] = whole = before + text
        if len(before) <= MAX_BYTES < len(whole):
            self.lines[stream].append(whole[:MAX_BYTES].decode() + "… [cut]")


class Node(RuleBasedStateMachine):
    """Three containers and an agent."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="edge-logs-"))
        self.reading = Reading(CONFIG)
        self.containers = {name: Container(self.folder, name) for name in CONTAINERS}
        self.follow_all()

    def follow_all(self) -> None:
        """Have all followed."""
        self.reading.follow(*(target(one.writer.path, one.name) for one in self.containers.values()))

    @rule(name=st.sampled_from(CONTAINERS), stream=st.sampled_from(STREAMS), text=TEXTS)
    def write_line(self, name: str, stream: str, text: bytes) -> None:
        """A line at once."""
        one = self.containers[name]
        self.end_half(one)
        text = one.numbered(text)
        one.writer.write(text, stream=stream)
        one.end(stream, text)

    @rule(name=st.sampled_from(CONTAINERS), stream=st.sampled_from(STREAMS), size=st.integers(0, 700))
    def write_part(self, name: str, stream: str, size: int) -> None:
        """A part of a line, as of a program that has not ended it."""
        one = self.containers[name]
        self.end_half(one)
        one.writer.write(b"p" * size, stream=stream, tag="P")
        one.part(stream, b"p" * size)

    @rule(name=st.sampled_from(CONTAINERS), stream=st.sampled_from(STREAMS), cut=st.floats(0.01, 0.99))
    def write_half_an_entry(self, name: str, stream: str, cut: float) -> None:
        """What a reader sees that comes in between."""
        one = self.containers[name]
        self.end_half(one)
        text = one.numbered(b"half")
        entry = one.writer.entry(text, stream=stream)
        at = max(1, int(len(entry) * cut))
        one.writer.raw(entry[:at])
        one.half = entry[at:]
        one.end(stream, text)

    @rule(name=st.sampled_from(CONTAINERS), count=st.integers(1, 400))
    def write_many(self, name: str, count: int) -> None:
        """More than a block."""
        one = self.containers[name]
        self.end_half(one)
        self.end_lines(one)
        texts = []
        for _ in range(count):
            text = one.numbered(b"many" * 20)
            texts.append(text)
            one.end("stdout", text)
        one.writer.write(*texts)

    def end_half(self, one: Container) -> None:
        """Write the rest of an entry."""
        one.writer.raw(one.half)
        one.half = b""

    def end_lines(self, one: Container) -> None:
        """End the lines of which parts are written."""
        for stream in list(one.begun):
            text = one.numbered(b"end")
            one.writer.write(text, stream=stream)
            one.end(stream, text)

    @precondition(lambda self: any(one.files_unread < KEEP - 1 for one in self.containers.values()))
    @rule(data=st.data(), reopen_late=st.booleans())
    def rotate(self, data: st.DataObject, reopen_late: bool) -> None:
        """As the agent does it, with the runtime's pause before it goes on in a new file."""
        names = [name for name, one in self.containers.items() if one.files_unread < KEEP - 1]
        one = self.containers[data.draw(st.sampled_from(names))]
        one.writer.rotate(keep=KEEP, reopen=False)
        if reopen_late:
            self.reading.read_all()
        self.end_half(one)
        one.writer.reopen()
        one.files_unread += 1

    @rule(name=st.sampled_from(CONTAINERS), copy=st.booleans())
    def truncate(self, name: str, copy: bool) -> None:
        """Of a log of which no line is half read, and all but what a copy has was handed out."""
        one = self.containers[name]
        self.end_half(one)
        self.end_lines(one)
        if copy and not one.writer.path.with_name("ctr.log.1").exists():
            self.write_line(name, "stdout", b"the beginning, which tells one file from another")
            self.read_all()
            for _ in range(3):
                self.write_line(name, "stdout", b"only in the copy")
            one.writer.copy_truncate()
        else:
            self.read_and_release()
            one.writer.truncate()
        self.read_and_release()

    @rule()
    def read_one(self) -> None:
        """The core asks once."""
        self.reading.read()

    @rule()
    def read_all(self) -> None:
        """The core asks until there is nothing."""
        self.reading.read_all()
        for one in self.containers.values():
            one.files_unread = 0

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1]))
    def time_passes(self, seconds: float) -> None:
        """Enough or not for what is held."""
        self.reading.clock.seconds += seconds

    @rule()
    def crash(self) -> None:
        """Between two chunks."""
        self.reading.crash()

    @rule()
    def crash_with_a_chunk_in_hand(self) -> None:
        """Before it was kept."""
        self.reading.source.read(0)
        self.reading.crash()

    @rule()
    def a_chunk_cannot_be_kept(self) -> None:
        """The core begins anew from what is kept."""
        self.reading.source.read(0)
        self.reading.source.resume(dict(self.reading.positions))
        self.reading.source.reconcile(self.reading.targets)

    def read_and_release(self) -> None:
        """All, and what is held too."""
        self.read_all()
        self.reading.clock.seconds += 2
        self.read_all()

    @invariant()
    def nothing_twice_and_nothing_out_of_order(self) -> None:
        """At any time."""
        for one in self.containers.values():
            for stream in STREAMS:
                got = self.lines_of(one, stream)
                assert got == one.lines[stream][: len(got)], (one.name, stream)

    def lines_of(self, one: Container, stream: str) -> list[str]:
        """What came, with joined lines taken apart again."""
        found = []
        for body in self.reading.bodies(one.name, stream):
            found += body.split("\n")
        return found

    def teardown(self) -> None:
        """In the end, all of it."""
        try:
            for one in self.containers.values():
                self.end_half(one)
                self.end_lines(one)
            self.read_and_release()
            for one in self.containers.values():
                for stream in STREAMS:
                    assert self.lines_of(one, stream) == one.lines[stream]
        finally:
            self.reading.close()
            for one in self.containers.values():
                one.writer.close()
            shutil.rmtree(self.folder)


TestNode = Node.TestCase
TestNode.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
