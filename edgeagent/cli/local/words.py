"""Words of ``edgeagent``'s command line that several commands take."""

import argparse
from typing import Any, TypeAlias

Commands: TypeAlias = Any
"""Where commands' parsers are put: what ``add_subparsers`` of argparse gives, which has no public name."""
KINDS = {
    **dict.fromkeys(("pods", "pod", "po"), "pods"),
    **dict.fromkeys(("events", "event", "ev"), "events"),
    **dict.fromkeys(("nodes", "node", "no"), "nodes"),
}
"""What may be asked for, by all its names."""


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """``-n``."""
    parser.add_argument(
        "-n", "--namespace", default="default", metavar="NAME", help="the namespace (default: %(default)s)"
    )


def count(text: str) -> int:
    """A whole number; raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError("expected a whole number")
    return int(text)


def new_command(
    commands: Commands, name: str, *, summary: str, examples: str = ""
) -> argparse.ArgumentParser:
    """The parser of a command, with its help and its examples."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made
