"""``edgeagent events``: what happened on this node, how often, and with ``-w`` what happens."""

import argparse
import sys
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, add_namespace, new_command
from edgeagent.cli.streamwords import add_event_options

if TYPE_CHECKING:
    from pathlib import Path

    from edgeagent.api.objects.event import Event

_EXAMPLES = """\
  edgeagent events                             what happened lately, the newest last
  edgeagent events --for pod/web -w            to one pod, and on until ^C
  edgeagent events -A --types Warning          what went wrong, in every namespace

"5m (x3 over 2h)" happened three times in two hours, and five minutes ago the last time. The agent remembers
the last 256 since it began; the hub keeps those of a week."""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    events = new_command(
        commands, "events", summary="show what happened on this node, and how often", examples=_EXAMPLES
    )
    add_namespace(events)
    events.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    events.add_argument("-w", "--watch", action="store_true", help="go on printing what happens")
    events.add_argument("-o", "--output", choices=("table", "wide", "json", "yaml", "name"), default="table",
                        help="how to print (default: table)")  # fmt: skip
    events.add_argument("--no-headers", action="store_true", help="leave the headings out")
    add_event_options(events)
    events.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import time

    from edgeagent.api.objects.event import Event
    from edgeagent.cli.ending import run_to_end
    from edgeagent.cli.localclient import fetch
    from edgeagent.cli.output import print_objects, sort_for_table, wants_colour

    socket, namespace = socket_of(arguments), "" if arguments.all_namespaces else arguments.namespace
    if arguments.watch:
        return run_to_end(_watch(socket, namespace, arguments))
    found = [
        event
        for event in fetch(socket, "events", namespace)
        if isinstance(event, Event) and _is_wanted(event, arguments)
    ]
    if not found and arguments.output in ("table", "wide"):
        where = f" in {namespace} namespace" if namespace else ""
        print(f"No events found{where}.", file=sys.stderr)
        return 0
    print_objects(
        sort_for_table(found),
        out=sys.stdout,
        now=time.time(),
        output=arguments.output,
        headers=not arguments.no_headers,
        with_namespace=arguments.all_namespaces,
        colour=wants_colour(sys.stdout),
        counted=arguments.output == "table",
    )
    return 0


def _is_wanted(event: "Event", arguments: argparse.Namespace) -> bool:
    about = event.involved_object
    return (not arguments.types or event.type in arguments.types) and (
        arguments.about in (None, (about.kind, about.name))
    )


async def _watch(socket: "Path", namespace: str, arguments: argparse.Namespace) -> int:
    """Print those that the agent remembers, then each as it happens, until the agent ends it."""
    from edgeagent.cli.localevents import watched
    from edgeagent.cli.resources import find_resource
    from edgeagent.cli.watchprinter import Printer

    printer = Printer(
        find_resource("events"),
        arguments.output,
        headers=not arguments.no_headers,
        with_namespace=arguments.all_namespaces,
        counted=True,
    )
    async with watched(socket, namespace) as events:
        async for event in events:
            if _is_wanted(event, arguments):
                printer.show([event])
    return 0
