"""``edgeagent``: run the agent, and the technician's commands on the node itself."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent import __version__
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cli import enrolling
from edgeagent.cli.intermixed import IntermixedParser
from edgeagent.cli.networkwords import add_arguments

if TYPE_CHECKING:
    from edgeagent.api.objects.node import PluginStatus
    from edgeagent.cli.localclient import StaticSummary
    from edgeagent.node.config import AgentConfig

DEFAULT_CONFIG = Path("/etc/edgeagent/config.toml")
MEBIBYTE = 1024 * 1024

_EXAMPLES = """\
examples:
  edgeagent run                                run the agent, for the manifests in /etc/edgeagent/manifests
  edgeagent enroll --token T --cluster plant --broker broker.example.com:8884
                                               become a member of a cluster
  edgeagent enroll --join-file board1.join     the same, without a network
  edgeagent status                             is it connected, what is in force
  edgeagent get pods -A                        what runs on this node
  edgeagent get events                         what happened to it lately
  edgeagent logs web --tail 20                 the last lines of a pod's log
  edgeagent network drops                      what network policies dropped lately
  edgeagent audit                              what operators had this node do
  edgeagent plugins list                       what is loaded, and how it fares

All but enrolling with a token need no network.
"""


_NETWORK_EXAMPLES = """\
examples:
  edgeagent network                            Services, their endpoints, and how often they were used
  edgeagent network policies                   whom they select, and how much they dropped
  edgeagent network peers                      the ways to other nodes
  edgeagent network drops                      the newest packets that policies dropped
  edgeagent network firewall                   the host's firewall, and how much it dropped
  edgeagent network trace default/web default/db:5432
  edgeagent network trace --protocol UDP default/web [fd43::a]:53
