"""``edgeagent top``: what this node and its containers use, live at a terminal, or once."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import config_of, socket_of
from edgeagent.cli.local.words import Commands, new_command

if TYPE_CHECKING:
    from edgeagent.cli.topscreen import Disk, Picture, SortBy

REFRESH_SECONDS = 2.0

_EXAMPLES = """\
  edgeagent top                                live, the most CPU first; q ends it, s sorts by memory
  edgeagent top --once --sort-by memory        once
  edgeagent top --output json                  once, for a program

CPU in thousandths of a core, over two seconds; memory is the working set, what cannot be taken back without
harm. The disk is the file system of the agent's state. Measured while you look, and not otherwise."""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    top = new_command(
        commands, "top", summary="show what this node and its containers use", examples=_EXAMPLES
    )
    top.add_argument("--once", action="store_true", help="print it once; so it is without a terminal, too")
    top.add_argument(
        "--sort-by", choices=("cpu", "memory"), default="cpu", help="the most first (default: cpu)"
    )
    top.add_argument("-o", "--output", choices=("table", "json"), default="table",
                     help="how to print; json once (default: table)")  # fmt: skip
    top.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import os

    from edgeagent.cli.output import format_json
    from edgeagent.cli.terminal import Terminal
    from edgeagent.cli.topscreen import plain

    socket, sort_by = socket_of(arguments), arguments.sort_by
    state = config_of(arguments).state_dir
    if arguments.output == "json":
        sys.stdout.write(format_json(look(socket, state).metrics))
        return 0
    live = Terminal.is_there(0) and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if arguments.once or not live:
        sys.stdout.writelines(f"{line}\n" for line in plain(look(socket, state), sort_by))
        return 0
    return _live(socket, state, sort_by)


def look(socket: Path, state: Path) -> "Picture":
    """Ask the agent, which measures for up to a second. Raises LocalError."""
    import time

    from edgeagent.api.objects.node import Node
    from edgeagent.api.objects.pod import Pod
    from edgeagent.cli.localclient import fetch
    from edgeagent.cli.localmetrics import measure
    from edgeagent.cli.topscreen import Picture

    metrics = measure(socket)
    [node] = [one for one in fetch(socket, "nodes") if isinstance(one, Node)]
    return Picture(
        node=node,
        metrics=metrics,
        pods=[one for one in fetch(socket, "pods") if isinstance(one, Pod)],
        disk=_disk(state),
        now=time.time(),
    )


def _disk(path: Path) -> "Disk | None":
    """The file system of ``path``; None where it does not answer."""
    import os

    from edgeagent.cli.topscreen import Disk

    try:
        found = os.statvfs(path)
    except OSError:
        return None
    size, free = found.f_blocks * found.f_frsize, found.f_bfree * found.f_frsize
    return Disk(path=str(path), used=size - free, size=size)


def _live(socket: Path, state: Path, sort_by: "SortBy") -> int:
    from edgeagent.cli.ending import run_to_end
    from edgeagent.cli.topping import Top

    return run_to_end(Top(lambda: look(socket, state), sort_by, refresh=REFRESH_SECONDS).run())
