"""A node's network for a person: what ``edgeagent network`` and ``edgectl network`` share.

May not know how the node is asked.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from edgeagent.api.errors import EdgeAgentError
from edgeagent.cli.output import PADDING, cell, escape, format_json
from edgeagent.wire.rpc import NetworkParams, NetworkResult


class BadEndsError(EdgeAgentError):
    """What follows ``trace`` does not say from where to where."""


def wanted(options: argparse.Namespace) -> NetworkParams:
    """What the command line asks for; raises BadEndsError."""
    if options.what != "trace":
        if options.ends:
            raise BadEndsError(f"{options.what} takes nothing more: {' '.join(options.ends)}")
        return NetworkParams(what=options.what)
    if len(options.ends) != 2:
        raise BadEndsError("trace takes two words: FROM TO:PORT, such as default/web 10.43.0.10:53")
    source, target = options.ends
    end, colon, port = target.rpartition(":")
    if end.startswith("[") and end.endswith("]"):
        end = end[1:-1]
    elif ":" in end:
        raise BadEndsError(f"{target}: an IPv6 address stands in brackets before its port: [fd43::1]:80")
    if not (colon and end and port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65535):
        raise BadEndsError(f"{target}: TO has a port after it, 1 to 65535: default/site:80")
    return NetworkParams(
        what="trace",
        source=source.removeprefix("[").removesuffix("]"),
        target=end,
        port=int(port),
        protocol=options.protocol,
    )


def show(result: NetworkResult, what: str, output: str) -> None:
    """Print the answer to standard output."""
    if output == "json":
        sys.stdout.write(format_json(result.lines if what == "trace" else result.rows))
    elif what == "trace":
        print("\n".join(map(escape, result.lines)))
    elif result.rows:
        _print_table(result.columns, result.rows)
    else:
        print(f"No {what} found.", file=sys.stderr)
    if result.truncated:
        print("warning: there are more; an answer may not be longer", file=sys.stderr)


def _print_table(headings: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    lines = [
        [escape(heading).upper() for heading in headings],
        *([cell(row.get(heading, "")) for heading in headings] for row in rows),
    ]
    widths = [max(len(line[column]) for line in lines) + PADDING for column in range(len(headings))]
    for line in lines:
        print("".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
