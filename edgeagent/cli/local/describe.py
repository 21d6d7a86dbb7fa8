"""``edgeagent describe``: all about a pod or this node, and what happened to it, without a network."""

import argparse
import sys

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import KINDS, Commands, add_namespace, new_command

_EXAMPLES = """\
  edgeagent describe pod web
  edgeagent describe pod/web -n shop
  edgeagent describe node                      this node, with its pods
  edgeagent describe pods -A                   all of them"""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    describe = new_command(
        commands, "describe", summary="tell all about a pod or this node, and what happened to it",
        examples=_EXAMPLES,
    )  # fmt: skip
    describe.add_argument("kind", metavar="KIND | KIND/NAME", help="pod or node")
    describe.add_argument("name", nargs="?", default="")
    add_namespace(describe)
    describe.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    describe.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import time

    from edgeagent.api.errors import PermanentError
    from edgeagent.api.objects.event import Event
    from edgeagent.api.objects.pod import Pod
    from edgeagent.cli.describe import describe, events_of
    from edgeagent.cli.localclient import fetch

    word, slash, inline = arguments.kind.partition("/")
    kind, name = KINDS.get(word, ""), inline or arguments.name
    if kind not in ("pods", "nodes"):
        raise PermanentError(f"{word!r} cannot be described here: give pod/NAME or node")
    if slash and (not inline or arguments.name):
        raise PermanentError("give KIND NAME or KIND/NAME")
    if name and arguments.all_namespaces:
        raise PermanentError("a pod cannot be named across all namespaces: give -n NAMESPACE")
    socket = socket_of(arguments)
    everywhere = kind == "nodes" or arguments.all_namespaces
    found = fetch(socket, kind, "" if everywhere else arguments.namespace, name)
    events = [event for event in fetch(socket, "events") if isinstance(event, Event)]
    pods = [pod for pod in fetch(socket, "pods") if isinstance(pod, Pod)] if kind == "nodes" else []
    pages = [describe(item, events=events_of(item, events), pods=pods, now=time.time()) for item in found]
    if not pages:
        where = "" if everywhere else f" in {arguments.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
    sys.stdout.write("\n\n".join(pages))
    return 0
