"""``edgeagent get``: pods, events or this node, as ``edgectl get`` prints them."""

import argparse
import sys
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import KINDS, Commands, add_namespace, new_command

if TYPE_CHECKING:
    from edgeagent.api.objects.decode import KubernetesObject

_EXAMPLES = """\
  edgeagent get pods -A                        what runs on this node
  edgeagent get pod web -o yaml                one of them, whole
  edgeagent get events                         what happened lately
  edgeagent get node -o wide                   this node"""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    get = new_command(commands, "get", summary="show pods, events or this node", examples=_EXAMPLES)
    get.add_argument("kind", choices=tuple(KINDS), metavar="KIND", help="pods, events or nodes")
    get.add_argument("name", nargs="?", default="")
    add_namespace(get)
    get.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    get.add_argument("-o", "--output", choices=("table", "wide", "json", "yaml", "name"), default="table",
                     help="how to print (default: table)")  # fmt: skip
    get.add_argument("--no-headers", action="store_true", help="leave the headings out")
    get.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import time

    from edgeagent.cli.localclient import fetch
    from edgeagent.cli.output import print_objects, wants_colour

    kind = KINDS[arguments.kind]
    everywhere = kind == "nodes" or (arguments.all_namespaces and not arguments.name)
    found: list[KubernetesObject] = fetch(
        socket_of(arguments), kind, "" if everywhere else arguments.namespace, arguments.name
    )
    if not found and arguments.output in ("table", "wide"):
        where = "" if arguments.all_namespaces else f" in {arguments.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
        return 0
    print_objects(
        found,
        out=sys.stdout,
        now=time.time(),
        output=arguments.output,
        single=bool(arguments.name),
        headers=not arguments.no_headers,
        with_namespace=arguments.all_namespaces,
        colour=wants_colour(sys.stdout),
    )
    return 0
