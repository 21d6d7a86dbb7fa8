"""Reading logs from their end: as if read from the beginning, and bounded whatever they hold."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeagent.node.pods import logs
from edgeagent.node.pods.logs import LogError, read_log

TIME = b"2026-01-01T00:00:00.000000001Z"
Entry = tuple[str, bytes]


def file_of(entries: list[Entry]) -> bytes:
    """A log as a runtime writes it."""
    return b"".join(b"%b stdout %b %b\n" % (TIME, tag.encode(), text) for tag, text in entries)


def forwards(entries: list[Entry], tail: int | None) -> bytes:
    """What a simple reader makes of it: pieces joined, then the last lines."""
    text = b"".join(text + (b"" if tag == "P" else b"\n") for tag, text in entries)
    lines = text.splitlines(keepends=True) if b"\r" not in text else _lines(text)
    return b"".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])


def _lines(text: bytes) -> list[bytes]:
    pieces = text.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines


TEXT = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(st.sampled_from("FFP"), TEXT), max_size=30),
    tail=st.none() | st.integers(0, 8),
    block=st.sampled_from([1, 7, 64, 65536]),
)
@example(entries=[("F", b"a"), ("P", b"b")], tail=1, block=64)
@example(entries=[("P", b""), ("F", b"")], tail=1, block=64)
@example(entries=[("F", b"a"), ("P", b"")], tail=1, block=64)
def test_backwards_is_as_forwards(tmp_path: Path, entries: list[Entry], tail: int | None, block: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(file_of(entries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "BLOCK", block)
        result = read_log(path, tail_lines=tail, timestamps=False, limit=1_000_000)
    assert result.text == forwards(entries, tail)
    assert not result.truncated


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(st.sampled_from("FFP"), TEXT), max_size=20),
    tail=st.none() | st.integers(0, 8),
    limit=st.integers(0, 200),
)
def test_a_limit_keeps_the_end(tmp_path: Path, entries: list[Entry], tail: int | None, limit: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(file_of(entries))
    result = read_log(path, tail_lines=tail, timestamps=False, limit=limit)
    whole = forwards(entries, tail)
    assert len(result.text) <= limit
    assert whole.endswith(result.text)
    assert result.truncated == (len(result.text) < len(whole))


def test_a_line_larger_than_the_limit_gives_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(file_of([("F", b"before"), ("F", b"x" * 5000 + b"end")]))
    result = read_log(path, tail_lines=1, timestamps=False, limit=1000)
    assert (len(result.text), result.text[-6:], result.truncated) == (1000, b"xxend\n", True)


def test_time_stamps_are_one_a_line(tmp_path: Path) -> None:
    """A line that the runtime wrote in parts begins once."""
    path = tmp_path / "log"
    path.write_bytes(file_of([("F", b"one"), ("P", b"tw"), ("P", b""), ("F", b"o")]))
    result = read_log(path, tail_lines=None, timestamps=True, limit=1000)
    assert result.text == b"%b one\n%b two\n" % (TIME, TIME)
    assert read_log(path, tail_lines=1, timestamps=True, limit=1000).text == TIME + b" two\n"


def test_what_is_being_written_is_shown_as_far_as_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(file_of([("F", b"one"), ("F", b"two")])[:-1])
    assert read_log(path, tail_lines=None, timestamps=False, limit=1000).text == b"one\ntwo\n"
    path.write_bytes(file_of([("F", b"one"), ("P", b"prompt> ")]))
    assert read_log(path, tail_lines=None, timestamps=False, limit=1000).text == b"one\nprompt> "


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=2000), tail=st.none() | st.integers(0, 5), stamps=st.booleans())
def test_noise_does_no_harm(tmp_path: Path, noise: bytes, tail: int | None, stamps: bool) -> None:
    path = tmp_path / "log"
    path.write_bytes(noise)
    result = read_log(path, tail_lines=tail, timestamps=stamps, limit=500)
    assert len(result.text) <= 500


def test_a_huge_line_and_a_huge_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(random.Random(1).randbytes(100_000).replace(b"\n", b"") * 200)
    result = read_log(path, tail_lines=10, timestamps=False, limit=100_000)
    assert len(result.text) <= 100_000
    assert result.truncated
    with path.open("wb") as file:
        file.write(file_of([("F", b"")] * 500_000))
    result = read_log(path, tail_lines=None, timestamps=False, limit=1_000_000)
    assert set(result.text) == {ord("\n")}
    assert result.truncated, "the beginning was not looked at"


def write_rotated(path: Path, files: list[list[Entry]]) -> None:
    """The oldest first; the last is the current one."""
    for number, entries in enumerate(reversed(files)):
        (path.with_name(f"{path.name}.{number}") if number else path).write_bytes(file_of(entries))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.lists(st.tuples(st.sampled_from("FFP"), TEXT), max_size=6), min_size=1, max_size=5),
    tail=st.none() | st.integers(0, 8),
    limit=st.integers(0, 300),
    gap=st.integers(1, 6),
)
@example(files=[[("P", b"a")], [], [("F", b"b")]], tail=1, limit=100, gap=6)
def test_rotated_files_are_as_one(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Entry]], tail: int | None, limit: int, gap: int
) -> None:
    """Also where a line began before a rotation, and where a crash left a number out."""
    path = tmp_path_factory.mktemp("logs") / "ctr.log"
    write_rotated(path, files)
    for number in range(len(files) - 1, gap - 1, -1):
        path.with_name(f"ctr.log.{number}").rename(path.with_name(f"ctr.log.{number + 1}"))
    result = read_log(path, tail_lines=tail, timestamps=False, limit=limit)
    whole = forwards([entry for entries in files for entry in entries], tail)
    assert whole.endswith(result.text)
    assert len(result.text) == min(limit, len(whole))
    assert result.truncated == (limit < len(whole))


def test_the_bound_holds_for_all_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    write_rotated(path, [[("F", b"x" * 100)] * 10 for _ in range(5)])
    size = path.stat().st_size
    for room, lines in ((5 * size, 50), (2 * size, 20), (2 * size - 1, 19), (size // 2, 4)):
        monkeypatch.setattr(logs, "MAX_SCAN_BYTES", room)
        result = read_log(path, tail_lines=None, timestamps=False, limit=1_000_000)
        assert (len(result.text), result.truncated) == (101 * lines, lines < 50)


def test_other_files_beside_the_log_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(file_of([("F", b"mine")]))
    for name in (
        "ctr.log.old",
        "ctr.log.",
        "ctr.log.-1",
        "ctr.log.\u0661x",
        "xctr.log.1",
        "ctr.log.99999999999",
    ):
        (tmp_path / name).write_bytes(file_of([("F", b"other")]))
    assert read_log(path, tail_lines=None, timestamps=False, limit=1000).text == b"mine\n"


def test_a_log_that_has_just_been_renamed(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.with_name("ctr.log.1").write_bytes(file_of([("F", b"one")]))
    assert read_log(path, tail_lines=None, timestamps=False, limit=1000).text == b"one\n"


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError) as absent:
        read_log(tmp_path / "absent", tail_lines=None, timestamps=False, limit=10)
    assert absent.value.reason == "NotFound"
    with pytest.raises(LogError) as folder:
        read_log(tmp_path, tail_lines=None, timestamps=False, limit=10)
    assert folder.value.reason == "InternalError"
    (tmp_path / "empty").touch()
    assert read_log(tmp_path / "empty", tail_lines=None, timestamps=False, limit=10).text == b""
