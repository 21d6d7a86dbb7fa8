"""``edgeagent audit``: which operator asked this node for what."""

import argparse

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, count, new_command

_EXAMPLES = """\
  edgeagent audit                              what operators had this node do, and what it refused
  edgeagent audit --tail 20 -o json            the newest rows, for a program

The exit code is 1 where rows of the log were left out or changed."""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    audit = new_command(
        commands, "audit", summary="show which operator asked this node for what", examples=_EXAMPLES
    )
    audit.add_argument("--tail", type=count, default=100, metavar="ROWS", help="how many (default: 100)")
    audit.add_argument("-o", "--output", choices=("table", "json"), default="table")
    audit.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.auditview import show
    from edgeagent.cli.localclient import get
    from edgeagent.wire.audit import AuditResult

    body = get(socket_of(arguments), "/edge/v1/audit", tail=str(arguments.tail))
    result = msgspec.json.decode(body, type=AuditResult)
    show(result, arguments.output)
    return 1 if result.findings else 0
