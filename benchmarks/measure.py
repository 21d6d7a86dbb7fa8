"""Reading what processes cost from /proc, and exact times from Podman."""

import re
import statistics
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.podman import PodmanService

MEGABYTE = 1_000_000
KIBIBYTE = 1024


def memory(pid: int) -> dict[str, float]:
    """``pss``, ``rss`` and ``anonymous`` (private and shared alike) of a process in MB."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * KIBIBYTE / MEGABYTE
    return {"pss": found["Pss"], "rss": found["Rss"], "anonymous": found["Anonymous"]}


def children(pid: int) -> list[int]:
    """The process's children, now."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def name_of(pid: int) -> str:
    """What the kernel calls the process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def cpu_seconds(pid: int) -> float:
    """CPU time of all of a process's threads, by the scheduler's own count (nanosecond resolution)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def written_bytes(pid: int) -> int:
    """Bytes that the process has caused to be sent to storage."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def wire_bytes(pid: int, port: int) -> int:
    """Bytes sent and received so far on the process's TCP connection to ``port``, TLS included."""
    text = subprocess.run(
        ["ss", "-tinpH", "state", "established", f"dport = :{port}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    total = 0
    for entry in re.split(r"\n(?=\S)", text):
        if f"pid={pid}," in entry:
            total += sum(int(number) for number in re.findall(r"bytes_(?:sent|received):(\d+)", entry))
    return total


def probe(code: str, python: str) -> dict[str, float]:
    """Memory of a fresh interpreter after running ``code``."""
    done = subprocess.run(
        [python, "-c", f"{code}\nprint(open('/proc/self/smaps_rollup').read())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = {
        line.partition(":")[0]: int(line.partition(":")[2].split()[0]) * KIBIBYTE / MEGABYTE
        for line in done.stdout.splitlines()[1:]
        if line
    }
    return {"pss": found["Pss"], "anonymous": found["Anonymous"]}


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def agent_containers(podman: PodmanService, *, running: bool = True) -> list[str]:
    """Ids of the containers that an agent made."""
    arguments = ["ps", "--no-trunc", "-q", "--filter", "label=io.edgeagent.pod.uid"]
    return podman.run(*arguments, *(() if running else ("-a",))).stdout.split()
