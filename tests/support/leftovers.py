"""What an agent holds on a node, and what of it is still there after all pods are gone."""

import contextlib
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.cluster import containers
from tests.support.podman import PodmanService

LANE = "edgeagent.node.plugins.lane_worker"
"""In the command line of a lane's child, which comes with a call and goes some time after the last one."""
_LANE_DESCRIPTORS = ("socket:", "anon_inode:[pidfd]")
"""What the agent holds of each such child."""
_NUMBER = re.compile(r"\[\d+\]$")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there at one time.

    ``containers``, ``mounts`` (a folder with two mounts over each other counts twice) and ``files`` by what
    names them; ``descriptors`` by what they point to, without inode numbers; ``children`` by command line,
    children of children included; ``rows`` by table.
    """

    containers: Counter[str]
    mounts: Counter[str]
    files: Counter[str]
    descriptors: Counter[str]
    children: Counter[str]
    rows: Counter[str]
    threads: int


def snapshot(
    agent_pid: int, podman: PodmanService, *, folders: Sequence[Path] = (), database: Path | None = None
) -> Snapshot:
    """Look at the agent with this process id, and at what it made.

    ``folders`` are those below which mounts and files are looked for (they need not exist); ``database`` is
    the agent's, which is only read.
    """
    return Snapshot(
        containers=Counter(f"{seen.pod}/{seen.container} {seen.id[:12]}" for seen in containers(podman)),
        mounts=Counter(mounts_below(*folders, pid=agent_pid)),
        files=Counter(files_below(*folders)),
        descriptors=Counter(descriptors(agent_pid)),
        children=Counter(children(agent_pid)),
        rows=Counter(rows(database) if database is not None else {}),
        threads=len(os.listdir(f"/proc/{agent_pid}/task")),
    )


def leftovers(
    before: Snapshot, after: Snapshot, *, tables: Collection[str] | None = None, spare_threads: int = 0
) -> list[str]:
    """One line for each thing that is there ``after`` and was not ``before``; empty where nothing is left.

    ``tables`` are those whose rows count (None for all). ``spare_threads`` are allowed beyond those that
    there were: a pool makes its threads when they are first used, and keeps them. Children of lanes, and what
    is held of them, count on neither side.
    """
    found: list[str] = []
    before, after = _without_lanes(before), _without_lanes(after)
    for name in ("containers", "mounts", "files", "descriptors", "children", "rows"):
        new: Counter[str] = getattr(after, name) - getattr(before, name)
        found += [
            f"{name}: {what}" + (f" ({count} more)" if count > 1 or name == "rows" else "")
            for what, count in sorted(new.items())
            if name != "rows" or tables is None or what in tables
        ]
    if after.threads > before.threads + spare_threads:
        found.append(f"threads: {after.threads}, and there were {before.threads}")
    return found


def _without_lanes(seen: Snapshot) -> Snapshot:
    lanes = Counter({command: count for command, count in seen.children.items() if LANE in command})
    held = Counter(dict.fromkeys(_LANE_DESCRIPTORS, lanes.total()))
    return replace(seen, children=seen.children - lanes, descriptors=seen.descriptors - held)


def assert_nothing_left(
    before: Snapshot, after: Snapshot, *, tables: Collection[str] | None = None, spare_threads: int = 0
) -> None:
    """Fail with the list of ``leftovers`` unless it is empty."""
    left = leftovers(before, after, tables=tables, spare_threads=spare_threads)
    assert not left, "left behind:\n" + "\n".join(left)


def mounts_below(*folders: Path, pid: int | None = None) -> list[str]:
    """The mount points at or below the folders, as the process (None: this one) sees them."""
    table = Path(f"/proc/{pid or 'self'}/mountinfo").read_text().splitlines()
    points = (_ESCAPED.sub(lambda code: chr(int(code[1], 8)), line.split()[4]) for line in table)
    return [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]


def files_below(*folders: Path) -> Iterator[str]:
    """The paths of all files and folders below the folders; links are not followed."""
    for folder in folders:
        for top, below, files in os.walk(folder):
            yield from (os.path.join(top, name) for name in (*below, *files))


def descriptors(pid: int) -> Iterator[str]:
    """What each open file descriptor points to: a path, or a kind such as ``socket:`` or ``anon_inode:``."""
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield _NUMBER.sub("", os.readlink(f"/proc/{pid}/fd/{entry}"))


def children(pid: int) -> Iterator[str]:
    """The command lines of all processes below this one."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    yield Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                yield from children(int(child))


def rows(database: Path) -> Mapping[str, int]:
    """How many rows each table of an SQLite file has, while somebody else may be writing to it."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as opened:
        tables = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: opened.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608 - its own names
            for table in tables
        }
