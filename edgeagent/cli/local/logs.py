"""``edgeagent logs``: what containers of this node printed, and with ``-f`` what they print."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, add_namespace, new_command
from edgeagent.cli.streamwords import add_log_options, since_of, tail_of

if TYPE_CHECKING:
    from pathlib import Path

    from edgeagent.wire.streamapi import FollowParams

_EXAMPLES = """\
  edgeagent logs web --tail 20                 the last lines
  edgeagent logs -f web --since 10m            of the last ten minutes, and on until ^C
  edgeagent logs -f web --all-containers --prefix
  edgeagent logs web -c main --previous        of the run before this one

With -f it ends with the container."""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    logs = new_command(
        commands, "logs", summary="print the log of a container, or of all of a pod", examples=_EXAMPLES
    )
    logs.add_argument("pod", metavar="POD", help="the pod's name, or pod/NAME")
    add_namespace(logs)
    logs.add_argument("-c", "--container", default="", metavar="CONTAINER", help="its container, of several")
    add_log_options(logs)
    logs.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edgeagent.api.errors import PermanentError
    from edgeagent.cli.ending import run_to_end
    from edgeagent.wire.streamapi import FollowParams

    if arguments.container and arguments.all_containers:
        raise PermanentError("give either --container or --all-containers")
    if arguments.follow and arguments.previous:
        raise PermanentError("give either --follow or --previous: an earlier run has ended")
    since, seconds = since_of(arguments)
    params = FollowParams(
        namespace=arguments.namespace,
        pod=arguments.pod.removeprefix("pod/"),
        container=arguments.container,
        all_containers=arguments.all_containers,
        tail_lines=tail_of(arguments),
        since=since,
        since_seconds=seconds,
        previous=arguments.previous,
        timestamps=arguments.timestamps,
        follow=arguments.follow,
    )
    return run_to_end(_print(socket_of(arguments), params, prefixed=arguments.prefix))


async def _print(socket: "Path", params: "FollowParams", *, prefixed: bool) -> int:
    from edgeagent.cli.console import STDOUT, Output
    from edgeagent.cli.following import print_logs
    from edgeagent.cli.localstreams import open_local_stream
    from edgeagent.cli.output import escape
    from edgeagent.wire.streamapi import FOLLOW

    def prefix(container: str) -> str:
        return f"[pod/{params.pod}/{escape(container)}] " if prefixed else ""

    output = Output(STDOUT)
    async with open_local_stream(socket, FOLLOW, params) as channels:
        await print_logs(channels, output, prefix=prefix, by_line=params.all_containers)
    return 0
