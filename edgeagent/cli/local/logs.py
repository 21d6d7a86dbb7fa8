"""``edgeagent logs``: what a container printed, and with ``-f`` what it prints."""

import argparse
import sys

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, add_namespace, count, new_command


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    logs = new_command(commands, "logs", summary="print the log of a container")
    logs.add_argument("pod")
    add_namespace(logs)
    logs.add_argument("-c", "--container", default="")
    logs.add_argument("--tail", type=count, default=None, metavar="LINES")
    logs.add_argument("-p", "--previous", action="store_true", help="of the run before the present one")
    logs.add_argument("--timestamps", action="store_true")
    logs.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edgeagent.cli.localclient import get

    query = {"container": arguments.container}
    if arguments.tail is not None:
        query["tailLines"] = str(arguments.tail)
    if arguments.previous:
        query["previous"] = "true"
    if arguments.timestamps:
        query["timestamps"] = "true"
    url = f"/api/v1/namespaces/{arguments.namespace}/pods/{arguments.pod}/log"
    sys.stdout.buffer.write(get(socket_of(arguments), url, **query))
    sys.stdout.buffer.flush()
    return 0
