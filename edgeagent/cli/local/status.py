"""``edgeagent status``: connection, generation and conditions of the running agent."""

import argparse
import sys
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, new_command

if TYPE_CHECKING:
    from edgeagent.cli.localclient import StaticSummary

_EXAMPLES = """\
  edgeagent status                             is it connected, what is in force
  edgeagent status -o json                     the same and more, for a program"""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    status = new_command(
        commands, "status", summary="show connection, generation and conditions", examples=_EXAMPLES
    )
    status.add_argument("-o", "--output", choices=("text", "json"), default="text")
    status.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.localclient import Summary, get
    from edgeagent.cli.output import escape, format_json

    body = get(socket_of(arguments), "/edge/v1/status")
    if arguments.output == "json":
        sys.stdout.write(format_json(msgspec.json.decode(body)))
        return 0
    found = msgspec.json.decode(body, type=Summary)
    print(f"Node:        {found.node} ({f'cluster {found.cluster}' if found.enrolled else 'not enrolled'})")
    if found.enrolled:
        connected = (
            f"yes, to {found.broker}" if found.connected else "no" + _because(escape(found.last_error))
        )
        print(f"Connected:   {connected}")
        print(f"Generation:  {found.generation or 'none yet'}")
        print(f"Outbox:      {found.outbox} waiting")
    if found.log_sinks:
        print(f"Logs:        {found.logs_waiting} waiting")
    for sink in found.log_sinks:
        print(f"  {sink.name}: {sink.delivered} delivered{_because(escape(sink.problem))}")
    if found.metrics_exporters:
        print(f"Metrics:     {found.metrics_waiting} gatherings waiting")
    for exporter in found.metrics_exporters:
        print(f"  {exporter.name}: {exporter.delivered} series delivered{_because(escape(exporter.problem))}")
    if found.static_pods is not None:
        _print_static(found.static_pods)
    print("Conditions:")
    for condition in found.status.conditions:
        print(
            f"  {condition.type:<22}{condition.status:<9}{condition.reason}"
            + (f": {escape(condition.message)}" if condition.message else "")
        )
    return 0


def _print_static(static: "StaticSummary") -> None:
    from edgeagent.cli.output import escape

    print(f"Static:      {static.objects or 'no'} objects in {static.path}")
    for path, problem in sorted(static.problems.items()):
        print(f"  {escape(path)}: {escape(problem)}")


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
