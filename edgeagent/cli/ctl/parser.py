"""The command line of ``edgectl``: commands, options, help.

It names the commands but does not know them, so that help and usage errors come at once.
"""

import argparse
from typing import Any, NoReturn

from edgeagent.cli.arguments import (
    parse_addresses,
    parse_boolean,
    parse_count,
    parse_duration,
    parse_grace,
    parse_rows,
    parse_selector,
)
from edgeagent.cli.ctl.examples import EXAMPLES
from edgeagent.cli.intermixed import IntermixedParser
from edgeagent.cli.networkwords import add_arguments
from edgeagent.cli.resources import RESOURCES
from edgeagent.cli.streamwords import add_event_options, add_exec_arguments, add_log_options

DEFAULT_CONFIG = "~/.config/edgeagent/operator.json"
OUTPUTS = ("table", "wide", "json", "yaml", "name")
"""What ``get -o`` takes: `edgeagent.cli.output.FORMATS`, which is not imported for the sake of help alone."""

_KINDS_HELP = ", ".join("|".join((*one.short, one.singular, one.plural)) for one in RESOURCES)


class _Parser(argparse.ArgumentParser):
    """Usage errors as kubectl reports them: one line, where to find help, exit code 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and end with 1."""
        from edgeagent.cli.output import escape  # not for help

        self.exit(1, f"error: {escape(message)}\nSee '{self.prog} --help' for usage.\n")