"""

_KINDS = {
    **dict.fromkeys(("pods", "pod", "po"), "pods"),
    **dict.fromkeys(("events", "event", "ev"), "events"),
    **dict.fromkeys(("nodes", "node", "no"), "nodes"),
}
"""What may be asked for, by all its names."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except EdgeAgentError as error:
        print(f"edgeagent: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeagent",
        description="Runs pods from desired state, with or without a network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeagent {__version__}")
    parser.add_argument(
        "--config", type=Path, help=f"the configuration file (default: {DEFAULT_CONFIG} where it exists)"
    )
    parser.add_argument(
        "--socket", type=Path, help="the running agent's socket (default: as the configuration says)"
    )
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=IntermixedParser
    )

    run = commands.add_parser("run", help="run the agent in the foreground")
    run.set_defaults(command=_run)

    enrolling.add_command(commands, _config)

    status = commands.add_parser("status", help="connection, generation and conditions")
    status.add_argument("-o", "--output", choices=("text", "json"), default="text")
    status.set_defaults(command=_status)

    get = commands.add_parser("get", help="show pods, events or this node")
    get.add_argument("kind", choices=tuple(_KINDS), metavar="KIND", help="pods, events or nodes")
    get.add_argument("name", nargs="?", default="")
    get.add_argument("-n", "--namespace", default="default")
    get.add_argument("-A", "--all-namespaces", action="store_true")
    get.add_argument("-o", "--output", choices=("table", "wide", "json", "yaml", "name"), default="table")
    get.add_argument("--no-headers", action="store_true")
    get.set_defaults(command=_get)

    logs = commands.add_parser("logs", help="print the log of a container")
    logs.add_argument("pod")
    logs.add_argument("-n", "--namespace", default="default")
    logs.add_argument("-c", "--container", default="")
    logs.add_argument("--tail", type=_count, default=None, metavar="LINES")
    logs.add_argument("-p", "--previous", action="store_true", help="of the run before the present one")
    logs.add_argument("--timestamps", action="store_true")
    logs.set_defaults(command=_logs)

    network = commands.add_parser(
        "network",
        help="show Services, policies, peers, drops and the firewall, or trace a connection",
        epilog=_NETWORK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(network)
    network.set_defaults(command=_network)

    audit = commands.add_parser("audit", help="show which operator asked this node for what")
    audit.add_argument("--tail", type=_count, default=100, metavar="ROWS", help="how many (default: 100)")
    audit.add_argument("-o", "--output", choices=("table", "json"), default="table")
    audit.set_defaults(command=_audit)

    plugins = commands.add_parser("plugins", help="what is loaded")
    actions = plugins.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every plugin with its state, reason, lane load and memory")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    listing.set_defaults(command=_plugins_list)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError("expected a whole number of lines")
    return int(text)


def _config(arguments: argparse.Namespace) -> "AgentConfig":
    from edgeagent.node.config import load_config

    return load_config(arguments.config or DEFAULT_CONFIG, required=arguments.config is not None)


def _socket(arguments: argparse.Namespace) -> Path:
    if arguments.socket is not None:
        return Path(arguments.socket)
    return _config(arguments).run_dir / "api.sock"


def _run(arguments: argparse.Namespace) -> int:
    from edgeagent.cli.runner import run_agent

    return run_agent(_config(arguments))


def _status(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.localclient import Summary, get
    from edgeagent.cli.output import escape, format_json

    body = get(_socket(arguments), "/edge/v1/status")
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


def _get(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.api.objects.decode import decode_object_json
    from edgeagent.cli.localclient import Listing, get
    from edgeagent.cli.output import print_objects, wants_colour

    socket = _socket(arguments)
    kind = _KINDS[arguments.kind]
    everywhere = kind == "nodes" or (arguments.all_namespaces and not arguments.name)
    url = f"/api/v1/{kind}" if everywhere else f"/api/v1/namespaces/{arguments.namespace}/{kind}"
    if arguments.name:
        bodies = [get(socket, f"{url}/{arguments.name}")]
    else:
        bodies = [bytes(item) for item in msgspec.json.decode(get(socket, url), type=Listing).items]
    if not bodies and arguments.output in ("table", "wide"):
        where = "" if arguments.all_namespaces else f" in {arguments.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
        return 0
    print_objects(
        [decode_object_json(body) for body in bodies],
        out=sys.stdout,
        now=time.time(),
        output=arguments.output,
        single=bool(arguments.name),
        headers=not arguments.no_headers,
        with_namespace=arguments.all_namespaces,
        colour=wants_colour(sys.stdout),
    )
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from edgeagent.cli.localclient import get

    query = {"container": arguments.container}
    if arguments.tail is not None:
        query["tailLines"] = str(arguments.tail)
    if arguments.previous:
        query["previous"] = "true"
    if arguments.timestamps:
        query["timestamps"] = "true"
    url = f"/api/v1/namespaces/{arguments.namespace}/pods/{arguments.pod}/log"
    sys.stdout.buffer.write(get(_socket(arguments), url, **query))
    sys.stdout.buffer.flush()
    return 0


def _network(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.localclient import get
    from edgeagent.cli.networkview import show, wanted
    from edgeagent.wire.rpc import NetworkResult

    asked = wanted(arguments)
    query = {}
    if asked.what == "trace":
        query = {
            "from": asked.source,
            "to": asked.target,
            "port": str(asked.port),
            "protocol": asked.protocol,
        }
    body = get(_socket(arguments), f"/edge/v1/network/{asked.what}", **query)
    show(msgspec.json.decode(body, type=NetworkResult), asked.what, arguments.output)
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.auditview import show
    from edgeagent.cli.localclient import get
    from edgeagent.wire.audit import AuditResult

    body = get(_socket(arguments), "/edge/v1/audit", tail=str(arguments.tail))
    result = msgspec.json.decode(body, type=AuditResult)
    show(result, arguments.output)
    return 1 if result.findings else 0


def _plugins_list(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.localclient import LocalError, Summary, get
    from edgeagent.cli.output import format_json

    try:
        found = msgspec.json.decode(get(_socket(arguments), "/edge/v1/status"), type=Summary).status.plugins
    except LocalError as error:
        if error.reason != "NotRunning":
            raise
        found = _discovered(arguments)
        print("the agent is not running: this is what it would load", file=sys.stderr)
    if arguments.output == "json":
        sys.stdout.write(format_json(found))
        return 0
    _print_plugins(found)
    return 0


def _discovered(arguments: argparse.Namespace) -> "list[PluginStatus]":
    """What an agent would load, looked up in this process."""
    import random
    import tempfile

    from edgeagent.api.clock import SystemClock
    from edgeagent.node.plugins.host import PluginHost

    with tempfile.TemporaryDirectory(prefix="edgeagent-plugins-") as folder:
        host = PluginHost(
            _config(arguments).plugins,
            node_name="node",
            cluster="none",
            state_dir=Path(folder),
            run_dir=Path(folder),
            identity_dir=Path(folder),
            clock=SystemClock(),
            random=random.Random(),  # noqa: S311 - jitter, not a secret
            on_change=lambda: None,
        )
        host.load()
        return host.statuses()


def _print_plugins(plugins: "Sequence[PluginStatus]") -> None:
    from edgeagent.cli.output import escape

    rows = [("NAME", "DISTRIBUTION", "VERSION", "STATE", "LANE", "BUSY", "QUEUED", "MEMORY", "REASON")]
    for plugin in plugins:
        rows.append(
            (
                plugin.name,
                plugin.distribution,
                plugin.version,
                plugin.state,
                plugin.lane,
                str(plugin.busy),
                str(plugin.queued),
                f"{plugin.memory_bytes / MEBIBYTE:.1f}Mi",
                escape(plugin.reason),
            )
        )
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    for row in rows:
        print("".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
