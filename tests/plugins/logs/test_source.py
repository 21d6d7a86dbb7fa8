"""The source on real files: what is written is handed out, whatever becomes of the files."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgeagent_logs.config import LogsConfig, RateConfig
from edgeagent_logs.source import NodeLogs
from tests.plugins.logs.logkit import BEGIN, LogWriter, Reading, target


@pytest.fixture
def reading() -> Iterator[Reading]:
    made = Reading()
    yield made
    made.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LogWriter]:
    made = LogWriter(tmp_path / "c1" / "ctr.log")
    yield made
    made.close()


def test_lines_have_their_time_stream_and_origin(reading: Reading, writer: LogWriter) -> None:
    writer.write(b"hello")
    writer.write(b"there", stream="stderr")
    reading.follow(target(writer.path, labels={"app": "web"}))
    chunk = reading.read()
    assert [(one.time, one.stream, one.body) for one in chunk.batch.records] == [
        (BEGIN * 10**9 + 1000, "stdout", "hello"),
        (BEGIN * 10**9 + 2000, "stderr", "there"),
    ]
    (origin,) = chunk.batch.origins
    assert (origin.pod, origin.container, origin.labels) == ("pod-c1", "c1", {"app": "web"})


def test_parts_of_a_line_are_joined_on_each_stream(reading: Reading, writer: LogWriter) -> None:
    writer.write(b"one ", tag="P")
    writer.write(b"err ", tag="P", stream="stderr")
    writer.write(b"two")
    writer.write(b"ends", stream="stderr")
    reading.follow(target(writer.path))
    assert reading.read_all() == ["one two", "err ends"]


def test_a_part_without_an_end_is_handed_out_in_the_end(reading: Reading, writer: LogWriter) -> None:
    writer.write(b"name: ", tag="P")
    reading.follow(target(writer.path))
    assert reading.read_all() == []
    reading.clock.seconds += 31
    assert reading.read_all() == ["name: "]


def test_a_line_of_megabytes_is_cut_and_says_so(reading: Reading, writer: LogWriter) -> None:
    for _ in range(300):
        writer.write(b"x" * 8192, tag="P")
    writer.write(b"end")
    writer.write(b"after")
    reading.follow(target(writer.path))
    assert reading.read_all() == ["x" * 65536 + "… [cut]", "after"]


def test_a_line_that_no_runtime_wrote_may_be_endless_too(reading: Reading, writer: LogWriter) -> None:
    writer.raw(b"y" * 3_000_000 + b"\nshort\n")
    reading.follow(target(writer.path))
    assert reading.read_all() == ["y" * 65536 + "… [cut]", "short"]
    reading.crash()
    assert reading.read_all() == []


def test_a_crash_in_the_middle_of_an_endless_line(reading: Reading, writer: LogWriter) -> None:
    writer.raw(b"y" * 300_000)
    reading.follow(target(writer.path))
    assert reading.read_all() == ["y" * 65536 + "… [cut]"]
    reading.crash()
    writer.raw(b"y" * 300_000)
    reading.crash()
    writer.raw(b"z\nnext\n")
    assert reading.read_all() == ["next"]


def test_a_crash_in_the_middle_of_a_cut_line_of_parts(reading: Reading, writer: LogWriter) -> None:
    for _ in range(20):
        writer.write(b"x" * 8192, tag="P")
    reading.follow(target(writer.path))
    assert reading.read_all() == ["x" * 65536 + "… [cut]"]
    reading.crash()
    writer.write(b"x" * 8192, tag="P")
    writer.write(b"other", stream="stderr")
    writer.write(b"end of x")
    writer.write(b"next")
    assert reading.read_all() == ["other", "next"]


def test_binary_junk_becomes_text(reading: Reading, writer: LogWriter) -> None:
    writer.write(bytes(range(256)).replace(b"\n", b""))
    writer.raw(b"\x00\xff\xfe\n\n")
    writer.write(b'{"deep":' + b"[" * 5000 + b"]" * 5000 + b"}")
    writer.write(b'{"deep":' + b"[" * 500 + b"]" * 500 + b"}")
    writer.write(b'{"bad": "\\ud800"}')
    reading.follow(target(writer.path))
    chunk = reading.read()
    assert len(chunk.batch.records) == 6
    assert chunk.batch.records[1].body == "\x00\ufffd\ufffd"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(chunk), type=type(chunk)) == chunk


def test_what_no_runtime_wrote_has_the_time_at_which_it_was_read(reading: Reading, writer: LogWriter) -> None:
    writer.raw(b"plain\n2024-13-45T00:00:00Z stdout F no such day\n")
    reading.follow(target(writer.path))
    first, second = reading.read().batch.records
    assert (first.time, first.stream, first.body) == (BEGIN * 10**9, "stdout", "plain")
    assert (second.time, second.body) == (BEGIN * 10**9, "no such day")


def test_times_in_other_zones(reading: Reading, writer: LogWriter) -> None:
    writer.raw(b"2023-11-14T23:13:20.5+01:00 stdout F later\n2023-11-14T22:13:20Z stdout F\n")
    reading.follow(target(writer.path))
    assert [(one.time, one.body) for one in reading.read().batch.records] == [
        (BEGIN * 10**9 + 500_000_000, "later"),
        (BEGIN * 10**9, ""),
    ]


def test_a_file_that_comes_later_with_its_folders(reading: Reading, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "ctr.log"
    reading.follow(target(path))
    assert reading.read_all() == []
    (tmp_path / "a").mkdir()
    assert reading.read_all() == []
    writer = LogWriter(path)
    writer.write(b"hello")
    assert reading.read_all() == ["hello"]
    writer.write(b"again")
    assert reading.read_all() == ["again"]
    writer.close()


def test_rotation_while_it_is_followed(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1")
    assert reading.read_all() == ["1"]
    writer.write(b"2")
    writer.rotate(reopen=False)
    writer.write(b"3")
    assert reading.read_all() == ["2", "3"]
    writer.write(b"4")
    writer.reopen()
    writer.write(b"5")
    writer.rotate()
    writer.write(b"6")
    assert reading.read_all() == ["4", "5", "6"]


def test_rotation_while_nobody_reads(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1", b"2")
    assert reading.read_all() == ["1", "2"]
    for text in (b"3", b"4", b"5"):
        writer.write(text)
        writer.rotate()
    writer.write(b"6")
    reading.crash()
    assert reading.read_all() == ["3", "4", "5", "6"]


def test_files_that_were_rotated_away_unread_are_lost_and_nothing_is_read_twice(
    reading: Reading, writer: LogWriter
) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1")
    assert reading.read_all() == ["1"]
    for number in range(2, 9):
        writer.write(str(number).encode())
        writer.rotate(keep=3)
    writer.write(b"9")
    reading.crash()
    assert reading.read_all() == ["7", "8", "9"]


@pytest.mark.parametrize("crash", [False, True])
def test_files_that_the_runtime_replaces_by_itself(reading: Reading, writer: LogWriter, crash: bool) -> None:
    """What was rotated before is not read again, although nothing is left of what came between."""
    reading.follow(target(writer.path))
    writer.write(b"1")
    assert reading.read_all() == ["1"]
    writer.rotate()
    os.utime(writer.path.with_name("ctr.log.1"), (BEGIN, BEGIN))
    for number in (2, 3, 4):
        writer.write(b"%d" % number)
        assert reading.read_all() == [str(number)]
        writer.replace()
    writer.write(b"5")
    writer.replace()
    writer.write(b"6")
    if crash:
        reading.crash()
    found = reading.read_all()
    assert found == ["6"]
    writer.write(b"7")
    assert reading.read_all() == ["7"]


def test_a_line_without_an_end_is_a_line_once_its_file_is_done_with(
    reading: Reading, writer: LogWriter
) -> None:
    reading.follow(target(writer.path))
    writer.raw(writer.entry(b"cut by a power failure")[:-1])
    assert reading.read_all() == []
    writer.rotate()
    writer.write(b"next")
    assert reading.read_all() == ["cut by a power failure", "next"]
    writer.raw(b"last words")
    reading.follow()
    assert reading.read_all() == ["last words"]
    assert reading.positions == {}


@pytest.mark.parametrize("crash", [False, True])
def test_truncation(reading: Reading, writer: LogWriter, crash: bool) -> None:
    reading.follow(target(writer.path))
    writer.write(b"0")
    writer.rotate()
    writer.write(b"1", b"2")
    assert reading.read_all() == ["0", "1", "2"]
    writer.truncate()
    if crash:
        reading.crash()
    writer.write(b"3")
    assert reading.read_all() == ["3"]
    writer.truncate()
    writer.write(b"4", b"5", b"6", b"7")  # longer than before
    if crash:
        reading.crash()
    assert reading.read_all() == ["4", "5", "6", "7"]


@pytest.mark.parametrize("crash", [False, True])
def test_what_was_not_read_before_a_truncation_is_read_from_the_copy(
    reading: Reading, writer: LogWriter, crash: bool
) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1")
    assert reading.read_all() == ["1"]
    writer.write(b"2")
    writer.copy_truncate()
    writer.write(b"3")
    if crash:
        reading.crash()
    assert reading.read_all() == ["2", "3"]


def test_a_file_that_lost_its_end_is_read_on_from_there(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path))
    writer.write(*(b"%d" % number for number in range(20)))
    assert len(reading.read_all()) == 20
    os.truncate(writer.path, writer.path.stat().st_size - 50)
    reading.crash()
    assert reading.read_all() == []
    writer.raw(b"\n")
    writer.write(b"after the power came back")
    assert reading.read_all() == ["after the power came back"]


def test_what_was_written_before_the_files_were_removed_is_read(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1")
    assert reading.read_all() == ["1"]
    writer.write(b"2")
    writer.remove()
    reading.follow()
    assert reading.read_all() == ["2"]
    assert reading.positions == {}


def test_a_folder_that_was_removed_and_made_anew(reading: Reading, tmp_path: Path) -> None:
    path = tmp_path / "a" / "ctr.log"
    path.parent.mkdir()
    reading.follow(target(path))
    assert reading.read_all() == []
    path.parent.rmdir()
    assert reading.read_all() == []
    writer = LogWriter(path)
    assert reading.read_all() == []
    writer.write(b"1")
    assert reading.read_all() == ["1"]
    writer.close()


def test_a_container_that_was_never_told_of_again_is_forgotten(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1")
    reading.read_all()
    assert list(reading.positions) == ["container/c1"]
    reading.targets = []
    reading.crash()
    reading.follow()
    reading.read_all()
    reading.clock.seconds += 61
    reading.read()
    assert reading.positions == {}


def test_labels_that_change_are_those_of_what_comes_after(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path, labels={"v": "1"}))
    writer.write(b"1")
    reading.read_all()
    reading.follow(target(writer.path, labels={"v": "2"}))
    writer.write(b"2")
    chunk = reading.read()
    assert [record.body for record in chunk.batch.records] == ["2"]
    assert chunk.batch.origins[0].labels == {"v": "2"}


def test_a_pod_turns_its_logs_off_and_on(reading: Reading, writer: LogWriter) -> None:
    off = target(writer.path, annotations={"edgeagent.io/logs": "off"})
    reading.follow(off)
    writer.write(b"private")
    assert reading.read_all() == []
    reading.clock.seconds += 61
    reading.read()
    assert reading.positions == {"container/c1": "off"}
    reading.crash()
    reading.follow(off)
    writer.write(b"private too")
    assert reading.read_all() == []
    reading.follow(target(writer.path))
    assert reading.read_all() == []
    writer.write(b"public")
    assert reading.read_all() == ["public"]


def test_new_containers_may_begin_at_the_end(tmp_path: Path) -> None:
    reading = Reading(LogsConfig(gather_seconds=0, new_containers="end"))
    old, new = LogWriter(tmp_path / "old.log"), LogWriter(tmp_path / "new.log")
    old.write(b"before")
    old.raw(b"half a li")
    reading.follow(target(old.path, "old"))
    assert reading.read_all() == []
    old.raw(b"ne\n")
    old.write(b"after")
    new.write(b"its first")
    reading.follow(target(old.path, "old"), target(new.path, "new"))
    assert sorted(reading.read_all()) == ["after", "its first"]
    reading.close()
    old.close()
    new.close()


def test_a_chunk_that_could_not_be_kept_is_read_again(reading: Reading, writer: LogWriter) -> None:
    reading.follow(target(writer.path))
    writer.write(b"1")
    reading.read_all()
    writer.write(b"2")
    lost = reading.source.read(0)
    assert [record.body for record in lost.batch.records] == ["2"]
    reading.source.resume(dict(reading.positions))
    reading.source.reconcile(reading.targets)
    assert reading.read_all() == ["2"]


def test_positions_of_lines_that_rules_left_out_are_kept_seldom(tmp_path: Path) -> None:
    config = msgspec.convert(
        {"gather_seconds": 0.0, "rules": [{"action": "drop", "body": "noise"}]}, LogsConfig
    )
    reading, writer = Reading(config), LogWriter(tmp_path / "ctr.log")
    reading.follow(target(writer.path))
    writer.write(b"noise")
    assert reading.read().positions == {}
    reading.clock.seconds += 59
    assert reading.read().positions == {}
    reading.clock.seconds += 2
    chunk = reading.read()
    assert list(chunk.positions) == ["container/c1"]
    assert [one.dropped for one in reading.kept if one.dropped] == [{"rule": 1}]
    reading.close()
    writer.close()


def test_a_broken_position_begins_anew(reading: Reading, writer: LogWriter) -> None:
    writer.write(b"1")
    reading.positions = {"container/c1": "{broken"}
    reading.targets = [target(writer.path)]
    reading.crash()
    assert reading.read_all() == ["1"]


def test_a_log_that_cannot_be_read_stops_no_other(
    reading: Reading, writer: LogWriter, tmp_path: Path
) -> None:
    (tmp_path / "folder.log").mkdir()
    os.mkfifo(tmp_path / "fifo.log")
    reading.follow(
        target(tmp_path / "folder.log", "c0"), target(tmp_path / "fifo.log", "c2"), target(writer.path)
    )
    writer.write(b"1")
    assert reading.read_all() == ["1"]


def test_read_sleeps_until_something_is_written_or_told(tmp_path: Path) -> None:
    """With the machine's own clock: what wakes it is the kernel."""
    source = NodeLogs(LogsConfig(gather_seconds=0))
    writer = LogWriter(tmp_path / "ctr.log")
    source.resume({})
    got: list[str] = []
    done = threading.Event()

    def read() -> None:
        got.extend(record.body for record in source.read(60).batch.records)
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    source.reconcile([target(writer.path)])
    writer.write(b"hello")
    assert done.wait(20)
    thread.join()
    assert got == ["hello"]
    done.clear()
    thread = threading.Thread(target=read)
    thread.start()
    source.resume({})
    assert done.wait(20)
    thread.join()
    assert got == ["hello"]
    source.close()
    writer.close()


