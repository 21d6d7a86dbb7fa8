"""Joining lines: each language's stack traces are one record, and nothing else is."""

from pathlib import Path

import msgspec
import pytest

from edgeagent_logs.config import LogsConfig
from tests.plugins.logs.logkit import NO_JOURNAL, LogWriter, Reading, target

PYTHON = """Traceback (most recent call last):
  File "/app/main.py", line 3, in <module>
    run()
    ~~~^^
  File "/app/main.py", line 2, in run
    1/0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 5, in <module>
    raise KeyboardInterrupt
KeyboardInterrupt"""
PYTHON_GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/app/main.py", line 1, in <module>
  | ExceptionGroup: several (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------"""
JAVA = """Exception in thread "main" java.lang.RuntimeException: failed: code 7
\tat com.example.Main.run(Main.java:12) ~[app.jar:1.0]
\tat java.base/java.lang.Thread.run(Thread.java:833)
\tSuppressed: java.io.IOException: close
\t\tat com.example.Main.close(Main.java:20)
Caused by: java.io.IOException: no such file
\tat com.example.Main.open(Main.java:30)
\t... 2 more"""
DOTNET = """Unhandled exception. System.InvalidOperationException: failed
 ---> System.IO.FileNotFoundException: no file
   at App.Program.Open() in /src/Program.cs:line 7
   --- End of inner exception stack trace ---
   at App.Program.Main(String[] args) in /src/Program.cs:line 3"""
GO = """panic: runtime error: index out of range [5] with length 3 [recovered]
\tpanic: again

goroutine 1 [running]:
main.(*Server).handle(0xc000012345, {0x4b1f20, 0x5})
\t/app/main.go:12 +0x1d
main.main()
\t/app/main.go:5 +0x20
created by main.start in goroutine 1
\t/app/main.go:3 +0x11
exit status 2"""
GO_FATAL = """fatal error: all goroutines are asleep - deadlock!

goroutine 1 [chan receive]:
main.main()
\t/app/main.go:4 +0x25"""
NODE = """TypeError: Cannot read properties of undefined (reading 'x')
    at Object.<anonymous> (/app/index.js:3:11)
    at async Promise.all (index 0)
    at node:internal/main/run_main_module:28:49"""
TRACES = [PYTHON, PYTHON_GROUP, JAVA, DOTNET, GO, GO_FATAL, NODE]


def records(
    folder: Path, text: str, section: dict[str, object] | None = None, stream: str = "stdout"
) -> list[str]:
    """The records that the lines of ``text`` become."""
    config = msgspec.convert({"gather_seconds": 0.0, "journal": {"agent": ""}, **(section or {})}, LogsConfig)
    reading, writer = Reading(config), LogWriter(folder / "ctr.log")
    reading.follow(target(writer.path))
    writer.write(*(line.encode() for line in text.split("\n")), stream=stream)
    found = reading.read_all()
    reading.clock.seconds += 2
    found += reading.read_all()
    reading.close()
    writer.close()
    return found


@pytest.mark.parametrize("trace", TRACES)
def test_a_stack_trace_is_one_record_between_others(tmp_path: Path, trace: str) -> None:
    found = records(tmp_path, f"before\n{trace}\nafter 1\nafter 2")
    assert found == ["before", trace, "after 1", "after 2"]


def test_two_traces_are_two_records(tmp_path: Path) -> None:
    assert records(tmp_path, f"{JAVA}\n{JAVA}\n{PYTHON}\n{NODE}") == [JAVA, JAVA, PYTHON, NODE]


def test_only_the_languages_that_were_chosen(tmp_path: Path) -> None:
    found = records(tmp_path, f"{GO_FATAL}\n{PYTHON}", {"multiline": {"languages": ["python"]}})
    assert found == [*GO_FATAL.split("\n"), PYTHON]


def test_streams_are_never_mixed(tmp_path: Path) -> None:
    reading, writer = Reading(), LogWriter(tmp_path / "ctr.log")
    reading.follow(target(writer.path))
    for line in NODE.split("\n"):
        writer.write(line.encode(), stream="stderr")
        writer.write(b"    at lunch")
    reading.read_all()
    reading.clock.seconds += 2
    reading.read_all()
    assert reading.bodies(stream="stderr") == [NODE]
    assert reading.bodies(stream="stdout") == ["    at lunch"] * 4
    reading.close()
    writer.close()


def test_a_trace_is_ended_by_its_bounds(tmp_path: Path) -> None:
    frames = "\n".join(f"\tat f.g{number}(H.java:1)" for number in range(5))
    found = records(tmp_path, f"java.lang.Error: x\n{frames}", {"multiline": {"max_lines": 3}})
    assert found[0].count("\n") == 2
    assert "\n".join(found) == f"java.lang.Error: x\n{frames}"


def test_a_trace_that_is_larger_than_a_line_may_be_is_in_pieces(tmp_path: Path) -> None:
    frames = "\n".join(f"\tat f.g{number}(H.java:1)" + " " * 50 for number in range(100))
    found = records(tmp_path, f"java.lang.Error: x\n{frames}", {"max_line_bytes": 1024})
    assert all(len(body) <= 1100 for body in found)
    assert "\n".join(found) == f"java.lang.Error: x\n{frames}"


def test_a_trace_is_handed_out_when_its_time_has_come(tmp_path: Path) -> None:
    reading, writer = Reading(), LogWriter(tmp_path / "ctr.log")
    reading.follow(target(writer.path))
    writer.write(b"ValueError: bad")
    assert reading.read_all() == []
    reading.clock.seconds += 0.9
    writer.write(b"    at x")
    assert reading.read_all() == []
    reading.clock.seconds += 0.9
    assert reading.read_all() == []
    reading.clock.seconds += 0.2
    assert reading.read_all() == ["ValueError: bad\n    at x"]
    reading.close()
    writer.close()


def test_records_of_ones_own_kind(tmp_path: Path) -> None:
    patterns = [{"begins": r"^\d{4}-", "container": "c*"}, {"begins": "never", "namespace": "default"}]
    text = "tail of an older one\n2024-01-01 first\n  more\nTraceback (most\n2024-01-02 second"
    assert records(tmp_path, text, {"multiline": {"patterns": patterns}}) == [
        "tail of an older one",
        "2024-01-01 first\n  more\nTraceback (most",
        "2024-01-02 second",
    ]


def test_a_crash_with_a_trace_in_hand_neither_loses_nor_doubles_a_line(tmp_path: Path) -> None:
    reading, writer = (
        Reading(LogsConfig(gather_seconds=0, journal=NO_JOURNAL)),
        LogWriter(tmp_path / "ctr.log"),
    )
    reading.follow(target(writer.path))
    lines = JAVA.split("\n")
    for line in lines[:3]:
        writer.write(line.encode(), stream="stderr")
        writer.write(b"beside it")
    assert reading.read_all() == ["beside it"] * 3
    writer.rotate()
    writer.write(b"in the next file")
    assert reading.read_all() == ["in the next file"]
    reading.crash()
    for line in lines[3:]:
        writer.write(line.encode(), stream="stderr")
    assert reading.read_all() == []
    reading.clock.seconds += 2
    assert reading.read_all() == [JAVA]
    reading.close()
    writer.close()
