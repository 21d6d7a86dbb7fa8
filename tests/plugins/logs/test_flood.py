"""A container that writes as fast as the disk takes it, beside one that says a line now and then."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent_logs.config import LogsConfig
from edgeagent_logs.source import NodeLogs
from tests.plugins.logs.logkit import NO_JOURNAL, LogWriter, target

BYTES_A_SECOND = 50_000_000
FILE_BYTES = 10 << 20
FLOOD_SECONDS = 6.0

FLOOD = """
import os, sys, time
path, rate, file_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begun, written, size = time.monotonic(), 0, 0
out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    now = time.time_ns()
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    stamp = f"{second}.{now % 10**9:09d}+00:00 stdout F ".encode()
    block = b"".join(stamp + b"flood %d " % n + b"x" * 150 + b"\\n" for n in range(40))
    size += os.write(out, block)
    written += len(block)
    if size > file_bytes:
        for number in (3, 2, 1):
            older = path + (f".{number - 1}" if number > 1 else "")
            if os.path.exists(older):
                os.replace(older, f"{path}.{number}")
        os.close(out)
        out, size = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0
    ahead = written / rate - (time.monotonic() - begun)
    if ahead > 0.005:
        time.sleep(ahead)
"""


@pytest.fixture
def flood(tmp_path: Path) -> Iterator[Path]:
    """A program that writes to a log as the runtime would, and rotates it; never more than four files."""
    path = tmp_path / "mad" / "ctr.log"
    path.parent.mkdir()
    child = subprocess.Popen([sys.executable, "-c", FLOOD, str(path), str(BYTES_A_SECOND), str(FILE_BYTES)])
    yield path
    child.kill()
    child.wait()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_delays_no_other_line_and_costs_little(flood: Path, tmp_path: Path) -> None:
    """Its own lines within the rate come, the rest is told of; memory stays; others are a second late."""
    source = NodeLogs(LogsConfig(journal=NO_JOURNAL))
    calm = LogWriter(tmp_path / "calm" / "ctr.log")
    source.resume({})
    source.reconcile([target(flood, "mad"), target(calm.path, "calm")])
    delays: list[float] = []
    bodies: list[str] = []
    stop = threading.Event()
    cpu: list[float] = []
    grown: list[int] = []

    def read() -> None:
        before, begun = resident_bytes(), time.thread_time()
        while not stop.is_set():
            chunk = source.read(1.0)
            now = time.time()
            for record in chunk.batch.records:
                if chunk.batch.origins[record.origin].container == "calm":
                    delays.append(now - float(record.body))
                else:
                    bodies.append(record.body[:40])
            grown.append(resident_bytes() - before)
        cpu.append(time.thread_time() - begun)

    reader = threading.Thread(target=read)
    reader.start()
    begun = time.monotonic()
    said = 0
    while time.monotonic() - begun < FLOOD_SECONDS:
        calm.write(b"%f" % time.time())
        said += 1
        stop.wait(0.2)
    deadline = time.monotonic() + 20
    while len(delays) < said and time.monotonic() < deadline:
        stop.wait(0.05)
    stop.set()
    reader.join()
    source.close()
    calm.close()
    assert len(delays) == said
    # The median is what the source does; the largest is also what else the machine does meanwhile.
    assert sorted(delays)[len(delays) // 2] < 1.0
    assert max(delays) < 3.0
    assert max(grown) < 10_000_000
    assert any(body.startswith("[") and "bytes, about" in body for body in bodies)
    assert len(bodies) > 1000
    assert cpu[0] < 0.5 * (time.monotonic() - begun)