@pytest.mark.parametrize("lines_per_second", [50, 100_000])
def test_what_is_above_the_rate_is_left_out_and_counted(tmp_path: Path, lines_per_second: int) -> None:
    rate = RateConfig(lines_per_second=lines_per_second, bytes_per_second=10_000, burst_seconds=2)
    reading = Reading(LogsConfig(gather_seconds=0, rate=rate))
    mad, calm = LogWriter(tmp_path / "mad.log"), LogWriter(tmp_path / "calm.log")
    reading.follow(target(mad.path, "mad"), target(calm.path, "calm"))
    mad.write(*(b"%d " % number + b"x" * 90 for number in range(20_000)))
    calm.write(b"hello")
    reading.read_all()
    assert reading.bodies("calm") == ["hello"]
    kept = reading.bodies("mad")
    assert len(kept) == min(2 * lines_per_second, 2 * 10_000 // 140) or abs(len(kept) - 142) < 5
    reading.clock.seconds += 6
    (notice,) = reading.read_all()
    size = mad.path.stat().st_size
    left_out = size - sum(len(mad.entry(body.encode())) for body in kept)
    assert notice.startswith(f"[{left_out} bytes, about ")
    mad.time += 2_000_000_000  # two seconds later there is room again
    mad.write(b"later")
    assert reading.read_all() == ["later"]
    reading.close()
    mad.close()
    calm.close()


def test_a_backlog_of_hours_is_no_excess(tmp_path: Path) -> None:
    rate = RateConfig(lines_per_second=10, bytes_per_second=1000, burst_seconds=1)
    reading, writer = Reading(LogsConfig(gather_seconds=0, rate=rate)), LogWriter(tmp_path / "ctr.log")
    for number in range(2000):
        writer.time += 200_000_000
        writer.write(b"%d" % number)
    reading.follow(target(writer.path))
    assert reading.read_all() == [str(number) for number in range(2000)]
    reading.close()
    writer.close()
