"""Following a log: over rotations, from any place, without a line lost or repeated."""

import os
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.node.pods import logs
from edgeagent.node.pods.logs import LogError, read_log
from edgeagent.node.streams import logcursor
from edgeagent.node.streams.logcursor import LogCursor

Entry = tuple[str, bytes]
TEXT = st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))
ENTRIES = st.lists(st.tuples(st.sampled_from("FFP"), TEXT), max_size=20)


def record(number: int, entry: Entry) -> bytes:
    """One record; ``number`` is its time in seconds since 2026."""
    tag, text = entry
    return b"2026-01-01T00:%02d:%02d.000000001Z stdout %b %b\n" % (
        number // 60,
        number % 60,
        tag.encode(),
        text,
    )


def plain(entries: list[Entry]) -> bytes:
    """What a person reads."""
    return b"".join(text + (b"" if tag == "P" else b"\n") for tag, text in entries)


def everything(cursor: LogCursor) -> bytes:
    text = b""
    while data := cursor.read(50):
        text += data
    return text


class Writer:
    """A log as a runtime writes it, and rotated as the agent does it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.file = path.open("ab", buffering=0)

    def write(self, entry: Entry) -> None:
        """One record more."""
        self.file.write(record(self.count, entry))
        self.count += 1

    def rename(self) -> None:
        """The first half of a rotation: the runtime still writes to the renamed file."""
        numbers = [int(one.name.rpartition(".")[2]) for one in self.path.parent.glob(f"{self.path.name}.*")]
        for number in sorted(numbers, reverse=True):
            os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.replace(self.path, f"{self.path}.1")

    def reopen(self) -> None:
        """The second half."""
        self.file.close()
        self.file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """Give the file back."""
        self.file.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(["write", "write", "read", "rotate", "rename", "reopen"]), max_size=40),
    data=st.data(),
)
def test_every_line_comes_once_whenever_the_log_is_rotated(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], data: st.DataObject
) -> None:
    written: list[Entry] = []
    came = b""
    renamed = False
    with (
        closing(Writer(tmp_path_factory.mktemp("log") / "ctr.log")) as writer,
        closing(LogCursor(writer.path, tail_lines=None, since=0, timestamps=False)) as cursor,
    ):
        for step in [*steps, "reopen"]:
            if step == "write":
                entry = data.draw(st.tuples(st.sampled_from("FFP"), TEXT))
                writer.write(entry)
                written.append(entry)
            elif step == "read":
                came += cursor.read(data.draw(st.sampled_from([1, 40, 1000])))
            elif step == "rename" and not renamed:
                writer.rename()
                renamed = True
            elif step == "reopen" and renamed:
                writer.reopen()
                renamed = False
            elif step == "rotate" and not renamed:
                writer.rename()
                writer.reopen()
        came += everything(cursor)
    assert came == plain(written)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=ENTRIES,
    rotations=st.sets(st.integers(0, 20), max_size=3),
    tail=st.none() | st.integers(0, 6),
    since=st.just(0) | st.integers(0, 20),
    block=st.sampled_from([1, 7, 64, 65536]),
    timestamps=st.booleans(),
)
def test_it_begins_where_the_one_that_reads_from_the_end_does(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[Entry],
    rotations: set[int],
    tail: int | None,
    since: int,
    block: int,
    timestamps: bool,
) -> None:
    entries = [(tag, text or b"x") for tag, text in entries]
    writer = Writer(tmp_path_factory.mktemp("log") / "ctr.log")
    for number, entry in enumerate(entries):
        if number in rotations:
            writer.rename()
            writer.reopen()
        writer.write(entry)
    writer.close()
    begin = 1767225600.0 + since if since else 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "BLOCK", block)
        patch.setattr(logcursor, "BLOCK", block)
        cursor = LogCursor(writer.path, tail_lines=tail, since=begin, timestamps=timestamps)
        came = everything(cursor)
        cursor.close()
        expected = read_log(writer.path, tail_lines=tail, timestamps=timestamps, limit=10**6, since=begin)
    assert came == expected.text


def test_a_line_that_is_being_written_comes_whole(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    whole = record(0, ("F", b"hello world"))
    path.write_bytes(whole[:40])
    cursor = LogCursor(path, tail_lines=0, since=0, timestamps=False)
    assert cursor.read() == b""  # from here on
    with path.open("ab") as file:
        file.write(whole[40:])
    assert cursor.read() == b"hello world\n"
    cursor.close()


def test_files_that_are_gone_leave_a_gap_and_no_error(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "ctr.log")
    writer.write(("F", b"1"))
    cursor = LogCursor(writer.path, tail_lines=None, since=0, timestamps=False)
    assert cursor.read() == b"1\n"
    for text in (b"2", b"3", b"4", b"5"):
        writer.rename()
        writer.reopen()
        writer.write(("F", text))
    for number in (3, 4):
        (tmp_path / f"ctr.log.{number}").unlink()
    assert everything(cursor) == b"3\n4\n5\n"
    writer.close()
    cursor.close()


def test_what_is_written_while_a_rotation_is_being_found_out_is_not_lost(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "ctr.log")
    late = iter([True])

    class Late(LogCursor):
        def _successor(self) -> int | None:
            if next(late, False):
                writer.write(("F", b"to the file that was renamed"))
                writer.rename()
                writer.reopen()
                writer.write(("F", b"to the next"))
            return super()._successor()

    writer.write(("F", b"first"))
    cursor = Late(writer.path, tail_lines=None, since=0, timestamps=False)
    assert everything(cursor) == b"first\nto the file that was renamed\nto the next\n"
    cursor.close()
    writer.close()


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "ctr.log")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        writer.write(("F", b"x"))
        writer.rename()
        writer.reopen()
    cursor = LogCursor(writer.path, tail_lines=1, since=0, timestamps=False)
    assert everything(cursor) == b"x\n"
    assert cursor.read() == b""
    cursor.close()
    for path in (tmp_path / "none" / "ctr.log", tmp_path / "none.log"):
        with pytest.raises(LogError):
            LogCursor(path, tail_lines=None, since=0, timestamps=False).read()
    assert len(os.listdir("/proc/self/fd")) == before
    writer.close()


@pytest.mark.parametrize(
    ("since", "tail", "expected"),
    [(0, None, b"0\n1\n2\n3\n"), (2, None, b"2\n3\n"), (2.5, None, b"3\n"), (1, 2, b"2\n3\n"), (3, 3, b"3\n"),
     (9, None, b"")],
)  # fmt: skip
def test_nothing_older_than_was_asked_for(
    tmp_path: Path, since: float, tail: int | None, expected: bytes
) -> None:
    writer = Writer(tmp_path / "ctr.log")
    for number in range(4):
        writer.write(("F", b"%d" % number))
        if number == 1:
            writer.rename()
            writer.reopen()
    writer.close()
    begin = 1767225600.0 + since if since else 0.0
    cursor = LogCursor(writer.path, tail_lines=tail, since=begin, timestamps=False)
    assert everything(cursor) == expected
    cursor.close()
    found = read_log(writer.path, tail_lines=tail, timestamps=False, limit=1000, since=begin)
    assert found.text == expected


@pytest.mark.parametrize("behind", [[], [("F", b"after"), ("F", b"more")]])
def test_a_hole_that_a_power_cut_left_is_passed_over_with_little_memory(
    tmp_path: Path, behind: list[Entry]
) -> None:
    """File systems leave zeros where data was not written yet; what is before them is not looked for."""
    path = tmp_path / "0.log"
    writer = Writer(path)
    with closing(writer):
        for _ in range(3):
            writer.write(("F", b"before"))
        os.truncate(path, 8_000_000)
        writer.file.seek(0, os.SEEK_END)
        if behind:
            writer.file.write(b"\n")
        for entry in behind:
            writer.write(entry)
        tracemalloc.start()
        try:
            with closing(LogCursor(path, tail_lines=10, since=0, timestamps=False)) as cursor:
                found = cursor.read()
                peak = tracemalloc.get_traced_memory()[1]
                assert found == plain(behind or 3 * [("F", b"before")])
        finally:
            tracemalloc.stop()
    assert peak < 1_000_000