class _CommandParser(IntermixedParser, _Parser):
    """A command's own part of the line."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="edgectl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Controls pods on edge nodes, over MQTT, in the manner of kubectl.",
        epilog=EXAMPLES["edgectl"] + "\n\nenvironment:\n"
        "  EDGECTL_CONFIG   the operator file, where --config does not name it\n"
        "  NO_COLOR         no colours\n\n"
        "'edgectl COMMAND --help' shows a command's own options and examples.",
    )
    _global_options(parser, default=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_CommandParser)
    shared = _CommandParser(add_help=False)
    _global_options(shared, default=argparse.SUPPRESS)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=EXAMPLES.get(name),
            parents=[shared],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    apply = command("apply", "create or change objects from files")
    _file_options(apply, required=True)
    apply.add_argument(
        "--dry-run",
        choices=("none", "server", "client"),
        default="none",
        help="check only: 'client' without asking the hub, 'server' at the hub",
    )

    get = command("get", "show objects")
    _target_argument(get, "*")
    _selection_options(get)
    get.add_argument("-o", "--output", choices=OUTPUTS, default="table", help="how to print (default: table)")
    get.add_argument("-w", "--watch", action="store_true", help="go on printing changes until interrupted")
    get.add_argument("--no-headers", action="store_true", help="leave the headings out")
    add_event_options(get)

    describe = command("describe", "tell all about an object, and what happened to it")
    _target_argument(describe, "*")
    _selection_options(describe)

    delete = command("delete", "delete objects by name, label or file, and wait until they are gone")
    _target_argument(delete, "*")
    _selection_options(delete)
    _file_options(delete, required=False)
    delete.add_argument("--all", action="store_true", help="all objects of the kind in the namespace")
    delete.add_argument("--wait", type=parse_boolean, default=True, metavar="true|false",
                        help="wait until the objects are gone (default: true)")  # fmt: skip
    delete.add_argument("--timeout", type=parse_duration, default=0.0, metavar="DURATION",
                        help="how long to wait, as 30s or 5m (default: 0, for ever)")  # fmt: skip
    delete.add_argument(
        "--grace-period",
        type=parse_grace,
        default=None,
        metavar="SECONDS",
        help="kept with the Pod at the hub; its node goes by terminationGracePeriodSeconds",
    )
    delete.add_argument(
        "--now", action="store_const", dest="grace_period", const=1, help="the same as --grace-period 1"
    )
    delete.add_argument(
        "--force", action="store_true", help="forget the object without hearing from its node"
    )
    delete.add_argument("--ignore-not-found", action="store_true", help="an absent object is no error")

    events = command("events", "show what happened, and how often")
    events.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    events.add_argument(
        "-o", "--output", choices=OUTPUTS, default="table", help="how to print (default: table)"
    )
    events.add_argument("-w", "--watch", action="store_true", help="go on printing what happens")
    events.add_argument("--no-headers", action="store_true", help="leave the headings out")
    add_event_options(events)

    logs = command("logs", "print the log of a container, or of several")
    logs.add_argument("pod", metavar="POD", nargs="?", help="the pod's name, or pod/NAME")
    logs.add_argument("container", metavar="CONTAINER", nargs="?", help="its container, where it has several")
    logs.add_argument("-c", "--container", dest="container_flag", metavar="CONTAINER", help="the same")
    logs.add_argument("-l", "--selector", type=parse_selector, default=None, metavar="K=V[,K=V…]",
                      help="of all pods with these labels (and --tail 10)")  # fmt: skip
    add_log_options(logs)
    logs.add_argument("--max-log-requests", type=parse_count, default=5, metavar="N",
                      help="how many pods may be followed at a time (default: 5)")  # fmt: skip

    add_exec_arguments(command("exec", "run a command in a container"))

    forward = command("port-forward", "have local ports lead to ports of a pod")
    forward.add_argument(
        "target", metavar="POD | service/NAME", help="the pod, or a Service that it is behind"
    )
    forward.add_argument("ports", metavar="[LOCAL:]REMOTE", nargs="+",
                         help="a port of the pod, by number or name; LOCAL is the same where it is left"
                         " out, and any that is free where nothing is before the colon")  # fmt: skip
    forward.add_argument("--address", type=parse_addresses, default=["localhost"], metavar="ADDRESS[,…]",
                         help="where to listen (default: localhost)")  # fmt: skip

    top = command("top", "show what nodes or pods use of CPU and memory")
    top.add_argument("what", choices=("node", "nodes", "no", "pod", "pods", "po"), metavar="node | pod",
                     help="nodes, or pods")  # fmt: skip
    top.add_argument("name", metavar="NAME", nargs="?", default="", help="this one alone")
    _selection_options(top)
    top.add_argument(
        "--sort-by", choices=("cpu", "memory"), default=None, help="the most first (default: by name)"
    )
    top.add_argument("--containers", action="store_true", help="of pods: each container by itself")
    top.add_argument("--no-headers", action="store_true", help="leave the headings out")
    top.add_argument("-o", "--output", choices=("table", "json"), default="table",
                     help="how to print (default: table)")  # fmt: skip

    network = command(
        "network", "show a node's Services, policies, peers, drops and firewall, or trace a connection"
    )
    network.add_argument("node", metavar="NODE", help="the node's name")
    add_arguments(network)

    audit = command("audit", "show which operator asked a node, or the hub, for what")
    audit.add_argument("node", metavar="NODE", nargs="?", help="the node's name (default: the hub's own log)")
    audit.add_argument("--tail", type=parse_rows, default=100, metavar="N", help="how many (default: 100)")
    audit.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )

    reboot = command("reboot", "restart a node's machine")
    reboot.add_argument("node", metavar="NODE", help="the node's name")

    version = command("version", "print edgectl's version")
    version.add_argument("-o", "--output", choices=("json", "yaml"), default=None, help="how to print")

    completion = command("completion", "print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def _global_options(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    timeout = 10.0 if default is None else default
    parser.add_argument(
        "-n", "--namespace", default=default, metavar="NAME", help="the namespace (default: default)"
    )
    parser.add_argument("--config", default=default, metavar="FILE",
                        help=f"the operator file (default: $EDGECTL_CONFIG or {DEFAULT_CONFIG})")  # fmt: skip
    parser.add_argument("--request-timeout", type=parse_duration, default=timeout, metavar="DURATION",
                        help="for connecting, and for each answer (default: 10s; 0: for ever)")  # fmt: skip


def _file_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("-f", "--filename", action="append", required=required, default=None, metavar="FILE",
                        help="a file, a directory, or - for standard input; may be repeated")  # fmt: skip
    parser.add_argument("-R", "--recursive", action="store_true", help="the directories in a directory, too")


def _target_argument(parser: argparse.ArgumentParser, count: str) -> None:
    parser.add_argument("target", metavar="KIND [NAME …] | KIND/NAME", nargs=count, help=_KINDS_HELP)


def _selection_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    parser.add_argument("-l", "--selector", type=parse_selector, default=None, metavar="K=V[,K=V…]",
                        help="only objects with these labels")  # fmt: skip
