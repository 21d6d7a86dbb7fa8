"""The journal by ``journalctl``: a program that behaves as it does, for the real one needs systemd."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.logs import LogBatch, LogChunk, LogOrigin, LogRecord
from edgeagent_logs.config import JournalConfig, LogsConfig
from edgeagent_logs.journal import Child, start_program
from edgeagent_logs.source import NodeLogs
from tests.plugins.logs.logkit import Hand

CONFIG = LogsConfig(gather_seconds=0, journal=JournalConfig(agent="edgeagent.service", units=["ssh.service"]))

JOURNALCTL = """
import json, sys, time
arguments = sys.argv[1:]
folder = {folder!r}
with open(folder + "/calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
after = arguments[arguments.index("--after-cursor") + 1] if "--after-cursor" in arguments else ""
with open(folder + "/journal", "rb") as journal:
    while True:
        line = journal.readline()
        if not line:
            break
        try:
            if json.loads(line)["__CURSOR"] <= after:
                continue
        except (ValueError, KeyError):
            pass
        sys.stdout.buffer.write(line)
sys.stdout.flush()
if {ends!r}:
    sys.exit("No journal files were found.")
sys.stdin = None
time.sleep(600)
"""


def entry(number: int, message: object, **more: object) -> str:
    """A line of ``journalctl --output json``."""
    fields = {
        "__CURSOR": f"c{number:03}",
        "__REALTIME_TIMESTAMP": str(1_714_564_800_000_000 + number),
        "_SYSTEMD_UNIT": "ssh.service",
        "PRIORITY": "4",
        "_PID": "77",
        "MESSAGE": message,
        **more,
    }
    return json.dumps(fields) + "\n"


class Ahead(Hand):
    """The machine's clock, put forward by hand."""

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic() + self.seconds


class Machine:
    """A folder with a journal, and sources that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Ahead()
        self.sources: list[NodeLogs] = []
        self.children: list[Child] = []

    def source(self, cursor: str = "", *, ends: bool = False, config: LogsConfig = CONFIG) -> NodeLogs:
        """A source that goes on after ``cursor``."""

        def start(argv: Sequence[str]) -> Child:
            program = JOURNALCTL.format(folder=str(self.folder), ends=ends)
            child = start_program([sys.executable, "-c", program, *argv[1:]])
            self.children.append(child)
            return child

        made = NodeLogs(config, clock=self.clock, start=start)
        made.resume({"journal": cursor} if cursor else {})
        self.sources.append(made)
        return made

    def write(self, *entries: str) -> None:
        """Add to the journal."""
        with (self.folder / "journal").open("a") as journal:
            journal.writelines(entries)

    def calls(self) -> list[list[str]]:
        """How journalctl was called."""
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for source in made.sources:
        source.close()


def read_until(source: NodeLogs, count: int) -> LogChunk:
    """Read chunks until there are so many records; all of it as one, in which each record has its origin."""
    origins: list[LogOrigin] = []
    records: list[LogRecord] = []
    positions: dict[str, str] = {}
    while len(records) < count:
        chunk = source.read(20)
        assert chunk.batch.records, "nothing more came"
        positions |= chunk.positions
        for record in chunk.batch.records:
            records.append(msgspec.structs.replace(record, origin=len(origins)))
            origins.append(chunk.batch.origins[record.origin])
    assert len(records) == count
    return LogChunk(batch=LogBatch(origins=origins, records=records), positions=positions)


def test_messages_of_units_with_their_fields(machine: Machine) -> None:
    machine.write(
        entry(1, "accepted a key"),
        entry(2, "Started ssh.", _SYSTEMD_UNIT="init.scope", UNIT="ssh.service", PRIORITY="6"),
        entry(3, [0xFF, 0x41]),
        entry(4, ["first", "second"]),
        entry(5, None),
        "no json\n",
        '{"no":"cursor"}\n',
        entry(6, "x" * 70_000),
        entry(7, "the agent's", _SYSTEMD_UNIT="edgeagent.service", PRIORITY="9"),
    )
    chunk = read_until(machine.source(), 6)
    first, second, third, fourth, sixth, last = chunk.batch.records
    origins = [chunk.batch.origins[one.origin].unit for one in chunk.batch.records]
    assert origins == ["ssh.service"] * 5 + ["edgeagent.service"]
    assert (first.time, first.stream, first.body, first.severity) == (
        1_714_564_800_000_001_000,
        "journal",
        "accepted a key",
        "warn",
    )
    assert json.loads(first.fields) == {"_PID": "77"}
    assert (second.body, second.severity) == ("Started ssh.", "info")
    assert (third.body, fourth.body) == ("\ufffdA", "second")
    assert sixth.body == "x" * 65536 + "… [cut]"
    assert last.severity == ""
    assert chunk.positions == {"journal": "c007"}
    (call,) = machine.calls()
    assert call[-4:] == ["--unit", "edgeagent.service", "--unit", "ssh.service"]
    assert "--boot" in call


def test_it_goes_on_after_the_cursor_that_was_kept(machine: Machine) -> None:
    machine.write(*(entry(number, f"m{number}") for number in range(5)))
    chunk = read_until(machine.source("c002"), 2)
    assert [one.body for one in chunk.batch.records] == ["m3", "m4"]
    assert machine.calls()[0][-6:-4] == ["--after-cursor", "c002"]


def test_a_child_that_dies_is_started_again_after_the_last_entry(machine: Machine) -> None:
    machine.write(entry(1, "one"))
    source = machine.source()
    read_until(source, 1)
    machine.children[0].kill()
    assert source.read(0.5).batch.records == []
    machine.write(entry(2, "two"))
    machine.clock.seconds += 6
    assert [one.body for one in read_until(source, 1).batch.records] == ["two"]
    assert len(machine.children) == 2


def test_a_machine_without_a_journal_is_told_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.write()
    source = machine.source(ends=True)
    for _ in range(4):
        machine.clock.seconds += 700
        source.read(0)
        machine.children[-1].wait(20)
        source.read(0)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["the journal is not read at the moment: No journal files were found."]
    assert len(machine.children) > 1


def test_without_journalctl_the_rest_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def start(argv: Sequence[str]) -> Child:
        return start_program([str(tmp_path / "journalctl"), *argv[1:]])

    source = NodeLogs(CONFIG, clock=Hand(), start=start)
    source.resume({})
    assert source.read(0) == LogChunk()
    assert "journalctl cannot be started: No such file or directory" in caplog.text
    source.close()


def test_no_unit_no_child(machine: Machine) -> None:
    source = machine.source(config=LogsConfig(journal=JournalConfig(agent="")))
    source.read(0)
    assert machine.children == []


def test_an_entry_that_is_too_large_is_passed_over(machine: Machine) -> None:
    machine.write(entry(1, "y" * 3_000_000), entry(2, "small"))
    chunk = read_until(machine.source(), 1)
    assert chunk.batch.records[0].body == "small"


def test_the_real_journalctl_knows_these_arguments(tmp_path: Path) -> None:
    """On a journal that is not there: what is refused would be the arguments."""
    seen: list[Sequence[str]] = []

    def start(argv: Sequence[str]) -> Child:
        seen.append(argv)
        raise FileNotFoundError(2, "No such file or directory")

    source = NodeLogs(CONFIG, clock=Hand(), start=start)
    source.resume({"journal": "s=1"})
    source.read(0)
    source.close()
    argv = [word for word in seen[0] if word not in ("--follow",)]
    cursor = argv.index("--after-cursor")
    argv = [*argv[:cursor], *argv[cursor + 2 :], "--directory", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ})
    assert "unrecognized" not in done.stderr
    assert "invalid" not in done.stderr.lower()


def test_a_journalctl_that_complains_at_length_is_still_read(machine: Machine) -> None:
    """More than a pipe holds: whoever did not read it would wait for a program that waits itself."""
    machine.write(entry(1, "after the complaints"))
    complaints = "import sys\nsys.stderr.write('Journal file corrupted, ignoring.\\n' * 10_000)\n"

    def start(argv: Sequence[str]) -> Child:
        program = complaints + JOURNALCTL.format(folder=str(machine.folder), ends=False)
        return start_program([sys.executable, "-c", program, *argv[1:]])

    source = NodeLogs(CONFIG, clock=machine.clock, start=start)
    machine.sources.append(source)
    source.resume({})
    assert read_until(source, 1).batch.records[0].body == "after the complaints"
