"""``edgehub node``: add, list, revoke and remove nodes."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.revocation import Enforcement


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Put them into ``edgehub``'s command line. ``common`` has ``--dir``."""
    node = commands.add_parser("node", help="add, list, revoke and remove nodes")
    node_commands = node.add_subparsers(required=True, metavar="COMMAND")
    add = node_commands.add_parser(
        "add",
        parents=[common],
        help="make a node a member and write its join file, for a device without a network",
        epilog="example:\n  edgehub node add gateway-1 --output - | ssh gateway-1 'cat > node.join'\n\n"
        "The join file holds the node's private keys: whoever has it is the node. With a network, a token\n"
        "is better, for the device then makes its keys itself: see `edgehub token create --help`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("name", metavar="NAME", help="letters, digits and '-'")
    add.add_argument(
        "--output", metavar="FILE", help="the join file (default: NAME.join.json; '-' for standard output)"
    )
    add.add_argument(
        "--replace", action="store_true", help="give a node that exists new keys; its old ones are revoked"
    )
    add.set_defaults(command=_add)
    listing = node_commands.add_parser("list", parents=[common], help="list the nodes")
    _add_output(listing)
    listing.set_defaults(command=_list)
    revoke = node_commands.add_parser(
        "revoke",
        parents=[common],
        help="let a node in no more, at once: for a device that was stolen or is not to be trusted",
        epilog="example:\n  edgehub node revoke gateway-1\n\n"
        "The hub ignores it, the broker refuses its certificate and ends its session. Its pods go on\n"
        "running on the device, which nobody reaches any more. The name stays taken: another device\n"
        "gets it with `edgehub token create --replace --name gateway-1`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    revoke.set_defaults(command=_end, remove=False)
    remove = node_commands.add_parser(
        "remove",
        parents=[common],
        help="revoke a node and free its name: for a device that is gone for good",
        epilog="example:\n  edgehub node remove gateway-1\n\n"
        "Pods that name it stay, and run again should a node of that name come; `edgectl delete`\n"
        "removes them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    remove.set_defaults(command=_end, remove=True)
    for ending in (revoke, remove):
        ending.add_argument("name", metavar="NAME")
        _add_output(ending, "text")


def _add_output(parser: argparse.ArgumentParser, people: str = "table") -> None:
    parser.add_argument(
        "-o", "--output", choices=(people, "json"), default=people, help="(default: %(default)s)"
    )


def _files(options: argparse.Namespace) -> "HubFiles":
    from edgeagent.cluster.layout import HubFiles

    return HubFiles(Path(options.dir).absolute())


def _add(options: argparse.Namespace) -> int:
    import asyncio

    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import enforce
    from edgeagent.cluster.nodes import add_node, encode_join

    output = Path(options.output or f"{options.name}.join.json")
    to_terminal = options.output == "-"
    clock = SystemClock()
    join = add_node(
        _files(options),
        options.name,
        clock,
        output=None if to_terminal else output,
        replace=options.replace,
    )
    if to_terminal:
        sys.stdout.write(encode_join(join).decode())
        sys.stdout.flush()
    else:
        print(f"node {options.name} added; its join file is {output}")
        print(
            f"  on the device:  edgeagent enroll --join-file {output.name}\n"
            "  then delete the file: it holds the node's private keys"
        )
    enforcement = asyncio.run(enforce(_files(options), clock))
    if enforcement is not None and enforcement.problem:
        print(f"warning: {enforcement.problem}", file=sys.stderr)
    return 0


def _list(options: argparse.Namespace) -> int:
    from edgeagent.cluster.nodes import list_nodes

    nodes = list_nodes(_files(options))
    if options.output == "json":
        import json

        rows = [
            {
                "name": n.name,
                "state": n.state,
                "created": n.created,
                "certificateSerial": n.serial,
                "generation": n.generation,
            }
            for n in nodes
        ]
        print(json.dumps(rows, indent=2))
    elif not nodes:
        print("no nodes yet: `edgehub token create` lets a device become one", file=sys.stderr)
    else:
        width = max(len("NAME"), *(len(n.name) for n in nodes))
        print(f"{'NAME':<{width}}  {'STATE':<8}  {'CREATED':<20}  GENERATION")
        for n in nodes:
            print(f"{n.name:<{width}}  {n.state:<8}  {n.created:<20}  {n.generation}")
    return 0


def _end(options: argparse.Namespace) -> int:
    import asyncio

    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import end_node

    done = asyncio.run(end_node(_files(options), options.name, SystemClock(), remove=options.remove))
    return show_end(options.name, "removed" if options.remove else "revoked", done, options.output)


def show_end(name: str, what: str, done: "Enforcement", output: str) -> int:
    """Say how far a revocation is in force; the exit code."""
    if output == "json":
        import json

        print(
            json.dumps(
                {"name": name, "state": what, "brokerRefuses": done.refuses, "problem": done.problem},
                indent=2,
            )
        )
    else:
        print(f"node {name} {what}: the hub ignores it from now on")
        if done.refuses:
            print("  the broker refuses its certificate, and its session has ended")
        print("  its pods go on running on the device")
    if done.problem:
        print(f"warning: not all of it is in force yet: {done.problem}", file=sys.stderr)
    return 0 if done.refuses and not done.problem else 1
