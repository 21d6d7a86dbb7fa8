"""The words of ``exec``, ``logs`` and ``events`` for both programs; help needs nothing else of them."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.arguments import parse_about, parse_duration, parse_tail, parse_time, parse_types

if TYPE_CHECKING:
    from edgeagent.cli.executing import Sitting


def add_exec_arguments(parser: argparse.ArgumentParser) -> None:
    """What runs where: the pod, and what it gets of this terminal. The command follows ``--``."""
    parser.set_defaults(takes_command=True)
    parser.usage = "%(prog)s POD [-it] [-c CONTAINER] [-n NAME] -- COMMAND [ARGUMENT …]"
    parser.add_argument("pod", metavar="POD", help="the pod's name, or pod/NAME")
    parser.add_argument("before_dashes", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("-c", "--container", default="", metavar="CONTAINER",
                        help="its container (default: the only one)")  # fmt: skip
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input to the command")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal; with -i")


def missing_command(options: argparse.Namespace) -> str:
    """What is to be said where no command follows ``--``, or a part of it stands before; else empty."""
    words = [*options.before_dashes, *options.inner]
    if options.inner and not options.before_dashes:
        return ""
    what = "put the command" if words else "you must specify at least one command"
    return f"{what} for the container after --, as in: exec {options.pod} -- {' '.join(words) or 'ls'}"


def sitting_of(options: argparse.Namespace) -> "Sitting":
    """Standard input and output for the command, as ``-i`` and ``-t`` say."""
    import sys

    from edgeagent.cli.executing import sit_down

    return sit_down(
        stdin=options.stdin, tty=options.tty, warn=lambda text: print(text, file=sys.stderr, flush=True)
    )


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Which part of which log, and how it is printed."""
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on printing what is written, until ^C"
    )
    parser.add_argument("-p", "--previous", action="store_true", help="of the run before this one")
    parser.add_argument(
        "--tail", type=parse_tail, default=None, metavar="N", help="the last N lines (default: -1, all)"
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--since", type=parse_duration, default=None, metavar="DURATION",
                      help="what is younger than this, as 30s, 5m or 2h")  # fmt: skip
    when.add_argument("--since-time", type=parse_time, default=None, metavar="TIME",
                      help="what is younger than this, as 2026-01-31T08:00:00Z")  # fmt: skip
    parser.add_argument("--timestamps", action="store_true", help="put its time before each line")
    parser.add_argument("--all-containers", action="store_true", help="of every container of the pod")
    parser.add_argument("--prefix", action="store_true", help="put pod and container before each line")


def tail_of(options: argparse.Namespace, usual: int | None = None) -> int | None:
    """How many of the last lines, None for all; ``usual`` where nothing is said."""
    if options.tail is None:
        return usual
    return None if options.tail < 0 else int(options.tail)


def since_of(options: argparse.Namespace) -> tuple[float, float]:
    """From when on: in seconds since the epoch, and in seconds before the node's own now; 0 for neither."""
    return options.since_time or 0, options.since or 0


def add_event_options(parser: argparse.ArgumentParser) -> None:
    """Which events."""
    parser.add_argument("--for", dest="about", type=parse_about, default=None, metavar="KIND/NAME",
                        help="only those about this object, as pod/web")  # fmt: skip
    parser.add_argument("--types", type=parse_types, default=None, metavar="TYPE[,TYPE]",
                        help="only Warning or only Normal ones")  # fmt: skip
